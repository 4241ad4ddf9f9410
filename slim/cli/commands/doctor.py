"""slim doctor"""

from __future__ import annotations

import click

from slim.cli import common


@click.command(name="doctor")
@common.seed_option
@common.json_option
def command(seed: int | None, as_json: bool) -> None:
    """Versions found and needed, and what each missing piece disables; exit 3 when something is missing."""
    from slim.doctor import diagnose
    from slim.errors import ToolMissing

    findings = diagnose()

    def text() -> str:
        lines = []
        for f in findings:
            lines.append(
                f"{'ok ' if f.ok else '-- ' if f.optional else 'NO '} {f.name}: {f.found}"
                + ("" if f.ok else f", needed {f.needed}")
            )
            if not f.ok:
                lines.append(f"    without it: {', '.join(f.disables)}; {f.remedy}")
        return "\n".join(lines)

    common.emit({"findings": [f.to_json() for f in findings]}, as_json, text)
    missing = [f.name for f in findings if not f.ok and not f.optional]
    if missing:
        raise ToolMissing(
            f"{len(missing)} missing or wrong: {', '.join(missing)}", remedy="see the list above"
        )

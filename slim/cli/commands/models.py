"""slim models"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.group(name="models", invoke_without_command=True)
@common.seed_option
@common.json_option
@click.pass_context
def command(context: click.Context, seed: int | None, as_json: bool) -> None:
    """List the models that travel with slim (no network needed)."""
    context.obj = as_json
    if context.invoked_subcommand is not None:
        return
    from slim.report import text_table
    from slim.zoo import MODELS

    rows = [(m.name, m.kind, f"{m.path.stat().st_size:,}", m.config, m.origin) for m in MODELS.values()]
    data = {"models": [_facts(m.name) for m in MODELS.values()]}
    common.emit(data, as_json, lambda: text_table(("name", "kind", "bytes", "config", "origin"), rows))


@command.command(name="show")
@click.argument("name")
@common.seed_option
@common.json_option
@click.pass_obj
def show(above: bool, name: str, seed: int | None, as_json: bool) -> None:
    """Where a bundled model comes from and which file it is."""
    data = _facts(name)
    common.emit(data, as_json or above, lambda: "\n".join(f"{key}: {value}" for key, value in data.items()))


def _facts(name: str) -> dict[str, object]:
    from slim.numerics import file_sha256
    from slim.zoo import find

    model = find(name)
    path = Path(model.path)
    return {
        "name": model.name,
        "kind": model.kind,
        "config": model.config,
        "origin": model.origin,
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
    }

"""slim inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slim.cli import common


@click.command(name="inspect")
@click.argument("nb", type=common.PATH)
@common.json_option
def command(nb: Path, as_json: bool) -> None:
    """Version, target, kernels, bytes by section and type, what stayed float and why.

    \b
    slim inspect model.arm.nb
    """
    from export.nb.format import read_nb
    from export.nb.inspect import describe

    data = describe(read_nb(nb), nb.stat().st_size)
    common.emit(data, as_json, lambda: _text(nb, data))


def _text(nb: Path, data: dict[str, Any]) -> str:
    from slim.report import text_table

    head = f"{nb}: {data['bytes']:,} bytes, opt {data['opt_version']}, target {data['target']}"
    parts = f"topology {data['topology_bytes']:,} bytes, parameters {data['parameter_bytes']:,} bytes"
    counts: dict[tuple[str, str], int] = {}
    for op in data["ops"]:
        key = (str(op["type"]), str(op["precision"]))
        counts[key] = counts.get(key, 0) + 1
    rows = [(kind, precision, str(n)) for (kind, precision), n in sorted(counts.items())]
    return "\n".join([head, parts, "", text_table(("op", "precision", "count"), rows)])

"""slim inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slim.cli import common


@click.command(name="inspect")
@click.argument("nb", type=common.PATH)
@click.option("--plot", type=common.PATH, metavar="OUT.svg", help="Draw the graph, precision by colour.")
@common.seed_option
@common.json_option
def command(nb: Path, plot: Path | None, seed: int | None, as_json: bool) -> None:
    """Version, target, kernels, bytes by section and type, what stayed float and why.

    \b
    slim inspect model.arm.nb --plot graph.svg
    """
    from export.nb.format import read_nb
    from export.nb.inspect import describe

    if plot is not None and plot.suffix.lower() != ".svg":
        raise click.UsageError(f"--plot {plot}: an SVG is drawn, name a file that ends in .svg")
    model = read_nb(nb)
    data = describe(model, nb.stat().st_size)
    if plot is not None:
        from export.nb.plot import draw_svg
        from slim.artifact import write_text

        write_text(plot, draw_svg(model))
    common.emit(data, as_json, lambda: _text(nb, data))


def _text(nb: Path, data: dict[str, Any]) -> str:
    from slim.report import text_table

    kinds = ", ".join(f"{kind} {count:,}" for kind, count in data["bytes_by_dtype"].items())
    head = [
        f"{nb}: {data['bytes']:,} bytes, opt {data['opt_version']}, target {data['target']}",
        f"topology {data['topology_bytes']:,} bytes, parameters {data['parameter_bytes']:,} bytes ({kinds})",
        f"{data['dead_attributes']:,} attributes that no runtime reads; "
        f"slim compact would make it {data['compact_bytes']:,} bytes",
    ]
    if data["macs"]:
        share = 100 * data["int8_share"]
        head.append(f"{data['macs']:,} multiply-adds at {data['input']}, {share:.1f}% of them in int8")
    kernels = [
        (kind, precision, str(count))
        for kind, counts in data["kernels"].items()
        for precision, count in counts.items()
    ]
    table = text_table(("op", "precision", "count"), kernels)
    floats = [f"{f['type']} ({f['count']}) stayed float: {f['why']}" for f in data["stayed_float"]]
    return "\n".join([*head, "", table, *([""] if floats else []), *floats])

"""slim compact"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(name="compact")
@click.argument("source", metavar="IN.nb", type=common.PATH)
@click.argument("dest", metavar="OUT.nb", type=common.PATH)
@click.option("--lstm-weights", type=click.Choice(["int8", "float"]), default="float", show_default=True)
@common.seed_option
@common.json_option
def command(source: Path, dest: Path, lstm_weights: str, seed: int | None, as_json: bool) -> None:
    """Drop what no runtime reads and encode the rest densely; the same model gives the same bytes.

    \b
    slim compact model.arm.nb small.nb --lstm-weights int8
    """
    from slim.pipeline.files import compact_file

    data = compact_file(source, dest, lstm_weights)

    def text() -> str:
        share = 100 * data["after"] / data["before"]
        return f"{dest}: {data['before']:,} -> {data['after']:,} bytes ({share:.1f}%)"

    common.emit(data, as_json, text)

"""slim run-nb"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(name="run-nb")
@click.argument("nb", metavar="FILE.nb", type=common.PATH)
@click.argument("source", metavar="INPUT.npy", type=common.PATH)
@click.argument("dest", metavar="OUTPUT.npy", type=common.PATH)
@common.seed_option
@common.json_option
def command(nb: Path, source: Path, dest: Path, seed: int | None, as_json: bool) -> None:
    """Execute an ARM .nb (float or int8) on this PC; INPUT is float32 N x C x H x W.

    \b
    slim run-nb model.arm.nb input.npy output.npy
    """
    from slim.pipeline.files import run_file

    data = run_file(nb, source, dest)
    common.emit(
        data, as_json, lambda: f"{dest}: {data['shape']} float32, {data['ms_per_image']:.1f} ms per image"
    )

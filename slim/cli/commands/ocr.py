"""slim ocr"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slim.cli import common


@click.command(name="ocr")
@click.argument("image", metavar="IMAGE", type=common.PATH)
@click.option("--det", type=common.PATH, required=True, help="The detector's .nb file.")
@click.option("--cls", type=common.PATH, help="The angle classifier's; default: every line is upright.")
@click.option("--rec", type=common.PATH, required=True, help="The recognizer's.")
@click.option("--out", type=common.PATH, help="Write the picture with the boxes drawn.")
@common.seed_option
@common.json_option
def command(
    image: Path, det: Path, cls: Path | None, rec: Path, out: Path | None, seed: int | None, as_json: bool
) -> None:
    """Find and read the lines of a picture with exported files, as an app would.

    Each file must lie where slim export-nb wrote it. ARM files are executed here, x86 files run in
    Paddle-Lite.

    \b
    slim ocr photo.jpg --det d1/model.arm.nb --cls c1/model.arm.nb --rec r1/model.arm.nb --out boxes.png
    """
    from slim.pipeline.ocr import read_picture

    data = read_picture(image, det=det, rec=rec, cls=cls, out=out, progress=common.reporter())
    common.emit(data, as_json, lambda: "\n".join([*map(_line, enumerate(data["lines"], 1)), _end(data)]))


def _line(numbered: tuple[int, dict[str, Any]]) -> str:
    number, line = numbered
    corner = ",".join(f"{value:.0f}" for value in line["points"][0])
    angle = "" if line["angle"] is None else f"  {line['angle']} ({line['angle_score']:.2f})"
    scores = f"box {line['score']:.2f}{angle}  {line['text_score']:.2f}"
    return f"{number:3}  at {corner}  {scores}  {line['text']}"


def _end(data: dict[str, Any]) -> str:
    where = f", boxes in {data['out']}" if data["out"] else ""
    return f"{data['image']}: {len(data['lines'])} lines in {data['seconds']:.1f} s{where}"

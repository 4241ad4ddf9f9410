"""slim synth"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(name="synth")
@click.option(
    "--task", type=click.Choice(["rec", "cls", "det"]), required=True, help="Lines (rec, cls) or pages."
)
@click.option("--out", type=common.PATH, required=True, help="Folder of the data set.")
@click.option(
    "--train", type=click.IntRange(0), default=3200, show_default=True, help="How many to train on."
)
@click.option(
    "--eval",
    "evaluation",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="How many held out.",
)
@click.option(
    "--calib",
    type=click.IntRange(0),
    default=320,
    show_default=True,
    help="How many of the training ones are listed for calibration.",
)
@click.option(
    "--fonts", type=common.PATH, help="Folder of .ttf / .otf files to use instead of the packaged fonts."
)
@common.seed_option
@common.json_option
def command(
    task: str,
    out: Path,
    train: int,
    evaluation: int,
    calib: int,
    fonts: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Render text lines or pages in PaddleOCR's label-file form, byte for byte the same for a seed.

    \b
    slim synth --task rec --out data/rec --train 3200 --eval 2000
    slim synth --task det --out data/det --train 2000 --eval 200 --calib 0
    """
    from slim.synth import synthesize

    seed = common.seed_of(seed)
    counts = {"train": train, "eval": evaluation, "calib": calib}
    manifest = synthesize(task, out, counts, seed, fonts, common.reporter())

    def text() -> str:
        what = "pages" if task == "det" else "lines"
        return f"{out}: {train} training, {evaluation} evaluation, {calib} calibration {what}, seed {seed}"

    common.emit(manifest, as_json, text)

"""slim synth"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slim.cli import common

if TYPE_CHECKING:
    from slim.config import Config
    from slim.progress import Reporter
    from slim.synth.language import Request


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
    "--fonts",
    type=common.PATH,
    help="Folder of .ttf / .otf files (.ttc for another language) to use instead of the packaged fonts.",
)
@common.config_options(required=False)
@click.option(
    "--dict",
    "dictionary",
    metavar="DICT",
    help="Lines of the characters of a dictionary, as PaddleOCR's character_dict_path; -c names its own.",
)
@click.option(
    "--corpus",
    type=common.PATH,
    help="Text file, UTF-8, one text a line, to take lines from; default: random words.",
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
    config: str | None,
    overrides: tuple[str, ...],
    dictionary: str | None,
    corpus: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Render text lines or pages in PaddleOCR's label-file form, byte for byte the same for a seed.

    English; with -c, --dict or --corpus lines of another language. What no font has is never drawn.

    \b
    slim synth --task rec --out data/rec --train 3200 --eval 2000
    slim synth --task det --out data/det --train 2000 --eval 200 --calib 0
    slim synth --task rec --out data/korean -c rec/korean_mobile_v2.0_rec --fonts my_fonts --corpus korean.txt
    """
    from slim.synth import synthesize

    reporter = common.reporter()
    loaded = common.load_optional(config, overrides, reporter)
    seed = common.seed_of(seed, loaded)
    counts = {"train": train, "eval": evaluation, "calib": calib}
    language = _language(loaded, dictionary, corpus, reporter)
    manifest = synthesize(task, out, counts, seed, fonts, reporter, language=language)

    def text() -> str:
        what = "pages" if task == "det" else "lines"
        return f"{out}: {train} training, {evaluation} evaluation, {calib} calibration {what}, seed {seed}"

    common.emit(manifest, as_json, text)


def _language(
    config: Config | None, dictionary: str | None, corpus: Path | None, reporter: Reporter
) -> Request | None:
    """What the lines are made of by the command line; None: English."""
    from slim.dictionaries import read_dictionary, resolve_dictionary
    from slim.errors import ConfigError
    from slim.synth.language import Request

    if config is not None and dictionary is not None:
        raise click.UsageError("give the dictionary once, by -c or --dict")
    if config is not None and config.kind != "rec":
        raise ConfigError(
            f"describes a {config.kind} model, which has no dictionary",
            where=config.source,
            remedy="give the configuration of a recognizer, or --dict",
        )
    if config is not None:
        asked = config.Global.character_dict_path
        entries, name = read_dictionary(resolve_dictionary(asked)), asked or "the default dictionary"
        spaces = config.Global.use_space_char or " " in entries
        return Request(entries, name, spaces, corpus, config.Global.max_text_length)
    if dictionary is not None:
        return Request(read_dictionary(resolve_dictionary(dictionary)), dictionary, True, corpus)
    return None if corpus is None else Request(None, corpus=corpus)

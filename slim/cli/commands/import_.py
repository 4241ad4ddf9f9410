"""slim import"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slim.cli import common

if TYPE_CHECKING:
    from slim.importing.run import Imported


@click.command(cls=common.Command, name="import")
@click.argument("source", type=common.PATH)
@common.config_options()
@click.option("--out", type=common.PATH, required=True, help="The checkpoint to write, a .pdparams file.")
@click.option("--data", type=common.PATH, help="Label file of images for the proof; default: rendered lines.")
@common.seed_option
@common.json_option
def command(
    source: Path,
    config: str,
    overrides: tuple[str, ...],
    out: Path,
    data: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Recover trainable weights from an inference model (.pdmodel / .pdiparams) or an ONNX file.

    The graphs are matched op by op, then both models are run on noise and on images: outputs must agree to
    1e-4, or the first difference is named.

    \b
    slim import inference/ -c rec/korean_mobile_v2.0_rec --out korean.pdparams
    slim run -c rec/korean_mobile_v2.0_rec --model korean.pdparams
    """
    from slim.importing.run import import_model

    reporter = common.reporter()
    loaded = common.load(config, overrides, reporter)
    done = import_model(source, loaded, out, data=data, seed=common.seed_of(seed, loaded), progress=reporter)
    common.emit(done.to_json(), as_json, lambda: _text(done))


def _text(done: Imported) -> str:
    lines = [f"import: {done.out}", f"{done.tensors} tensors of {done.name}"]
    return "\n".join([*lines, *(check.line() for check in done.checks), *(f"note: {n}" for n in done.notes)])

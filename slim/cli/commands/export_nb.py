"""slim export-nb"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(cls=common.Command, name="export-nb")
@click.argument("model_argument", metavar="[MODEL|INFERENCE_DIR]", required=False)
@common.config_options(required=False)
@common.model_option
@click.option("--target", default=None, metavar="arm,x86", help="Targets; default: Export.targets, else arm.")
@click.option("--out", type=common.PATH, required=True, help="Folder of the .nb files and what an app needs.")
@common.seed_option
@common.json_option
def command(
    model_argument: str | None,
    config: str | None,
    overrides: tuple[str, ...],
    model: str | None,
    target: str | None,
    out: Path,
    seed: int | None,
    as_json: bool,
) -> None:
    """Write model.arm.nb / model.x86.nb with labels.txt and preprocess.json.

    \b
    slim export-nb zoo:ch_ppocr_mobile_v2.0_cls --target arm,x86 --out e0
    slim export-nb output/en_number_demo/quant --target arm --out e1
    """
    from slim.pipeline.exporting import export_nb

    reporter = common.reporter()
    loaded = common.load_optional(config, overrides, reporter)
    result = export_nb(
        common.one_model(model_argument, model),
        loaded,
        out=out,
        targets=common.targets(target),
        seed=common.seed_of(seed, loaded),
        progress=reporter,
    )
    common.emit(result.to_json(), as_json, lambda: common.stage_text(result))
    result.require()

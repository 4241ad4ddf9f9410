"""slim export"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(cls=common.Command, name="export")
@click.argument("model_argument", metavar="[MODEL]", required=False)
@common.config_options(required=False)
@common.model_option
@click.option("--out", type=common.PATH, required=True, help="Folder of the inference program.")
@common.seed_option
@common.json_option
def command(
    model_argument: str | None,
    config: str | None,
    overrides: tuple[str, ...],
    model: str | None,
    out: Path,
    seed: int | None,
    as_json: bool,
) -> None:
    """Write inference.pdmodel / .pdiparams, run them again and compare with the net.

    \b
    slim export zoo:ch_ppocr_mobile_v2.0_cls --out inference
    slim export output/en_number_demo/quant --out inference
    """
    from slim.pipeline.exporting import export_inference

    reporter = common.reporter()
    loaded = common.load_optional(config, overrides, reporter)
    result = export_inference(
        common.one_model(model_argument, model),
        loaded,
        out=out,
        seed=common.seed_of(seed, loaded),
        progress=reporter,
    )
    common.emit(result.to_json(), as_json, lambda: common.stage_text(result))
    result.require()

"""slim quant"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(cls=common.Command, name="quant")
@common.config_options()
@common.model_option
@common.out_option
@click.option("--mode", type=click.Choice(["qat", "ptq"]), help="Trained or calibrated; default: Quant.mode.")
@common.strict_option
@common.seed_option
@common.json_option
def command(
    config: str,
    overrides: tuple[str, ...],
    model: str | None,
    out: Path | None,
    mode: str | None,
    strict: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Quantize a float or pruned model to int8.

    \b
    slim quant -c rec/en_number_demo --model output/en_number_demo/prune
    slim quant -c my.yml --mode ptq --out q1
    """
    from slim.pipeline import stages

    reporter = common.reporter()
    loaded = common.load(config, overrides, reporter)
    result = stages.quant(
        loaded,
        model=model,
        out=out,
        mode=mode,
        seed=common.seed_of(seed, loaded),
        progress=reporter,
        strict=strict,
    )
    common.emit(result.to_json(), as_json, lambda: common.stage_text(result))

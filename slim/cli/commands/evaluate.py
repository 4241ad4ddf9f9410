"""slim eval"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(cls=common.Command, name="eval")
@common.config_options(required=False)
@common.model_option
@click.option("--data", type=common.PATH, help="Label file; default: the config's Eval.")
@click.option("--images", type=click.IntRange(1), help="Score the first N lines only.")
@click.option("--predictions", type=common.PATH, help="Write one JSON line an image.")
@common.seed_option
@common.json_option
def command(
    config: str | None,
    overrides: tuple[str, ...],
    model: str | None,
    data: Path | None,
    images: int | None,
    predictions: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Score a model (float, pruned or quantized) on a label file.

    \b
    slim eval -c rec/en_number_mobile_v2.0_rec --data test.txt
    slim eval --model output/en_number_demo/quant --data test.txt
    """
    from slim.pipeline.training import evaluate_model

    reporter = common.reporter()
    loaded = common.load_optional(config, overrides, reporter)
    result = evaluate_model(
        loaded,
        model=model,
        data=data,
        images=images,
        predictions=predictions,
        seed=common.seed_of(seed, loaded),
        progress=reporter,
    )

    def text() -> str:
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items())
        return f"{result['model']}: {metrics}  ({result['images']} images, {result['seconds']:.1f} s)"

    common.emit(result, as_json, text)

"""slim train and slim eval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.errors import UsageError
from slim.locking import held
from slim.pipeline.datasets import dataset, open_labels
from slim.pipeline.opening import open_model
from slim.progress import Reporter

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import Config

_BATCH = 16


def evaluate_model(
    config: Config | None,
    *,
    model: str | None,
    data: Path | None,
    images: int | None,
    predictions: Path | None,
    seed: int,
    progress: Reporter,
) -> dict[str, Any]:
    """Metrics of a model's net on a label file or the config's Eval."""
    from slim.evaluate import evaluate, write_predictions

    bundle = open_model(model, config, progress)
    if data is None and config is None:
        raise UsageError("no data to score on", remedy="give --data or -c")
    kind = bundle.spec.kind
    if data is not None:
        found = open_labels(data, kind)
    else:
        assert config is not None
        found = dataset(config, "eval", kind)
    result = evaluate(bundle.run, found, bundle.spec, limit=images, batch_size=_BATCH, progress=progress)
    if predictions is not None:
        write_predictions(result.predictions, predictions)
    return {
        "model": bundle.spec.name,
        "source": bundle.source,
        "metrics": result.metrics,
        "images": result.images,
        "seconds": result.seconds,
        "data": found.describe(),
    }


def train_model(config: Config, *, strict: bool, seed: int, progress: Reporter) -> dict[str, Any]:
    """Train by PaddleOCR's sections; checkpoints go to Global.save_model_dir.

    Starts from Global.pretrained_model, or from random weights when there is none. A run that was stopped
    in the same folder goes on where it was.
    """
    from slim.evaluate import evaluate
    from slim.training import fit
    from slim.training.sources import batches, tell_bad_lines

    bundle = _start(config, seed, progress)
    kind = bundle.spec.kind
    recipe = config.train_recipe()
    source = batches(bundle.spec, dataset(config, "train", kind, seed), recipe, seed, strict=strict)
    held_out = dataset(config, "eval", kind) if config.Eval else None
    out = Path(config.Global.save_model_dir or config.out_folder / "train")

    def score() -> dict[str, float]:
        assert held_out is not None
        return evaluate(bundle.run, held_out, bundle.spec, batch_size=_BATCH, progress=progress).metrics

    with held(out, progress):
        result = fit(
            bundle.net,
            recipe,
            source,
            kind=kind,
            evaluate=score if held_out is not None else None,
            main_indicator=config.main_indicator,
            out=out,
            progress=progress,
            seed=seed,
        )
    tell_bad_lines(source, progress)
    return {
        "out": str(out),
        "steps": result.steps,
        "metric": config.main_indicator,
        "best_metric": result.best_metric,
        "best_step": result.best_step,
        "resumed_from": result.resumed_from,
        "bad_lines": source.tolerance.summary(),
    }


def _start(config: Config, seed: int, progress: Reporter) -> Bundle:
    if config.Global.pretrained_model:
        return open_model(None, config, progress)
    import paddle

    from slim.arch import build_net
    from slim.bundle import Bundle
    from slim.config.spec import model_spec

    paddle.seed(seed)
    spec = model_spec(config)
    progress.info("no Global.pretrained_model: training starts from random weights")
    return Bundle(spec, build_net(spec.arch, spec.classes), source="random weights")

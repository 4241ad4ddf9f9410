"""prune, quant and export as a command runs them: open, do, save, seal."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.errors import GateFailed
from slim.pipeline import lineage
from slim.pipeline.datasets import dataset
from slim.pipeline.finetune import batches, finetune
from slim.pipeline.opening import open_model
from slim.progress import Reporter
from slim.stage import Check, StageContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slim.bundle import Bundle
    from slim.config import Config
    from slim.data.dataset import TrainingData
    from slim.evaluate import EvalResult

_SCORE_BATCH = 16
SENSITIVITY = "sensitivity.json"


@dataclass(frozen=True)
class StageResult:
    """What a stage left behind: its folder, its checks, its last lineage entry."""

    stage: str
    out: Path
    checks: list[Check]
    entry: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {
            "stage": self.stage,
            "out": str(self.out),
            "checks": [check.to_json() for check in self.checks],
            "result": self.entry,
        }

    def require(self) -> StageResult:
        """Raise GateFailed when a check missed its bound."""
        missed = [check.line() for check in self.checks if not check.passed]
        if missed:
            raise GateFailed("; ".join(missed), where=self.out)
        return self


def work_folder(out: Path) -> Path:
    """Where a stage keeps what a second run can go on from."""
    return out.with_name(f"{out.name}.work")


def score_net(bundle: Bundle, data: TrainingData, limit: int, progress: Reporter) -> EvalResult:
    """The task metric of the net itself on the first ``limit`` lines of ``data``."""
    from slim.evaluate import evaluate

    return evaluate(bundle.run, data, bundle.spec, limit=limit, batch_size=_SCORE_BATCH, progress=progress)


def prune(
    config: Config, *, model: str | None, out: Path | None, seed: int, progress: Reporter
) -> StageResult:
    """Cut, re-estimate BatchNorm, finetune, save.

    Raises:
        UsageError: the model's metric is near zero. GateFailed: the cut net differs from the masked one.
    """
    from prune import stage
    from slim.config import PruneSection, TrainRecipe
    from slim.training import reestimate_bn

    section = config.Prune or PruneSection()
    bundle = open_model(model, config, progress)
    dest = out or config.out_folder / "prune"
    data, held = (dataset(config, purpose, bundle.spec.kind, seed) for purpose in ("train", "calibration"))
    context = _context(work_folder(dest), seed, data, held, section.images, progress)
    plan = stage.plan(bundle, section, context)
    pruned = stage.apply(bundle, plan)
    checks = stage.checks(bundle, pruned, section)
    StageResult("prune", dest, checks, {}).require()
    if section.bn_batches:
        source = batches(pruned.spec, data, section.Finetune or TrainRecipe(steps=1), seed, augment=False)
        reestimate_bn(pruned.net, source, section.bn_batches, progress=progress)
    if section.Finetune is not None:
        finetune(pruned, section.Finetune, data, context.work / "finetune", bundle, seed, progress)
    extra = {"plan": plan.rows()}
    files = [context.work / SENSITIVITY]
    done = _save("prune", bundle, pruned, dest, section, config, data, seed, progress, extra, files)
    shutil.rmtree(context.work, ignore_errors=True)
    return StageResult("prune", dest, checks, done)


def quant(
    config: Config, *, model: str | None, out: Path | None, mode: str | None, seed: int, progress: Reporter
) -> StageResult:
    """Quantize by training or calibration, save."""
    from quant import stage
    from slim.config import QuantSection

    section = config.Quant or QuantSection()
    if mode is not None:
        section = section.model_copy(update={"mode": mode})
    bundle = open_model(model, config, progress)
    dest = out or config.out_folder / "quant"
    data, held = (dataset(config, purpose, bundle.spec.kind, seed) for purpose in ("train", "calibration"))
    context = _context(work_folder(dest), seed, data, held, section.images, progress)
    scheme = stage.plan(bundle, section, context)
    quantized = stage.apply(bundle, scheme, section, context)
    checks = stage.checks(bundle, quantized, section)
    StageResult("quant", dest, checks, {}).require()
    done = _save("quant", bundle, quantized, dest, section, config, data, seed, progress, {}, [])
    shutil.rmtree(context.work, ignore_errors=True)
    return StageResult("quant", dest, checks, done)


def _context(
    work: Path, seed: int, data: TrainingData, held: TrainingData, images: int, progress: Reporter
) -> StageContext:
    """Sensitivity and selection score on calibration lines: the evaluation set stays unseen."""

    def score(bundle: Bundle) -> float:
        result = score_net(bundle, held, min(images, len(held)), progress)
        return 100.0 * result.metrics["acc"]

    work.mkdir(parents=True, exist_ok=True)
    return StageContext(work, seed, train=data, calibration=held, score=score, progress=progress)


def _save(
    name: str,
    before: Bundle,
    after: Bundle,
    dest: Path,
    section: Any,
    config: Config,
    data: TrainingData,
    seed: int,
    progress: Reporter,
    facts: Mapping[str, Any],
    files: list[Path],
) -> dict[str, Any]:
    from slim.bundle import save
    from slim.config import CheckSection

    limit = (config.Check or CheckSection()).simulation_images
    held_out = dataset(config, "eval", after.spec.kind)
    result = score_net(after, held_out, min(limit, len(held_out)), progress)
    past = lineage.of(before)
    done = lineage.entry(name, after, result, before=before.sha256(), out=str(dest))
    with artifact.writing(dest) as tmp:
        save(after, tmp)
        for path in files:
            if path.is_file():
                shutil.copy2(path, tmp / path.name)
        artifact.seal(
            tmp,
            name,
            recipe=section.model_dump(mode="json"),
            parent=before.sha256(),
            seed=seed,
            data={"train": data.describe(), "eval": held_out.describe()},
            facts={**facts, lineage.LINEAGE: [*past, done]},
        )
    return done

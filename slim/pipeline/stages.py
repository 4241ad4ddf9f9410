"""prune, quant and export as a command runs them: open, do, save, seal."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact, distributed
from slim.errors import GateFailed, InputError
from slim.locking import held
from slim.pipeline import lineage
from slim.pipeline.datasets import dataset, require_lines
from slim.pipeline.opening import open_model, open_original, require_apart
from slim.progress import Reporter
from slim.stage import Check, StageContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slim.bundle import Bundle
    from slim.config import Config
    from slim.data.dataset import TrainingData
    from slim.evaluate import EvalResult
    from slim.pipeline.searching import Searched

_SCORE_BATCH = 16


@dataclass(frozen=True)
class StageResult:
    """What a stage left behind: its folder, its checks, its last lineage entry, tables for --json."""

    stage: str
    out: Path
    checks: list[Check]
    entry: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {
            "stage": self.stage,
            "out": str(self.out),
            "checks": [check.to_json() for check in self.checks],
            "result": self.entry,
            **self.details,
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


@dataclass(frozen=True)
class Job:
    """One stage at work: what it starts from and where it puts the result."""

    name: str
    config: Config
    section: Any
    before: Bundle
    dest: Path
    context: StageContext

    @property
    def train(self) -> TrainingData:
        assert self.context.train is not None
        return self.context.train

    @property
    def calibration(self) -> TrainingData:
        assert self.context.calibration is not None
        return self.context.calibration

    def finish(
        self, after: Bundle, checks: list[Check], facts: Mapping[str, Any], files: list[Path], **steps: Any
    ) -> StageResult:
        """Score on evaluation lines, write the artifact (``steps`` into its lineage), clear up."""
        from slim.bundle import save
        from slim.config import CheckSection

        limit = (self.config.Check or CheckSection()).simulation_images
        held_out = dataset(self.config, "eval", after.spec.kind)
        result = score_net(after, held_out, min(limit, len(held_out)), self.context.progress)
        start = self.before.sha256()
        entry = lineage.entry(self.name, after, result, before=start, out=str(self.dest.resolve()), **steps)
        with artifact.writing(self.dest) as tmp:
            save(after, tmp)
            for path in files:
                if path.is_file():
                    shutil.copy2(path, tmp / path.name)
            artifact.seal(
                tmp,
                self.name,
                recipe=self.section.model_dump(mode="json"),
                parent=start,
                seed=self.context.seed,
                data=described(self.config, after.spec.kind, self.context.seed),
                facts={**facts, lineage.LINEAGE: [*lineage.of(self.before), entry]},
            )
        shutil.rmtree(self.context.work, ignore_errors=True)
        return StageResult(self.name, self.dest, checks, entry)


def quant(
    config: Config,
    *,
    model: str | None,
    out: Path | None,
    seed: int,
    progress: Reporter,
    strict: bool = False,
    **options: Any,
) -> StageResult:
    """Quantize by training or calibration, search where a drop is given, save.

    Args:
        options: keys of the Quant section that the command line replaces; None leaves the recipe's.
    Raises:
        GateFailed: a layer of the scheme is not quantized, the metric collapsed, or no layer can stay int8
            within Quant.max_drop.
    """
    from quant import stage
    from slim.config import QuantSection

    section = config.Quant or QuantSection()
    section = section.model_copy(update={k: v for k, v in options.items() if v is not None})
    with job_for("quant", config, section, model, out, seed, strict, progress) as job:
        if section.max_drop is not None or section.analyze:
            require_lines(job.before.spec.kind, "the accuracy search (Quant.max_drop, Quant.analyze)")
        scheme = stage.plan(job.before, section, job.context)
        quantized = stage.apply(job.before, scheme, section, job.context)
        if not distributed.is_first():  # what follows is one process's: files are made, scored and written
            return StageResult("quant", job.dest, [], {})
        files: list[Path] = []
        facts: dict[str, Any] = {}
        if section.max_drop is not None or section.analyze:
            found = _searched(job, quantized)
            quantized, files, facts = found.bundle, found.files, {"search": found.facts}
        checks = stage.checks(job.before, quantized, section)
        StageResult("quant", job.dest, checks, {}).require()
        recipe = section.Finetune if section.mode == "qat" else None
        steps = recipe.steps if recipe is not None else 0
        return job.finish(quantized, checks, facts, files, finetune_steps=steps, **facts)


def _searched(job: Job, quantized: Bundle) -> Searched:
    from slim.pipeline.searching import search

    context = job.context
    assert context.score is not None
    return search(
        context.teacher or job.before,
        quantized,
        job.config,
        job.section,
        dataset(job.config, "calibration", quantized.spec.kind, context.seed),
        context.score,
        context.work,
        context.progress,
    )


def described(config: Config, kind: str, seed: int) -> dict[str, Any]:
    """Path, count and hash of every data set a stage may look at, for its manifest and for resuming."""
    held = config.Calibration or config.Train
    names = ["train", "eval", *(["calibration"] if held is not None else [])]
    return {name: dataset(config, name, kind, 0 if name == "eval" else seed).describe() for name in names}


@contextmanager
def job_for(
    name: str,
    config: Config,
    section: Any,
    model: str | None,
    out: Path | None,
    seed: int,
    strict: bool,
    progress: Reporter,
) -> Iterator[Job]:
    dest = out or config.out_folder / name
    if distributed.is_first():
        artifact.require_writable(dest)
    with held(work_folder(dest), progress):
        yield _opened(name, config, section, model, dest, seed, strict, progress)


def _opened(
    name: str,
    config: Config,
    section: Any,
    model: str | None,
    dest: Path,
    seed: int,
    strict: bool,
    progress: Reporter,
) -> Job:
    bundle = open_model(model, config, progress)
    original = lineage.origin(lineage.of(bundle))
    require_apart(dest, bundle.source, original)
    train, lines = (dataset(config, purpose, bundle.spec.kind, seed) for purpose in ("train", "calibration"))

    def score(candidate: Bundle) -> float:
        # On calibration lines: the evaluation set chooses nothing.
        result = score_net(candidate, lines, min(section.images, len(lines)), progress)
        return 100.0 * result.main

    context = StageContext(
        work_folder(dest),
        seed,
        train=train,
        teacher=_teacher(bundle, original, config, progress),
        calibration=lines,
        score=score,
        strict=strict,
        progress=progress,
    )
    return Job(name, config, section, bundle, dest, context)


def _teacher(bundle: Bundle, original: str | None, config: Config, progress: Reporter) -> Bundle | None:
    """The float original of a pruned model, where the one its lineage names is still there."""
    if original is None or original == bundle.source:
        return None
    try:
        return open_original(original, config, progress)
    except InputError:
        progress.warn(f"the original {original} is gone: {bundle.source} is the teacher")
        return None

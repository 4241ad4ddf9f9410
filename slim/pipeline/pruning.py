"""prune as a command runs it: plan, cut, correct BatchNorm, finetune, save."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.errors import UsageError
from slim.pipeline.costing import FileCosts
from slim.pipeline.stages import Job, StageResult, described, job_for
from slim.progress import Reporter
from slim.stage import StageContext

if TYPE_CHECKING:
    from prune.plan import PrunePlan
    from slim.bundle import Bundle
    from slim.config import Config, PruneSection

SENSITIVITY = "sensitivity.json"
PLAN = "plan.json"


def prune(
    config: Config,
    *,
    model: str | None,
    out: Path | None,
    seed: int,
    progress: Reporter,
    strict: bool = False,
    sensitivities: Path | None = None,
    plot: Path | None = None,
) -> StageResult:
    """Cut, correct BatchNorm, finetune, save.

    Args:
        sensitivities: curves measured before, instead of ``Prune.sensitivities``.
        plot: where to draw the curves.
    Raises:
        UsageError: the model's metric is near zero. GateFailed: the cut net differs from the masked one.
    """
    from prune import stage
    from prune.table import by_layer, layers_text
    from slim.config import PruneSection

    section = config.Prune or PruneSection()
    if sensitivities is not None:
        section = section.model_copy(update={"sensitivities": str(sensitivities)})
    if section.method != "sensitivity" and (plot is not None or sensitivities is not None):
        raise UsageError("method ratio has no curves", where="Prune.method", remedy="use method sensitivity")
    job = _with_costs(job_for("prune", config, section, model, out, seed, strict, progress))
    plan = _planned(job)
    if plot is not None:
        stage.plot(job.before, job.context.work, plot)
    pruned = stage.apply(job.before, plan)
    rows = by_layer(job.before.net, pruned.net, pruned.spec.input.shape)
    progress.info(f"before and after by layer\n{layers_text(rows)}")
    checks = stage.checks(job.before, pruned, section, job.context)
    StageResult("prune", job.dest, checks, {}).require()
    _keep_plan(job, plan)
    cut = pruned.sha256()
    steps = _recover(pruned, section, job)
    kept = [job.context.work / SENSITIVITY]
    facts = {"plan": plan.rows(), "layers": rows}
    done = job.finish(pruned, checks, facts, kept, cut_weights=cut, finetune_steps=steps)
    return replace(done, details={"layers": rows})


def _with_costs(job: Job) -> Job:
    """The job with what its budgets may have to be measured by."""
    context = job.context
    costs = FileCosts(job.config, job.calibration, context.seed, context.progress)
    return replace(job, context=replace(context, nb_bytes=costs.nb_bytes, latencies=costs.latencies))


def _planned(job: Job) -> PrunePlan:
    """The plan, also after a kill: a budget of measured time is not measured twice alike."""
    from prune import stage
    from prune.plan import PrunePlan

    path = job.context.work / PLAN
    if path.is_file():
        saved = artifact.read_json(path)
        if saved.get("key") == _key(job):
            job.context.progress.info(f"{path} holds the plan already made")
            return PrunePlan.from_json(saved["plan"], where=str(path))
    return stage.plan(job.before, job.section, job.context)


def _keep_plan(job: Job, plan: PrunePlan) -> None:
    """Once it has held its budgets."""
    job.context.work.mkdir(parents=True, exist_ok=True)
    artifact.write_json(job.context.work / PLAN, {"key": _key(job), "plan": plan.to_json()})


def _key(job: Job) -> dict[str, Any]:
    return {
        "recipe": job.section.model_dump(mode="json"),
        "weights": job.before.sha256(),
        "seed": job.context.seed,
        "tools": artifact.tool_versions(),
        "data": described(job.config, job.before.spec.kind, job.context.seed),
    }


def _recover(pruned: Bundle, section: PruneSection, job: Job) -> int:
    """BatchNorm statistics of the smaller net, then training; gives the number of steps."""
    from slim.arch.cuts import apply_cuts
    from slim.config import TrainRecipe
    from slim.training import correct_bn, fit
    from slim.training.sources import batches, tell_bad_lines

    context, recipe = job.context, section.Finetune
    if section.bn_batches:
        plain = batches(pruned.spec, job.train, recipe or TrainRecipe(steps=1), context.seed, augment=False)
        correct_bn(
            pruned.net,
            job.before.clone().net,
            lambda net: apply_cuts(net, pruned.cuts[-1]["cuts"]),
            plain,
            section.bn_batches,
            progress=context.progress,
        )
    if recipe is None:
        return 0
    source = batches(pruned.spec, job.train, recipe, context.seed, strict=context.strict)
    done = fit(
        pruned.net,
        recipe,
        source,
        kind=pruned.spec.kind,
        out=context.work / "finetune",
        teacher=_teacher(context, job.before).net if recipe.distill else None,
        progress=context.progress,
        seed=context.seed,
    )
    pruned.net.eval()
    tell_bad_lines(source, context.progress)
    return done.steps


def _teacher(context: StageContext, before: Bundle) -> Bundle:
    return before if context.teacher is None else context.teacher

"""prune as a command runs it: plan, cut, correct BatchNorm, finetune, save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact, distributed
from slim.errors import UsageError
from slim.numerics import file_sha256
from slim.pipeline.costing import FileCosts
from slim.pipeline.stages import Job, StageResult, described, job_for
from slim.progress import Reporter
from slim.stage import Check, StageContext

if TYPE_CHECKING:
    from prune.budget import Goal
    from prune.plan import PrunePlan
    from slim.bundle import Bundle
    from slim.config import Config, PruneSection, TrainRecipe

PLAN = "plan.json"
ROUND = "model"


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
    """Cut, correct BatchNorm, finetune, in one round or several, save.

    Args:
        sensitivities: curves measured before, instead of ``Prune.sensitivities``.
        plot: where to draw the curves.
    Raises:
        UsageError: the model's metric is near zero. GateFailed: the cut net differs from the masked one.
    """
    from prune.measuring import SENSITIVITY
    from prune.plan import composed_rows
    from prune.table import by_layer, layers_text

    section = _section(config, sensitivities, plot)
    if unused := section.unused():
        progress.info(f"{', '.join(unused)}: no effect with method {section.method}")
    with job_for("prune", config, section, model, out, seed, strict, progress) as plain:
        job = _with_costs(plain)
        done = _all_rounds(job, plot)
        distributed.barrier()  # what the work folder holds has been read by all
        if not distributed.is_first():
            return StageResult("prune", job.dest, done.checks, {})
        rows = by_layer(job.before.net, done.model.net, done.model.spec.input.shape)
        progress.info(f"before and after by layer\n{layers_text(rows)}")
        rows_by_group = composed_rows(done.model.cuts[len(job.before.cuts) :])
        facts = {"plan": rows_by_group, "layers": rows, **needs(config, section)}
        kept = [_work(job, 1) / SENSITIVITY]
        steps = {"cut_weights": done.cut, "finetune_steps": done.steps}
        finished = job.finish(done.model, done.checks, facts, kept, **steps)
    return replace(finished, details={"layers": rows})


def needs(config: Config, section: PruneSection) -> dict[str, Any]:
    """What a plan depends on beside its own section, the data and the weights; empty for most recipes.

    ``bytes_of``: the sections a budget of bytes is weighed by, without what changes no byte of the file.
    ``sensitivities``: sha256 of the file of curves, null where it is gone.
    """
    found: dict[str, Any] = {}
    if section.nb_bytes is not None:
        without = {"Quant": {"Finetune"}, "Export": {"targets", "timeout"}}
        sections = {name: getattr(config, name) for name in without}
        found["bytes_of"] = {
            name: part and part.model_dump(mode="json", exclude=without[name])
            for name, part in sections.items()
        }
    if section.sensitivities is not None:
        path = Path(section.sensitivities)
        found["sensitivities"] = file_sha256(path) if path.is_file() else None
    return found


def _section(config: Config, sensitivities: Path | None, plot: Path | None) -> PruneSection:
    """The section with what the command line adds to it; what cannot be done is refused before any work."""
    from prune.curves_plot import require_drawable
    from slim.config import PruneSection

    section = config.Prune or PruneSection()
    if section.method != "sensitivity" and (plot is not None or sensitivities is not None):
        raise UsageError("method ratio has no curves", where="Prune.method", remedy="use method sensitivity")
    if sensitivities is not None and section.rounds > 1:
        raise UsageError(
            "curves of a file are of the whole net, and there are several rounds",
            where="Prune.rounds",
            remedy="use 1, or let each round measure",
        )
    if plot is not None and distributed.is_first():
        require_drawable(plot)
    return (
        section if sensitivities is None else section.model_copy(update={"sensitivities": str(sensitivities)})
    )


@dataclass(frozen=True)
class _Done:
    """What the rounds so far left.

    Attributes:
        cut: hash of the weights after the last cut, before any training.
        steps: of finetuning, in all rounds.
    """

    model: Bundle
    cut: str = ""
    steps: int = 0
    checks: list[Check] = field(default_factory=list)


def _all_rounds(job: Job, plot: Path | None) -> _Done:
    from prune import stage
    from prune.budget import Goal

    rounds, done = job.section.rounds, _Done(job.before)
    teacher = _teacher(job.context, job.before)
    for number in range(1, rounds + 1):
        goal = Goal(job.before, number, rounds)
        seed = job.context.seed + number - 1  # or each round would train on the batches of the first
        context = replace(job.context, work=_work(job, number), teacher=teacher, seed=seed)
        done = _round(replace(job, before=done.model, context=context), goal, done)
        if plot is not None and number == 1 and distributed.is_first():
            stage.plot(job.before, context.work, plot)
    if not done.cut:
        raise UsageError("no round removes a channel", where="Prune.rounds", remedy="use fewer rounds")
    if rounds > 1:
        equal = [check for check in done.checks if check.unit == "abs"]
        budgets = _on_first(
            lambda: stage.budget_checks(done.model, job.section, job.context, Goal(job.before))
        )
        done = replace(done, checks=equal + budgets)
        StageResult("prune", job.dest, done.checks, {}).require()
    return done


def _round(job: Job, goal: Goal, done: _Done) -> _Done:
    """Cut and finetune once; a round that ended before a kill is opened instead."""
    from prune import stage

    before = _finished(job) if goal.rounds > 1 else None
    if before is not None:
        return before
    if goal.rounds > 1:
        job.context.progress.info(f"round {goal.number} of {goal.rounds}")
    plan = _planned(job, goal)
    if not plan.kept:
        job.context.progress.info(f"round {goal.number}: the rounds before went this far already")
        return done
    pruned = stage.apply(job.before, plan)
    checks = _on_first(lambda: stage.checks(job.before, pruned, job.section, job.context, goal))
    StageResult("prune", job.dest, checks, {}).require()
    if distributed.is_first():
        _keep_plan(job, plan)
    cut = pruned.sha256()
    steps = done.steps + _recover(pruned, job.section, job)
    found = _Done(pruned, cut, steps, checks)
    if goal.rounds > 1 and distributed.is_first():
        _finish_round(job, found)
    return found


def _on_first(make: Callable[[], list[Check]]) -> list[Check]:
    """Checks of one process for all: files are made and timed for them."""
    return [Check(*check) for check in distributed.on_first(lambda: _plain(make()))]


def _plain(checks: Sequence[Check]) -> list[list[Any]]:
    return [[c.name, c.value, c.bound, c.unit, c.relation] for c in checks]


def _work(job: Job, number: int) -> Path:
    work = job.context.work
    return work if job.section.rounds == 1 else work / f"round-{number}"


def _finish_round(job: Job, done: _Done) -> None:
    from slim.bundle import save

    facts = {
        "key": _key(job),
        "cut": done.cut,
        "steps": done.steps,
        "checks": _plain(done.checks),
    }
    with artifact.writing(job.context.work / ROUND) as tmp:
        save(done.model, tmp)
        artifact.seal(
            tmp,
            "prune",
            recipe=job.section.model_dump(mode="json"),
            parent=job.before.sha256(),
            seed=job.context.seed,
            facts=facts,
        )


def _finished(job: Job) -> _Done | None:
    from slim.bundle import from_artifact

    folder = job.context.work / ROUND
    # Asked in one process: the first may be about to write it while another comes by.
    facts = distributed.on_first(lambda: _facts(folder, job))
    if facts is None:
        return None
    job.context.progress.info(f"{folder} holds this round")
    model = replace(from_artifact(folder), source=job.before.source)
    return _Done(model, facts["cut"], facts["steps"], [Check(*check) for check in facts["checks"]])


def _facts(folder: Path, job: Job) -> dict[str, Any] | None:
    if not (folder / artifact.MANIFEST).is_file():
        return None
    facts = dict(artifact.read_manifest(folder).facts)
    return facts if facts.get("key") == _key(job) else None


def _with_costs(job: Job) -> Job:
    """The job with what its budgets may have to be measured by."""
    context = job.context
    costs = FileCosts(job.config, context.progress)
    return replace(job, context=replace(context, nb_bytes=costs.nb_bytes, latencies=costs.latencies))


def _planned(job: Job, goal: Goal) -> PrunePlan:
    """The plan, also after a kill: a budget of measured time is not measured twice alike."""
    from prune import stage
    from prune.plan import PrunePlan

    path = job.context.work / PLAN
    saved = distributed.on_first(lambda: _saved_plan(path, job))
    if saved is not None:
        job.context.progress.info(f"{path} holds the plan already made")
        return PrunePlan.from_json(saved, where=str(path))
    return stage.plan(job.before, job.section, job.context, goal)


def _saved_plan(path: Path, job: Job) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    saved = artifact.read_json(path)
    plan: dict[str, Any] | None = saved["plan"] if saved.get("key") == _key(job) else None
    return plan


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
        **needs(job.config, job.section),
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
        evaluate=_evaluator(pruned, recipe, context.score),
        out=context.work / "finetune",
        teacher=_teacher(context, job.before).net if recipe.distill else None,
        progress=context.progress,
        seed=context.seed,
    )
    pruned.net.eval()
    tell_bad_lines(source, context.progress)
    return done.steps


def _evaluator(
    pruned: Bundle, recipe: TrainRecipe, score: Callable[[Bundle], float] | None
) -> Callable[[], dict[str, float]] | None:
    """Points on calibration lines, by which the best weights are kept; None: the last ones are."""
    if recipe.eval_every is None or score is None:
        return None
    return lambda: {"acc": score(pruned)}


def _teacher(context: StageContext, before: Bundle) -> Bundle:
    return before if context.teacher is None else context.teacher

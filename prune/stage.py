"""The prune stage: plan (data), apply (a cut clone), checks. BatchNorm and finetuning come after it.

>>> # plan_ = plan(bundle, section, ctx); slim = apply(bundle, plan_)
>>> # checks(bundle, slim, section) before any weight of ``slim`` moves; then re-estimate and finetune.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune import choose, paddleslim_masks, verify
from prune.budget import Goal, Limits, limits
from prune.choose import Problem
from prune.costs import CostModel
from prune.criteria import GroupData, criterion
from prune.filters import check_kept, drop_lowest, group_data, has_norm
from prune.gradients import Gradients, gradients
from prune.groups import Group, cuts_for, excluded, find_groups
from prune.measuring import SENSITIVITY, curves_for
from prune.plan import PrunePlan
from prune.sensitivity import Keep, Sensitivity
from slim.arch.cost import count
from slim.arch.cuts import apply_cuts
from slim.artifact import read_json
from slim.distributed import on_first
from slim.errors import ArtifactError, UnsupportedModel, UsageError
from slim.stage import Check, StageContext, require_trained

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import PruneSection

_GRADIENT_BATCH = 16


def show_groups(bundle: Bundle) -> list[dict[str, Any]]:
    """Every group as plain data, with the share of the FLOPs that goes with one of its channels.

    Raises:
        UnsupportedModel: a quantized model, or a net whose channels cannot be followed.
    """
    _require_float(bundle)
    groups = find_groups(bundle.net, bundle.spec.input.shape)
    costs = CostModel(bundle.net, groups, bundle.spec.input.shape)
    rows = []
    for group in groups:
        saved = costs.flops_before - costs.flops({group.name: group.size - 1}) if group.prunable else 0
        rows.append({**group.to_json(), "flops_per_channel": saved})
    return rows


def plan(bundle: Bundle, section: PruneSection, ctx: StageContext, goal: Goal | None = None) -> PrunePlan:
    """Decide which channels stay. The net is the same afterwards.

    Sensitivity is measured on ``ctx.calibration`` (lines of the training set, so that the evaluation
    set chooses nothing), or through ``ctx.score`` where there is none; ``ctx.work/sensitivity.json``
    holds the curves and resumes a killed run.

    Args:
        goal: a round of an iterative schedule: budgets are those of ``goal.whole``. None: of ``bundle``.
    Returns:
        The plan; it cuts nothing where a round before went this far already.
    Raises:
        UsageError: baseline metric near zero, a budget the curves do not reach, nothing left to prune.
        UnsupportedModel: a quantized model, or a net whose channels cannot be followed.
    """
    _require_float(bundle)
    shape = bundle.spec.input.shape
    groups = find_groups(bundle.net, shape)
    chosen = _judged(bundle, _choose(groups, section.exclude), section, ctx)
    costs, keep = CostModel(bundle.net, groups, shape), _keeper(bundle, section, ctx)

    def planned(counts: Mapping[str, int]) -> PrunePlan:
        kept = {g.name: keep(g, counts[g.name]) for g in chosen if g.name in counts}
        return _plan(bundle, section, groups, costs, kept)

    goal = goal or Goal(bundle)
    problem = Problem(
        section=section,
        ctx=ctx,
        goal=goal,
        groups=chosen,
        costs=costs,
        limits=_limits(section, ctx, goal),
        whole=_whole_sizes(bundle, goal, groups),
        keep=keep,
        cut=lambda counts: apply(bundle, planned(counts)),
    )
    # In one process: what follows from measured time comes out a little different in each.
    if section.method == "sensitivity":
        curves = curves_for(bundle, section, ctx, groups, chosen, keep)
        counts: Mapping[str, int] = on_first(lambda: dict(choose.choose(problem, curves)))
    else:
        if ctx.score is not None:
            require_trained(ctx.score(bundle), bundle.source)
        counts = on_first(lambda: dict(choose.choose(problem, None)))
    if not counts and goal.rounds == 1:
        raise UsageError(
            "the recipe removes no channel", where="Prune", remedy="ask more of the budgets, or lower align"
        )
    return planned(counts)


def _limits(section: PruneSection, ctx: StageContext, goal: Goal) -> Limits:
    whole = count(goal.whole.net, goal.whole.spec.input.shape)
    size = None
    if section.nb_bytes is not None and goal.share < 1:
        size = choose.nb_bytes(ctx, goal.whole)
    return limits(section, whole.flops, whole.params, size, goal.share)


def _whole_sizes(bundle: Bundle, goal: Goal, groups: Sequence[Group]) -> dict[str, int]:
    """Channels of each group in the whole net: what the first plan since then that cuts it found."""
    sizes = {g.name: g.size for g in groups}
    for done in reversed(bundle.cuts[len(goal.whole.cuts) :]):
        sizes |= PrunePlan.from_json(done, where=bundle.source).sizes
    return sizes


def apply(bundle: Bundle, plan: PrunePlan) -> Bundle:
    """A pruned clone; its ``cuts`` end with the plan's JSON, by which it is reopened.

    Raises:
        ArtifactError: the plan was made for other weights, or cuts a layer the net does not have.
    """
    _require_float(bundle)
    if plan.weights != bundle.sha256():
        raise ArtifactError(
            f"the plan was made for weights {plan.weights[:12]}, these are {bundle.sha256()[:12]}",
            where=bundle.source,
            remedy="prune again, or give the model the plan was made for",
        )
    slim = bundle.clone()
    apply_cuts(slim.net, plan.cuts)
    slim.net.eval()
    return replace(slim, cuts=[*bundle.cuts, plan.to_json()])


def checks(
    before: Bundle,
    after: Bundle,
    section: PruneSection,
    ctx: StageContext | None = None,
    goal: Goal | None = None,
    *,
    seed: int = 0,
) -> list[Check]:
    """Measure a cut: equality with the masked float net, and each budget of the recipe.

    Args:
        after: what `apply` returned, before BatchNorm statistics or weights are touched.
        ctx: makes and times files; needed where the recipe limits bytes or latency.
        goal: as for `plan`.
    """
    done = PrunePlan.from_json(after.cuts[-1], where=after.source)
    distance = _distance(before, after, done, seed)
    found = [Check("masked net against pruned net", distance, verify.BOUND, "abs")]
    return found + budget_checks(after, section, ctx, goal or Goal(before))


def budget_checks(after: Bundle, section: PruneSection, ctx: StageContext | None, goal: Goal) -> list[Check]:
    """Each budget of the recipe on a cut net, finetuned or not."""
    if section.method == "ratio":
        return []
    found = []
    shape = goal.whole.spec.input.shape
    whole, left = count(goal.whole.net, shape), count(after.net, shape)
    asked = limits(section, whole.flops, whole.params, None, goal.share)
    if asked.flops is not None:
        found.append(Check("FLOPs left", left.flops, asked.flops, "multiply-adds"))
    if asked.params is not None:
        found.append(Check("parameters left", left.params, asked.params, "parameters"))
    return found + (_file_checks(after, asked, ctx, goal) if goal.share == 1 else [])


def _file_checks(after: Bundle, asked: Limits, ctx: StageContext | None, goal: Goal) -> list[Check]:
    """Budgets that a file is made for; on the way there (an earlier round) only the search makes them."""
    ctx = ctx or StageContext(Path(), 0)
    found = []
    if asked.nb_bytes is not None:
        found.append(Check("ARM file", choose.nb_bytes(ctx, after), asked.nb_bytes, "bytes"))
    if asked.latency is not None:
        share = choose.latency(ctx, goal.whole, [after])[0]
        found.append(Check("time in Paddle-Lite x86", share, asked.latency, "of the unpruned file's"))
    return found


def _distance(before: Bundle, after: Bundle, done: PrunePlan, seed: int) -> float:
    groups = find_groups(before.net, before.spec.input.shape)
    x = verify.random_input(before.spec.input.shape, seed)
    return verify.difference(before.clone().net, after.net, groups, done.kept, x)


def _require_float(bundle: Bundle) -> None:
    if bundle.scheme is not None:
        raise UnsupportedModel(
            "is a quantized model", where=bundle.source, remedy="prune the float model, then quantize it"
        )


def _choose(groups: Sequence[Group], exclude: Sequence[str]) -> list[Group]:
    chosen = [g for g in groups if g.prunable and not excluded(g, exclude)]
    unused = [glob for glob in exclude if not any(excluded(g, [glob]) for g in groups)]
    if unused:
        raise UsageError(
            f"{', '.join(unused)} names no layer",
            where="Prune.exclude",
            remedy="see slim prune --show-groups",
        )
    if not chosen:
        raise UsageError("no group is left to prune", where="Prune.exclude")
    return chosen


def _judged(bundle: Bundle, groups: Sequence[Group], section: PruneSection, ctx: StageContext) -> list[Group]:
    """Groups the criterion can judge; those it cannot stay whole, and that is said."""
    if criterion(section.criterion).needs != "norms":
        return list(groups)
    judged = [g for g in groups if has_norm(bundle.net, g)]
    left = [g.name for g in groups if g not in judged]
    if left:
        ctx.progress.info(f"{section.criterion}: {len(left)} groups have no BatchNorm and stay whole: {left}")
    if not judged:
        raise UsageError(
            "no group has a BatchNorm",
            where=f"Prune.criterion {section.criterion}",
            remedy="use fpgm, l1, l2 or taylor",
        )
    return judged


def _keeper(bundle: Bundle, section: PruneSection, ctx: StageContext) -> Keep:
    name, judge = section.criterion, criterion(section.criterion)
    slopes = _gradients(bundle, section, ctx) if judge.needs == "gradients" else None
    known: dict[str, GroupData] = {}

    def keep(group: Group, count: int) -> list[int]:
        if group.name not in known:
            known[group.name] = group_data(bundle.net, group, slopes)
        data = known[group.name]
        if name in paddleslim_masks.PRUNERS:
            kept = paddleslim_masks.keep(name, data.filters, count)
        else:
            kept = drop_lowest(judge(data), group.size - count)
        check_kept(kept, group)
        return kept

    return keep


def _gradients(bundle: Bundle, section: PruneSection, ctx: StageContext) -> Gradients:
    """On lines of the calibration set, unaugmented: the evaluation set chooses nothing."""
    from slim.config import TrainRecipe
    from slim.training.losses import loss_of
    from slim.training.sources import batches

    loss = loss_of(bundle.spec.kind)
    data = ctx.train if ctx.calibration is None else ctx.calibration
    if data is None:
        raise UsageError(
            f"criterion {section.criterion} needs labelled lines",
            where="Prune.criterion",
            remedy="give Train or Calibration data, or use fpgm, l1, l2 or bn_scale",
        )
    recipe = TrainRecipe(steps=section.gradient_batches, batch_size=_GRADIENT_BATCH)
    source = batches(bundle.spec, data, recipe, ctx.seed, augment=False, strict=ctx.strict)
    return gradients(bundle.net, loss, source.iterate(0, section.gradient_batches))


def plot(bundle: Bundle, work: Path, path: Path) -> None:
    """Draw the curves the stage left in ``work``; UsageError where it left none."""
    from prune.curves_plot import plot_curves

    source = work / SENSITIVITY
    if not source.is_file():
        raise UsageError("no curves to draw", where="--plot", remedy="use Prune.method sensitivity")
    curves = Sensitivity.from_json(read_json(source), where=source)
    plot_curves(curves, find_groups(bundle.net, bundle.spec.input.shape), path)


def _plan(
    bundle: Bundle,
    section: PruneSection,
    groups: Sequence[Group],
    costs: CostModel,
    kept: dict[str, list[int]],
) -> PrunePlan:
    counts = {name: len(channels) for name, channels in kept.items()}
    return PrunePlan(
        criterion=section.criterion,
        method=section.method,
        weights=bundle.sha256(),
        sizes={g.name: g.size for g in groups if g.name in kept},
        kept=kept,
        cuts=cuts_for(groups, kept),
        flops_before=costs.flops_before,
        flops_after=costs.flops(counts),
        params_before=costs.params_before,
        params_after=costs.params(counts),
    )

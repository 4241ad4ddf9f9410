"""The prune stage: plan (data), apply (a cut clone), checks. BatchNorm and finetuning come after it.

>>> # plan_ = plan(bundle, section, ctx); slim = apply(bundle, plan_)
>>> # checks(bundle, slim, section) before any weight of ``slim`` moves; then re-estimate and finetune.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune import paddleslim_masks, verify
from prune.costs import CostModel
from prune.criteria import GroupData, criterion
from prune.curves import read_curves
from prune.filters import check_kept, drop_lowest, group_data, has_norm
from prune.gradients import Gradients, gradients
from prune.groups import Group, cuts_for, excluded, find_groups
from prune.plan import PrunePlan
from prune.probe import LineProbe, Probe, ScoreProbe
from prune.sensitivity import Keep, Sensitivity, measure
from prune.solve import Choice, by_ratio, for_flops, greedy
from slim.arch.cuts import apply_cuts
from slim.artifact import read_json, write_json
from slim.errors import ArtifactError, UnsupportedModel, UsageError
from slim.stage import Check, StageContext, require_trained

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config.ours import PruneSection

SENSITIVITY = "sensitivity.json"
"""Name of the measured curves in the stage's work folder."""
_GRADIENT_BATCH = 16
FLOPS_TOLERANCE = 0.95
"""Share of the asked FLOPs cut a plan must reach: channels are whole, and ``align`` rounds them up."""


def show_groups(bundle: Bundle) -> list[dict[str, Any]]:
    """Every group as plain data, with the share of the FLOPs that goes with one of its channels."""
    groups = find_groups(bundle.net, bundle.spec.input.shape)
    costs = CostModel(bundle.net, groups, bundle.spec.input.shape)
    rows = []
    for group in groups:
        saved = costs.flops_before - costs.flops({group.name: group.size - 1}) if group.prunable else 0
        rows.append({**group.to_json(), "flops_per_channel": saved})
    return rows


def plan(bundle: Bundle, section: PruneSection, ctx: StageContext) -> PrunePlan:
    """Decide which channels stay. The net is the same afterwards.

    Sensitivity is measured on ``ctx.calibration`` (lines of the training set, so that the evaluation
    set chooses nothing), or through ``ctx.score`` where there is none; ``ctx.work/sensitivity.json``
    holds the curves and resumes a killed run.

    Raises:
        UsageError: baseline metric near zero, a budget the curves do not reach, nothing left to prune.
        UnsupportedModel: a quantized model, or a net whose channels cannot be followed.
    """
    _require_float(bundle)
    shape = bundle.spec.input.shape
    groups = find_groups(bundle.net, shape)
    chosen = _judged(bundle, _choose(groups, section.exclude), section, ctx)
    costs = CostModel(bundle.net, groups, shape)
    keep = _keeper(bundle, section, ctx)
    if section.method == "ratio":
        if ctx.score is not None:
            require_trained(ctx.score(bundle))
        counts = by_ratio(chosen, section.ratio, section.align)
    else:
        counts = dict(_by_sensitivity(bundle, section, ctx, chosen, costs, keep).kept)
    kept = {g.name: keep(g, counts[g.name]) for g in chosen if g.name in counts}
    if not kept:
        raise UsageError(
            "the recipe removes no channel", where="Prune", remedy="raise ratio or flops, or lower align"
        )
    return _plan(bundle, section, groups, costs, kept)


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


def checks(before: Bundle, after: Bundle, section: PruneSection, *, seed: int = 0) -> list[Check]:
    """Measure a cut: FLOPs removed, and equality with the masked float net.

    Args:
        after: what `apply` returned, before BatchNorm statistics or weights are touched.
    """
    done = PrunePlan.from_json(after.cuts[-1], where=after.source)
    found = [
        Check("masked net against pruned net", _distance(before, after, done, seed), verify.BOUND, "abs")
    ]
    if section.method == "sensitivity" and section.flops is not None and section.max_drop is None:
        bound = FLOPS_TOLERANCE * section.flops
        found.append(Check("FLOPs removed", done.flops_cut, bound, "share", ">="))
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


def _by_sensitivity(
    bundle: Bundle,
    section: PruneSection,
    ctx: StageContext,
    groups: Sequence[Group],
    costs: CostModel,
    keep: Keep,
) -> Choice:
    if section.sensitivities is not None:
        probe = None if section.max_drop is None else _probe(bundle, section, ctx)
        curves = _given(bundle, section, ctx, groups, probe)
    else:
        probe = _probe(bundle, section, ctx)
        curves = _measured(bundle, section, ctx, groups, keep, probe)
    choices = list(greedy(groups, curves, costs, section.align))
    wanted = choices[-1] if section.flops is None else for_flops(choices, section.flops)
    if section.max_drop is None or probe is None:
        return wanted
    return _within_drop(choices[: choices.index(wanted) + 1], section.max_drop, groups, probe, keep, curves)


def _measured(
    bundle: Bundle,
    section: PruneSection,
    ctx: StageContext,
    groups: Sequence[Group],
    keep: Keep,
    probe: Probe,
) -> Sensitivity:
    key: dict[str, Any] = {"weights": bundle.sha256(), "criterion": section.criterion}
    if criterion(section.criterion).needs == "gradients":
        key["gradients"] = [section.gradient_batches, ctx.seed]
    curves = measure(
        groups,
        probe,
        keep,
        section.ratios,
        key,
        refine=section.refine,
        path=ctx.work / SENSITIVITY,
        progress=ctx.progress,
    )
    ctx.progress.info(f"sensitivity of {len(curves.curves)} groups: baseline {curves.baseline:.2f}%")
    return curves


def _given(
    bundle: Bundle, section: PruneSection, ctx: StageContext, groups: Sequence[Group], probe: Probe | None
) -> Sensitivity:
    """Curves of a file; groups it says nothing of stay whole. Kept with the stage's results."""
    path = Path(section.sensitivities or "")
    curves = read_curves(path, bundle, find_groups(bundle.net, bundle.spec.input.shape))
    if ctx.score is not None:
        require_trained(ctx.score(bundle))
    used = [g.name for g in groups if g.name in curves.curves]
    ctx.progress.info(f"{path}: curves of {len(used)} of {len(groups)} groups; the others stay whole")
    if curves.key.get("weights") not in (None, bundle.sha256()):
        ctx.progress.warn(f"{path} was measured on other weights")
    if probe is not None:
        curves = replace(curves, baseline=probe.baseline().score)
    write_json(ctx.work / SENSITIVITY, curves.to_json())
    return curves


def plot(bundle: Bundle, work: Path, path: Path) -> None:
    """Draw the curves the stage left in ``work``; UsageError where it left none."""
    from prune.curves_plot import plot_curves

    source = work / SENSITIVITY
    if not source.is_file():
        raise UsageError("no curves to draw", where="--plot", remedy="use Prune.method sensitivity")
    curves = Sensitivity.from_json(read_json(source), where=source)
    plot_curves(curves, find_groups(bundle.net, bundle.spec.input.shape), path)


def _within_drop(
    choices: Sequence[Choice],
    max_drop: float,
    groups: Sequence[Group],
    probe: Probe,
    keep: Keep,
    curves: Sensitivity,
) -> Choice:
    """The longest run of steps whose masked net loses at most ``max_drop`` points (bisection)."""
    low, high = 0, len(choices)
    while high - low > 1:
        middle = (low + high) // 2
        kept = {
            g.name: keep(g, choices[middle].kept[g.name]) for g in groups if g.name in choices[middle].kept
        }
        fits = curves.baseline - probe.several(groups, kept).score <= max_drop
        low, high = (middle, high) if fits else (low, middle)
    return choices[low]


def _probe(bundle: Bundle, section: PruneSection, ctx: StageContext) -> Probe:
    if ctx.calibration is not None and bundle.spec.kind != "det":
        return LineProbe(bundle, ctx.calibration, section.images)
    if ctx.score is not None:
        return ScoreProbe(bundle, ctx.score, "score")
    raise UsageError(
        "sensitivity needs lines to score on",
        where="Prune.method",
        remedy="give Train or Calibration data, or use method ratio",
    )


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

"""Curves for the solver: measured on lines, or those of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune.criteria import criterion
from prune.curves import read_curves
from prune.groups import Group
from prune.probe import LineProbe, Probe, ScoreProbe
from prune.sensitivity import Keep, Sensitivity, measure
from slim.artifact import write_json
from slim.distributed import on_first
from slim.errors import InputError, UsageError
from slim.stage import StageContext, require_trained

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import PruneSection

SENSITIVITY = "sensitivity.json"
"""Name of the measured curves in the stage's work folder."""


def curves_for(
    bundle: Bundle,
    section: PruneSection,
    ctx: StageContext,
    every: Sequence[Group],
    groups: Sequence[Group],
    keep: Keep,
) -> tuple[Sensitivity, Probe | None]:
    """The curves a recipe asks for, and what scores a masked net (None where nothing needs to be scored).

    Args:
        every: all groups of the net; ``groups``: those that may be cut.
    Raises:
        UsageError: no lines to score on, or a metric near zero. InputError: curves of a wider net alone.
        As `prune.curves.read_curves`.
    """
    if section.sensitivities is not None:
        probe = None if section.max_drop is None else _probe(bundle, section, ctx)
        given = on_first(lambda: _given(bundle, section, ctx, every, groups, probe).to_json())
        return Sensitivity.from_json(given, where=section.sensitivities), probe
    probe = _probe(bundle, section, ctx)
    return _measured(bundle, section, ctx, groups, keep, probe), probe


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
        source=bundle.source,
        progress=ctx.progress,
    )
    ctx.progress.info(f"sensitivity of {len(curves.curves)} groups: baseline {curves.baseline:.2f}%")
    return curves


def _given(
    bundle: Bundle,
    section: PruneSection,
    ctx: StageContext,
    every: Sequence[Group],
    groups: Sequence[Group],
    probe: Probe | None,
) -> Sensitivity:
    """Curves of a file; groups it says nothing of stay whole. Kept with the stage's results."""
    path = Path(section.sensitivities or "")
    curves = _fitting(read_curves(path, bundle, every), every, path, ctx)
    if ctx.score is not None:
        require_trained(ctx.score(bundle), bundle.source)
    used = [g.name for g in groups if curves.curves.get(g.name)]
    ctx.progress.info(f"{path}: curves of {len(used)} of {len(groups)} groups; the others stay whole")
    if curves.key.get("weights") not in (None, bundle.sha256()):
        ctx.progress.warn(f"{path} was measured on other weights")
    if probe is not None:
        curves = replace(curves, baseline=probe.baseline().score)
    write_json(ctx.work / SENSITIVITY, curves.to_json())
    return curves


def _fitting(curves: Sensitivity, every: Sequence[Group], path: Path, ctx: StageContext) -> Sensitivity:
    """Curves without the points of a wider net: they leave no fewer channels than this one has."""
    sizes = {g.name: g.size for g in every}
    fitting = {
        name: [p for p in points if p.kept < sizes.get(name, p.kept + 1)]
        for name, points in curves.curves.items()
    }
    kept, given = (sum(map(len, named.values())) for named in (fitting, curves.curves))
    if given and not kept:
        raise InputError(
            "each of its points leaves as many channels as this net has, or more",
            where=path,
            remedy="give the curves of this very net",
        )
    if kept < given:
        ctx.progress.warn(f"{path}: {given - kept} of {given} points are of a wider net and are left out")
    return replace(curves, curves=fitting)


def _probe(bundle: Bundle, section: PruneSection, ctx: StageContext) -> Probe:
    if ctx.calibration is not None and bundle.spec.kind != "det":
        return LineProbe(bundle, ctx.calibration, section.images)
    if ctx.score is not None:
        data = {} if ctx.calibration is None else dict(ctx.calibration.describe())
        return ScoreProbe(bundle, ctx.score, {"images": section.images, **data})
    raise UsageError(
        "sensitivity needs lines to score on",
        where="Prune.method",
        remedy="give Train or Calibration data, or use method ratio",
    )

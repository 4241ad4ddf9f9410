"""What a group's channels cost in time: its net cut alone, timed beside the whole one.

Time does not follow multiply-adds: wide early maps and depthwise convolutions take more than their share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prune.costs import CostModel
from prune.groups import Group
from prune.sensitivity import Sensitivity

LEAST = 0.1
"""A group whose saving drowns in the noise of the clock still saves this part of its multiply-adds' share."""


class TimeModel:
    """Time of a cut net as a share of the whole net's: one minus what each group saves alone.

    Args:
        saved: group -> share of the whole time that one of its channels costs.

    >>> TimeModel({"conv": 0.05}).share({"conv": 6}, {"conv": 8})
    0.9
    """

    def __init__(self, saved: Mapping[str, float]) -> None:
        self._saved = dict(saved)

    def share(self, kept: Mapping[str, int], sizes: Mapping[str, int]) -> float:
        """With ``kept`` channels left of ``sizes``; groups never timed cost nothing."""
        gone = sum(self._saved.get(name, 0.0) * (sizes[name] - left) for name, left in kept.items())
        return 1.0 - gone


def measured(
    groups: Sequence[Group],
    curves: Sensitivity,
    costs: CostModel,
    latency: Callable[[Sequence[Mapping[str, int]]], list[float]],
) -> TimeModel:
    """Cut each group alone as far as its curve goes, and time all in one run, beside the net as it is.

    Args:
        latency: choices of kept channels -> times as shares of one and the same net's; after a round of an
            iterative schedule that is not the net as it is.
    """
    ends = {g.name: curves.curves[g.name][-1].kept for g in groups if curves.curves.get(g.name)}
    sizes = {g.name: g.size for g in groups}
    cuts: list[Mapping[str, int]] = [{name: kept} for name, kept in ends.items() if kept < sizes[name]]
    here, *shares = latency([{}, *cuts]) if cuts else [1.0]
    saved = {}
    for cut, share in zip(cuts, shares, strict=True):
        ((name, kept),) = cut.items()
        least = LEAST * (1 - costs.flops(cut) / costs.flops_before)
        saved[name] = max(1.0 - share / here, least) / (sizes[name] - kept)
    return TimeModel(saved)

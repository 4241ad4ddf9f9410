"""How many channels each group keeps: one share for all, or the cheapest loss per multiply-add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prune.costs import CostModel
from prune.filters import kept_count
from prune.groups import Group
from prune.sensitivity import Point, Sensitivity
from slim.errors import UsageError

_STEPS = 16
"""A group is offered in at most this many steps, so that a wide net is solved in seconds."""
_SHIFT_WEIGHT = 0.5


@dataclass(frozen=True)
class Choice:
    """One step of the solver: all counts after it, its FLOPs, and what is expected to be lost.

    Attributes:
        kept: group name -> channels left, only groups that lose some.
        flops: multiply-adds left.
        loss: sum of the groups' relative losses.
    """

    kept: Mapping[str, int]
    flops: int
    loss: float


def by_ratio(groups: Sequence[Group], ratio: float, align: int = 1) -> dict[str, int]:
    """The same share of every group; kept counts rounded up to a multiple of ``align``."""
    counts = {g.name: kept_count(g.size, ratio, align) for g in groups}
    return {g.name: counts[g.name] for g in groups if counts[g.name] < g.size}


def greedy(
    groups: Sequence[Group],
    sensitivity: Sensitivity,
    costs: CostModel,
    align: int = 1,
) -> Iterator[Choice]:
    """From the whole net on, always the step that loses least per multiply-add removed.

    Each group is priced along the lower convex hull of its curve, so that a dear first step does not
    hide a cheap rest; between the measured points it is interpolated, and it goes no further than they.
    """
    offers = {g.name: _offers(g, sensitivity.curves.get(g.name, []), align) for g in groups}
    kept: dict[str, int] = {}
    at = dict.fromkeys(offers, 0)
    flops, loss = costs.flops_before, 0.0
    yield Choice({}, flops, loss)
    while True:
        best: tuple[float, str, int] | None = None
        for name, steps in offers.items():
            if at[name] + 1 < len(steps):
                count, cost = steps[at[name] + 1]
                saved = flops - costs.flops({**kept, name: count})
                price = (cost - steps[at[name]][1]) / max(saved, 1)
                if saved > 0 and (best is None or price < best[0]):
                    best = (price, name, saved)
        if best is None:
            return
        _, name, saved = best
        loss += offers[name][at[name] + 1][1] - offers[name][at[name]][1]
        at[name] += 1
        kept[name] = offers[name][at[name]][0]
        flops -= saved
        yield Choice(dict(kept), flops, loss)


def for_flops(choices: Sequence[Choice], target: float) -> Choice:
    """The first choice that removes ``target`` (0 to 1) of the multiply-adds.

    Raises:
        UsageError: the curves do not reach that far; the message says how far they do.
    """
    before = choices[0].flops
    for choice in choices:
        if before - choice.flops >= target * before:
            return choice
    reached = 1 - choices[-1].flops / before
    raise UsageError(
        f"cannot remove {target:.1%} of the FLOPs: the measured curves reach {reached:.1%}",
        where="Prune.flops",
        remedy="lower it, or measure larger Prune.ratios or fewer Prune.exclude",
    )


def _offers(group: Group, points: Sequence[Point], align: int) -> list[tuple[int, float]]:
    """Kept counts with their loss, falling; the first is the whole group at loss 0."""
    if not points:
        return [(group.size, 0.0)]
    known = [(group.size, 0.0)] + [(p.kept, _price(p)) for p in points]
    step = max(align, -(-group.size // (_STEPS * align)) * align)
    lowest = known[-1][0]
    counts = [c for c in range(group.size - 1, lowest - 1, -1) if c % align == 0]
    wanted = [c for i, c in enumerate(counts) if i % max(1, step // align) == 0 or c == lowest]
    return _hull([(group.size, 0.0)] + [(c, _between(known, c)) for c in wanted])


def _price(point: Point) -> float:
    """Expected damage: the metric's relative loss; the shift of the outputs decides where no line is lost.

    On few lines the metric is coarse, and the shift says more than it. Right answers of 500 lines before
    any training (128 lines measured): recognizer at 8% fewer FLOPs 85.8 with a weight of 0.05, 85.8 with
    0.2, 87.4 with 0.5; classifier at 17% fewer 74.6, 81.0, 80.4, and 80.4 with 1.0.
    """
    return max(point.loss, 0.0) + _SHIFT_WEIGHT * point.shift


def _between(known: Sequence[tuple[int, float]], count: int) -> float:
    if count == known[0][0]:
        return known[0][1]
    for (high, a), (low, b) in zip(known, known[1:], strict=False):
        if low <= count <= high:
            return a + (b - a) * (high - count) / (high - low)
    raise ValueError(f"{count} lies outside the measured counts")


def _hull(steps: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Each count with the value of the curve's lower convex hull there (made non-decreasing first).

    >>> _hull([(8, 0.0), (7, 0.4), (6, 0.5), (5, 0.9)])
    [(8, 0.0), (7, 0.25), (6, 0.5), (5, 0.9)]
    """
    rising: list[tuple[int, float]] = []
    for count, cost in steps:
        rising.append((count, max(cost, rising[-1][1]) if rising else cost))
    hull: list[tuple[int, float]] = []
    for point in rising:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) > _slope(hull[-2], point):
            hull.pop()
        hull.append(point)
    return [(count, _between(hull, count)) for count, _ in rising]


def _slope(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[1] - a[1]) / (a[0] - b[0])

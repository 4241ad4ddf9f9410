"""How many channels each group keeps under the budgets of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from prune import times
from prune.bounds import bounds
from prune.budget import Goal, Limits
from prune.costs import CostModel
from prune.groups import Group
from prune.probe import Probe
from prune.sensitivity import Keep, Sensitivity
from prune.solve import FARTHER, Choice, by_ratio, greedy, within
from prune.times import TimeModel
from slim.errors import UsageError
from slim.stage import StageContext

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import PruneSection

ALIGNS = (1, 2, 4, 8)
"""Alignments that ``Prune.align: fastest`` tries."""
SPARE = 0.03
"""Share of a latency limit that the search leaves, because a file measured twice differs by some percent."""
_EQUAL = 0.02
"""Files whose times differ by less are equally fast: of those the one that loses least is taken."""
_AT_ONCE = 6
"""Files timed beside the whole one's: each has a process of its own."""
_SCORED = "the measured curves reach"


@dataclass(frozen=True)
class Problem:
    """One net to be cut.

    Attributes:
        groups: those that may be cut.
        cut: counts by group name -> the net with these channels left.
    """

    section: PruneSection
    ctx: StageContext
    goal: Goal
    groups: Sequence[Group]
    costs: CostModel
    limits: Limits
    whole: Mapping[str, int]
    keep: Keep
    cut: Callable[[Mapping[str, int]], Bundle]

    def latency(self, kept: Sequence[Mapping[str, int]]) -> list[float]:
        """Time of each net in Paddle-Lite x86 as a share of the whole net's, all in one run."""
        return latency(self.ctx, self.goal.whole, [self.cut(counts) for counts in kept])


def choose(problem: Problem, measured: tuple[Sensitivity, Probe | None] | None) -> Mapping[str, int]:
    """Group name -> channels kept, for the groups that lose some.

    Args:
        measured: curves, and what scores a masked net; None for method ratio.
    Raises:
        UsageError: a budget or bound that cannot be held, and how far the curves reach.
    """
    align, timed = problem.section.align, None
    if measured is not None and problem.limits.latency is not None:
        timed = times.measured(problem.groups, measured[0], problem.costs, problem.latency)
    if isinstance(align, int):
        return _solved(problem, measured, align, timed).kept
    return _fastest(problem, measured, timed).kept


def latency(ctx: StageContext, whole: Bundle, cut: Sequence[Bundle]) -> list[float]:
    """Times of cut nets in Paddle-Lite x86 as shares of the whole net's, measured beside them."""
    if ctx.latencies is None:
        raise UsageError("latency is not measured here", where="Prune", remedy="give StageContext.latencies")
    found: list[float] = []
    for start in range(0, len(cut), _AT_ONCE):
        first, *others = ctx.latencies([whole, *cut[start : start + _AT_ONCE]])
        found += [seconds / first for seconds in others]
    return found


def nb_bytes(ctx: StageContext, bundle: Bundle) -> int:
    """Bytes of the ARM file of a net, as the export would write it."""
    if ctx.nb_bytes is None:
        raise UsageError("no ARM file is made here", where="Prune", remedy="give StageContext.nb_bytes")
    return ctx.nb_bytes(bundle)


def _solved(
    problem: Problem,
    measured: tuple[Sensitivity, Probe | None] | None,
    align: int,
    timed: TimeModel | None,
) -> Choice:
    section, costs, share = problem.section, problem.costs, problem.goal.share
    found = bounds(problem.groups, section.rules, align, whole=problem.whole, share=share)
    if measured is None:
        kept = by_ratio(problem.groups, section.ratio * share, found)
        params = costs.params(kept)
        return Choice(kept, costs.flops(kept), params, 1 - params / costs.params_before)
    curves, probe = measured
    path = list(greedy(problem.groups, curves, costs, found, problem.limits, timed))
    if section.max_drop is None or probe is None:
        return path[_place(problem, path)]
    return _within_drop(problem, path, curves.baseline, probe)


def _place(problem: Problem, path: Sequence[Choice]) -> int:
    """The first choice on the path that holds every limit."""
    limits = problem.limits
    place = within(path, limits, problem.costs)
    if limits.nb_bytes is not None:
        place = _first(
            path,
            place,
            lambda choice: nb_bytes(problem.ctx, problem.cut(choice.kept)),
            limits.nb_bytes,
            lambda choice: choice.params,
            lambda reached: UsageError(
                f"the ARM file cannot be {limits.nb_bytes:,} bytes: {_SCORED} {reached:,}",
                where="Prune.nb_bytes",
                remedy=f"raise it, {FARTHER}",
            ),
        )
    if limits.latency is not None:
        place = _first(
            path,
            place,
            lambda choice: problem.latency([choice.kept])[0],
            limits.latency * (1 - SPARE),
            lambda choice: choice.time,
            lambda reached: UsageError(
                f"cannot reach {limits.latency:.0%} of the unpruned time, {SPARE:.0%} to spare: "
                f"{_SCORED} {reached:.1%}",
                where="Prune.latency",
                remedy=f"raise it, {FARTHER}",
            ),
        )
    return place


def _first(
    path: Sequence[Choice],
    start: int,
    cost: Callable[[Choice], float],
    limit: float,
    proxy: Callable[[Choice], float],
    error: Callable[[float], UsageError],
) -> int:
    """The first choice from ``start`` on that costs at most ``limit``; the result was seen to.

    Each reading makes a file, so the next place is where ``proxy``, which falls along the path, says the
    limit is met; each third reading halves what is left, wherever the proxy points.
    """
    low, high = start, len(path) - 1
    above = cost(path[low])
    if above <= limit:
        return low
    if low == high:
        raise error(above)
    below = cost(path[high])
    if below > limit:
        raise error(below)
    for reading in count():
        if high - low == 1:
            break
        ahead, behind = proxy(path[low]), proxy(path[high])
        wanted = ahead - (ahead - behind) * (above - limit) / (above - below)
        guess = next((i for i in range(low + 1, high) if proxy(path[i]) <= wanted), high - 1)
        place = (low + high) // 2 if reading % 3 == 2 else guess
        found = cost(path[place])
        if found <= limit:
            high, below = place, found
        else:
            low, above = place, found
    return high


def _within_drop(problem: Problem, path: Sequence[Choice], baseline: float, probe: Probe) -> Choice:
    """The choice that holds the other limits; without any, the farthest that loses at most ``max_drop``."""
    assert problem.section.max_drop is not None
    most = problem.section.max_drop / problem.goal.rounds

    def drop(choice: Choice) -> float:
        kept = {g.name: problem.keep(g, choice.kept[g.name]) for g in problem.groups if g.name in choice.kept}
        return baseline - probe.several(problem.groups, kept).score

    if problem.limits == Limits():
        if (lost := drop(path[0])) > most:
            raise UsageError(
                f"what the rules cut at least costs {lost:.2f} points before finetuning, "
                f"at most {most:g} may go",
                where="Prune.max_drop",
                remedy="raise it, or ask less in Prune.rules",
            )
        low, high = 0, len(path)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if drop(path[middle]) <= most else (low, middle)
        return path[low]
    chosen = path[_place(problem, path)]
    if (lost := drop(chosen)) > most:
        raise UsageError(
            f"the other budgets cost {lost:.2f} points before finetuning, at most {most:g} may go",
            where="Prune.max_drop",
            remedy="raise it, ask less of the other budgets, or set them to null to cut as far as it allows",
        )
    return chosen


def _fastest(
    problem: Problem, measured: tuple[Sensitivity, Probe | None] | None, timed: TimeModel | None
) -> Choice:
    """Of the alignments that hold the budgets the one whose file is fastest."""
    found: dict[int, Choice] = {}
    nothing: Choice | None = None
    refused: UsageError | None = None
    for align in ALIGNS:
        try:
            choice = _solved(problem, measured, align, timed)
        except UsageError as error:
            refused = refused or error
            continue
        if not choice.kept:
            nothing = choice
        elif choice not in found.values():
            found[align] = choice
    if not found and nothing is not None and problem.goal.rounds > 1:
        return nothing  # the rounds before went this far already
    if not found:
        raise refused or UsageError("the recipe removes no channel", where="Prune.align")
    shares = dict(zip(found, problem.latency([choice.kept for choice in found.values()]), strict=True))
    equal = [align for align in found if shares[align] <= min(shares.values()) * (1 + _EQUAL)]
    taken = min(equal, key=lambda align: found[align].loss)
    told = ", ".join(f"{align}: {share:.1%}" for align, share in shares.items())
    problem.ctx.progress.info(f"time of the unpruned file by alignment: {told}; takes {taken}")
    return found[taken]

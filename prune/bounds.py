"""How few and how many channels each group may keep, and in what multiples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Protocol

from prune.filters import kept_count
from prune.groups import Group, excluded
from slim.errors import UsageError

_ROUNDING = 1e-9


class Rule(Protocol):
    """What is read of a `slim.config.PruneRule`."""

    @property
    def path(self) -> str: ...

    @property
    def least(self) -> float | None: ...

    @property
    def most(self) -> float | None: ...

    @property
    def align(self) -> int | None: ...


@dataclass(frozen=True)
class Bound:
    """Channels a group may keep.

    Attributes:
        whole: channels of the group before anything was cut.
        lowest, highest: of the channels kept; ``highest`` is ``size`` where nothing must go.
        align: kept channels are a multiple of this, unless the group stays as it is.
    """

    whole: int
    size: int
    lowest: int
    highest: int
    align: int = 1

    def counts(self) -> list[int]:
        """Every count that may be kept, falling.

        >>> Bound(16, 16, 6, 16, 4).counts(), Bound(16, 16, 6, 12).counts()[0]
        ([16, 12, 8], 12)
        """
        return [
            c
            for c in range(self.highest, self.lowest - 1, -1)
            if c % self.align == 0 or (c == self.size == self.highest)
        ]

    def at(self, ratio: float) -> int:
        """Channels kept when ``ratio`` of the whole group goes, within the bound.

        >>> Bound(16, 16, 14, 16).at(0.5), Bound(16, 16, 1, 8).at(0.1), Bound(16, 16, 1, 16, 4).at(0.3)
        (14, 8, 12)
        """
        counts = self.counts()
        wanted = min(kept_count(self.whole, ratio, self.align), self.size)
        return min((c for c in counts if c >= wanted), default=counts[0])


def bounds(
    groups: Sequence[Group],
    rules: Sequence[Rule],
    align: int,
    *,
    whole: Mapping[str, int] | None = None,
    share: float = 1.0,
) -> dict[str, Bound]:
    """The bound of each group.

    Args:
        align: of groups that no rule aligns.
        whole: channels of each group before any pruning of this run; shares are of these.
        share: part of ``least`` and ``most`` that a round of an iterative schedule goes, above 0 to 1.
    Raises:
        UsageError: a rule that names no group, or leaves a group no count.

    >>> from types import SimpleNamespace as Some
    >>> rule = Some(path="a", least=0.3, most=None, align=None)
    >>> bounds([Group("a", 16, (), ()), Group("b", 8, (), ())], [rule], 4)["a"]
    Bound(whole=16, size=16, lowest=1, highest=11, align=4)
    """
    unused = [rule.path for rule in rules if not any(excluded(g, [rule.path]) for g in groups)]
    if unused:
        raise UsageError(
            f"{', '.join(unused)} names no group that is pruned",
            where="Prune.rules",
            remedy="see slim prune --show-groups",
        )
    return {g.name: _bound(g, rules, align, (whole or {}).get(g.name, g.size), share) for g in groups}


def _bound(group: Group, rules: Sequence[Rule], align: int, whole: int, share: float) -> Bound:
    least, most = 0.0, 1.0
    for rule in rules:
        if excluded(group, [rule.path]):
            least = least if rule.least is None else rule.least
            most = most if rule.most is None else rule.most
            align = align if rule.align is None else rule.align
    must, may = ceil(whole * least * share - _ROUNDING), floor(whole * most * share + _ROUNDING)
    # One channel always stays: of two, a share of 0.6 rounds to both.
    found = Bound(whole, group.size, max(1, whole - may), min(group.size, max(1, whole - must)), align)
    if not found.counts():
        raise UsageError(
            f"{group.name} may keep {found.lowest} to {found.highest} of {whole} channels, and no multiple "
            f"of {align} lies there",
            where="Prune.rules",
            remedy="widen least and most, or lower align",
        )
    return found

"""What a pruned net may cost: the limits of a recipe in absolute numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import PruneSection


@dataclass(frozen=True)
class Goal:
    """What the shares of a recipe are shares of, and how far one round of it goes.

    Attributes:
        whole: the net before anything was cut.
        number, rounds: which round this is (from 1), and of how many.

    >>> Goal(None, 1, 4).share
    0.25
    """

    whole: Bundle
    number: int = 1
    rounds: int = 1

    @property
    def share(self) -> float:
        """Part of the way from the whole net to the recipe's limits."""
        return self.number / self.rounds


@dataclass(frozen=True)
class Limits:
    """Most a net may cost; None where nothing is asked.

    Attributes:
        flops: multiply-adds of one input.
        params: parameters.
        nb_bytes: of the ARM file.
        latency: time in Paddle-Lite x86 as a share of the whole net's.
    """

    flops: int | None = None
    params: int | None = None
    nb_bytes: int | None = None
    latency: float | None = None

    def counted(self, flops: int, params: int) -> bool:
        """Whether the costs that need no file are within their limits."""
        return (self.flops is None or flops <= self.flops) and (self.params is None or params <= self.params)

    def wanted(self, flops: int, params: int) -> tuple[bool, bool]:
        """Whether a net of these costs should save multiply-adds, and parameters.

        >>> Limits(flops=90, params=50).wanted(80, 60), Limits().wanted(80, 60)
        ((False, True), (True, False))
        >>> Limits(latency=0.5).wanted(80, 60)  # time itself is what counts
        (False, False)
        """
        above = (
            self.flops is not None and flops > self.flops,
            self.nb_bytes is not None or (self.params is not None and params > self.params),
        )
        if any(above) or self.latency is not None:
            return above
        both = self.flops is not None or self.params is None, self.params is not None
        return both


def limits(section: PruneSection, flops: int, params: int, nb_bytes: int | None, share: float) -> Limits:
    """The limits of a recipe, ``share`` of the way to them.

    Args:
        flops, params, nb_bytes: of the whole net; the bytes are read only where the recipe limits them and
            ``share`` is below 1.

    >>> from slim.config import PruneSection
    >>> limits(PruneSection(flops=0.4, latency=0.6), 1000, 10, None, 0.5)
    Limits(flops=800, params=None, nb_bytes=None, latency=0.8)
    """
    size = section.nb_bytes
    if size is not None and nb_bytes is not None:
        size = floor(nb_bytes - (nb_bytes - size) * share) if size < nb_bytes else size
    return Limits(
        flops=None if section.flops is None else floor(flops * (1 - section.flops * share)),
        params=None if section.params is None else floor(params * (1 - section.params * share)),
        nb_bytes=size,
        latency=None if section.latency is None else 1 - (1 - section.latency) * share,
    )

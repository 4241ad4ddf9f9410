"""Sets of tied channels under construction: a union-find whose nodes carry layers and reasons.

A *space* is one set of ``size`` channels; layers that make, carry or read it are its members. Two
spaces are tied when an op needs them channel by channel (a sum, a gate, a second call of a layer).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Member:
    """One side of one layer that has the channels of a space.

    Channel ``c`` of the space is the indices ``offset + c * repeat + (0 .. repeat - 1)`` of that side:
    ``offset`` counts the channels before it in a concat, ``repeat`` the positions a flatten gives it.

    Attributes:
        path: the layer's attribute path.
        side: "out", "in" or "hidden" (units of an LSTM), as in `slim.arch.cuts`.
        role: "producer" (makes the channels), "follower" (works channel by channel: depthwise,
            BatchNorm), "consumer" (mixes them into others) or "recurrent" (an LSTM, which makes its
            hidden units and reads them again).
    """

    path: str
    side: str
    role: str
    offset: int = 0
    repeat: int = 1


@dataclass(frozen=True)
class Block:
    """A run of a space's channels on an axis: ``size * repeat`` indices."""

    space: int
    size: int
    repeat: int = 1

    @property
    def width(self) -> int:
        return self.size * self.repeat


@dataclass
class Space:
    """What is known of one set of channels."""

    size: int
    members: dict[Member, None] = field(default_factory=dict)
    pins: dict[str, None] = field(default_factory=dict)


class Spaces:
    """All spaces of a net; the earliest space of a tied set stands for it."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._spaces: list[Space] = []

    def new(self, size: int) -> int:
        """A fresh space of ``size`` channels."""
        self._parent.append(len(self._parent))
        self._spaces.append(Space(size))
        return len(self._parent) - 1

    def root(self, number: int) -> int:
        """The number that stands for the tied set."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def __getitem__(self, number: int) -> Space:
        return self._spaces[self.root(number)]

    def roots(self) -> list[int]:
        """One number per tied set, in the order the net makes them."""
        return [n for n in range(len(self._parent)) if self.root(n) == n]

    def tie(self, a: int, b: int) -> None:
        """Make two spaces of equal size one, channel by channel."""
        first, second = sorted((self.root(a), self.root(b)))
        if first == second:
            return
        self._parent[second] = first
        self._spaces[first].members.update(self._spaces[second].members)
        self._spaces[first].pins.update(self._spaces[second].pins)

    def tie_blocks(self, a: tuple[Block, ...], b: tuple[Block, ...], what: str) -> None:
        """Tie two axes block by block; axes that are split otherwise are pinned with a reason."""
        if [(x.size, x.repeat) for x in a] == [(x.size, x.repeat) for x in b]:
            for x, y in zip(a, b, strict=True):
                self.tie(x.space, y.space)
            return
        self.pin((*a, *b), f"{what} joins channels that are split in different ways")

    def pin(self, blocks: Iterable[Block], reason: str) -> None:
        """Channels that must stay, and why."""
        for block in blocks:
            self[block.space].pins.setdefault(reason)

    def add(self, blocks: Iterable[Block], path: str, side: str, role: str) -> None:
        """A layer whose side is made of ``blocks``, in this order."""
        offset = 0
        for block in blocks:
            self[block.space].members.setdefault(Member(path, side, role, offset, block.repeat))
            offset += block.width

    def has(self, blocks: Iterable[Block], path: str, side: str) -> bool:
        """Whether each block already counts that side of that layer among its members."""
        return all(
            any(m.path == path and m.side == side for m in self[block.space].members) for block in blocks
        )

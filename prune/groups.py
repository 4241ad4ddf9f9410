"""Groups: every set of channels that can only be removed together.

Examples: all layers on a residual sum; an expand conv with its depthwise conv, BatchNorms and the
gate of its squeeze-excite; the channels an LSTM reads through a squeeze and a transpose; the hidden
units of an LSTM. These are one group for all its layers and directions, because paddle gives them one
``hidden_size``: channel k is unit k of each of them, read by every ``weight_hh``, by the ``weight_ih`` of the
layers above and by what follows the LSTM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from paddle import nn

from prune.flow import Follower
from prune.spaces import Member
from prune.trace import trace
from slim.errors import UsageError

Cuts = dict[str, dict[str, list[int]]]
INPUT = "(input)"
"""Name of the group of the network's input channels, which no layer makes."""
_MAKING, _READING = ("producer", "recurrent"), ("consumer", "recurrent")


@dataclass(frozen=True)
class Group:
    """One set of tied channels.

    Attributes:
        name: path of the first layer that makes the channels.
        size: how many there are.
        members: every layer side that has them; see `prune.spaces.Member`.
        reasons: why the channels must stay; empty for a group that may be pruned.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    reasons: tuple[str, ...]

    @property
    def prunable(self) -> bool:
        return not self.reasons

    @property
    def producers(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.role in _MAKING)

    @property
    def consumers(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.role in _READING)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `slim prune --show-groups --json` prints it."""
        return {
            "name": self.name,
            "size": self.size,
            "prunable": self.prunable,
            "reasons": list(self.reasons),
            "members": [dict(m.__dict__) for m in self.members],
        }


def find_groups(net: nn.Layer, input_shape: Sequence[int]) -> tuple[Group, ...]:
    """All groups of a net, in the order their channels are made; nothing in the net changes.

    Args:
        input_shape: C, H, W of one input.

    >>> net = nn.Sequential(nn.Conv2D(3, 8, 3), nn.BatchNorm2D(8), nn.ReLU(), nn.Conv2D(8, 2, 1))
    >>> [(g.name, g.size, g.prunable) for g in find_groups(net, (3, 8, 8))]
    [('(input)', 3, False), ('0', 8, True), ('3', 2, False)]
    """
    graph = trace(net, input_shape)
    spaces, shipped = Follower(graph).run(), graph.inference_layers()
    groups = []
    for number in spaces.roots():
        space = spaces[number]
        if not space.members:
            continue
        reasons = list(space.pins)
        if not reasons and space.size == 1:
            reasons = ["it has one channel"]
        if not reasons and not any(m.role == "consumer" for m in space.members):
            reasons = ["no layer reads it"]
        makers = [m.path for m in space.members if m.role in _MAKING]
        if not reasons and makers and shipped.isdisjoint(makers):
            reasons = ["only training runs it, so a cut of it makes no file smaller"]
        groups.append(Group(makers[0] if makers else INPUT, space.size, tuple(space.members), tuple(reasons)))
    return tuple(groups)


def by_name(groups: Sequence[Group], name: str) -> Group:
    """The group of that name; UsageError naming the known ones."""
    for group in groups:
        if group.name == name:
            return group
    raise UsageError(f"no group is named {name!r}", remedy="slim prune --show-groups lists them")


def excluded(group: Group, globs: Sequence[str]) -> bool:
    """Whether a glob names the group or a layer that makes its channels.

    >>> from prune.spaces import Member
    >>> g = Group("a.conv", 4, (Member("a.conv", "out", "producer"),), ())
    >>> excluded(g, ["b.*"]), excluded(g, ["a.*"])
    (False, True)
    """
    paths = {group.name, *(m.path for m in group.members if m.side != "in")}
    return any(fnmatchcase(path, glob) for path in paths for glob in globs)


def cuts_for(groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> Cuts:
    """What `slim.arch.cuts.apply_cuts` needs so that only the kept channels stay.

    Args:
        groups: all groups of the net: a concat also needs the widths of those that stay whole.
        kept: group name -> kept channels, rising; groups that are not named stay whole.

    >>> from prune.spaces import Member as M
    >>> a = Group("a", 2, (M("a", "out", "producer"), M("c", "in", "consumer", 0)), ())
    >>> b = Group("b", 2, (M("b", "out", "producer"), M("c", "in", "consumer", 2)), ())
    >>> cuts_for((a, b), {"b": [1]})
    {'b': {'out': [1]}, 'c': {'in': [0, 1, 3]}}
    """
    touched = {(m.path, m.side) for g in groups if g.name in kept for m in g.members}
    runs: dict[tuple[str, str], list[tuple[int, list[int]]]] = {}
    for group in groups:
        channels = kept.get(group.name, range(group.size))
        for member in group.members:
            if (member.path, member.side) in touched:
                indices = [
                    member.offset + c * member.repeat + r for c in channels for r in range(member.repeat)
                ]
                runs.setdefault((member.path, member.side), []).append((member.offset, indices))
    cuts: Cuts = {}
    for (path, side), pieces in sorted(runs.items()):
        cuts.setdefault(path, {})[side] = [i for _, indices in sorted(pieces) for i in indices]
    return cuts

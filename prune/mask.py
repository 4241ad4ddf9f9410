"""The masked net: pruned channels silenced where they are read, the shapes unchanged.

Zeroing the weights of every layer that reads a channel takes exactly that channel's contribution
away, whatever lies between (a sigmoid of 0 is not 0, the weight of 0 is). A masked net costs nothing
to make and nothing to undo, so sensitivity is measured on it; and a pruned net must equal it, which
proves that a plan cuts what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from paddle import nn

from prune.groups import Group
from prune.readers import Reader, readers


def silence(net: nn.Layer, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> None:
    """Zero what reads the channels that are not kept; the net's shapes stay.

    Args:
        kept: group name -> kept channels; groups that are not named are left alone.
    """
    layers = dict(net.named_sublayers())
    for group in groups:
        if group.name in kept:
            gone = np.setdiff1d(np.arange(group.size), np.asarray(kept[group.name]))
            for reader in _readers(layers, group):
                value = reader.tensor.numpy()
                np.moveaxis(value, reader.axis, 0)[reader.indices[gone].ravel()] = 0.0
                reader.tensor.set_value(value)


@contextmanager
def masked(net: nn.Layer, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> Iterator[nn.Layer]:
    """The net with the groups that ``kept`` names masked, restored bit by bit when the block ends."""
    layers = dict(net.named_sublayers())
    touched = {r.tensor.name: r.tensor for g in groups if g.name in kept for r in _readers(layers, g)}
    saved = [(tensor, tensor.numpy()) for tensor in touched.values()]
    try:
        silence(net, groups, kept)
        yield net
    finally:
        for tensor, value in saved:
            tensor.set_value(value)


def _readers(layers: Mapping[str, nn.Layer], group: Group) -> list[Reader]:
    return [r for member in group.consumers for r in readers(layers[member.path], member, group.size)]

"""The masked net: pruned channels silenced where they are read, the shapes unchanged.

Zeroing the weights of every layer that reads a channel takes exactly that channel's contribution
away, whatever lies between (a sigmoid of 0 is not 0, the weight of 0 is). A masked net costs nothing
to make and nothing to undo, so sensitivity is measured on it; and a pruned net must equal it, which
proves that a plan cuts what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from paddle import nn

from prune.groups import Group
from prune.spaces import Member
from slim.errors import UnsupportedModel


def silence(net: nn.Layer, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> None:
    """Zero what reads the channels that are not kept; the net's shapes stay.

    Args:
        kept: group name -> kept channels; groups that are not named are left alone.
    """
    layers = dict(net.named_sublayers())
    for group in groups:
        if group.name in kept:
            gone = np.setdiff1d(np.arange(group.size), np.asarray(kept[group.name]))
            for member in group.consumers:
                _zero(layers[member.path], member, gone)


@contextmanager
def masked(net: nn.Layer, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> Iterator[nn.Layer]:
    """The net with the groups that ``kept`` names masked, restored bit by bit when the block ends."""
    layers = dict(net.named_sublayers())
    paths = {m.path: None for g in groups if g.name in kept for m in g.consumers}
    saved = [(tensor, tensor.numpy()) for path in paths for tensor, _ in _readers(layers[path], path)]
    try:
        silence(net, groups, kept)
        yield net
    finally:
        for tensor, value in saved:
            tensor.set_value(value)


def _zero(layer: nn.Layer, member: Member, gone: np.ndarray) -> None:
    indices = (member.offset + gone[:, None] * member.repeat + np.arange(member.repeat)).ravel()
    for tensor, axis in _readers(layer, member.path):
        value = tensor.numpy()
        np.moveaxis(value, axis, 0)[indices] = 0.0
        tensor.set_value(value)


def _readers(layer: nn.Layer, path: str) -> list[tuple[Any, int]]:
    """Weights of a layer that meet its input channels, with the axis they lie on."""
    if isinstance(layer, nn.Conv2D):
        return [(layer.weight, 1)]
    if isinstance(layer, (nn.Conv2DTranspose, nn.Linear)):
        return [(layer.weight, 0)]
    if isinstance(layer, nn.LSTM):
        directions = ("", "_reverse")[: layer.num_directions]
        return [(getattr(layer, f"weight_ih_l0{tail}"), 1) for tail in directions]
    raise UnsupportedModel(f"{path} is a {type(layer).__name__}, whose inputs cannot be masked")

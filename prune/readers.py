"""The weights that read a group's channels: what masking zeroes, and what a gradient criterion weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from paddle import nn

from prune.spaces import Member
from slim.errors import UnsupportedModel

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reader:
    """A tensor that meets the channels along one of its axes.

    Attributes:
        name: the tensor's attribute in its layer.
        tensor: the paddle parameter.
        axis: where the channels lie.
        indices: int64, channels x places: the indices of each channel along ``axis``.
    """

    name: str
    tensor: Any
    axis: int
    indices: Index

    def rows(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """``values`` (shaped as the tensor) by channel: float32, channels x weights that read it."""
        return np.moveaxis(values, self.axis, 0)[self.indices].reshape(len(self.indices), -1)


def readers(layer: nn.Layer, member: Member, size: int) -> list[Reader]:
    """Every tensor of ``layer`` through which ``member`` reads the ``size`` channels of its group.

    A conv or linear layer reads them in its weight, an LSTM its input in the first layer's ``weight_ih``
    (one for each direction), and its own hidden units in every ``weight_hh`` and in the ``weight_ih`` of
    the layers above, where each direction's units stand one behind the other.

    Raises:
        UnsupportedModel: a layer whose inputs cannot be masked.

    >>> (only,) = readers(nn.Linear(6, 2), Member("fc", "in", "consumer", offset=2, repeat=2), 2)
    >>> only.name, only.axis, only.indices.tolist()
    ('weight', 0, [[2, 3], [4, 5]])
    """
    places = member.offset + np.arange(size)[:, None] * member.repeat + np.arange(member.repeat)
    if isinstance(layer, nn.Conv2D):
        return [Reader("weight", layer.weight, 1, places)]
    if isinstance(layer, (nn.Conv2DTranspose, nn.Linear)):
        return [Reader("weight", layer.weight, 0, places)]
    if isinstance(layer, nn.LSTM):
        names = [f"weight_ih_l0{tail}" for tail in directions(layer)]
        if member.side != "hidden":
            return [Reader(name, getattr(layer, name), 1, places) for name in names]
        return _hidden(layer, places)
    raise UnsupportedModel(f"{member.path} is a {type(layer).__name__}, whose inputs cannot be masked")


def directions(layer: nn.LSTM) -> tuple[str, ...]:
    """What paddle appends to the names of each direction's weights."""
    return ("", "_reverse")[: layer.num_directions]


def _hidden(layer: nn.LSTM, units: Index) -> list[Reader]:
    both = np.concatenate([units + d * layer.hidden_size for d in range(layer.num_directions)], axis=1)
    found = []
    for number in range(layer.num_layers):
        for tail in directions(layer):
            own, above = f"weight_hh_l{number}{tail}", f"weight_ih_l{number}{tail}"
            found.append(Reader(own, getattr(layer, own), 1, units))
            if number:
                found.append(Reader(above, getattr(layer, above), 1, both))
    return found

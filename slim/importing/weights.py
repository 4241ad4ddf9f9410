"""From paired layers to the weights of our net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slim.errors import UnsupportedModel
from slim.importing.graph import NORM, Node, Tensor
from slim.importing.match import Pairs

State = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Recovered:
    """Weights by the names of our net, and how many BatchNorms had been folded into their convolution."""

    state: State
    folded: int


def recover(pairs: Pairs, where: str) -> Recovered:
    """The source's weights under our names.

    A folded BatchNorm becomes one that changes nothing (scale 1, mean 0, variance 1 - epsilon) but adds the
    bias of the convolution: the net computes the same, its statistics are not those of the training.

    Raises:
        UnsupportedModel: a weight that is not float32.
    """
    state: State = {}
    folded = 0
    for ours, other in pairs:
        for tensor in other.tensors.values():
            if tensor.array.dtype != np.float32:
                raise UnsupportedModel(
                    f"{tensor.name!r} is {tensor.array.dtype}, must be float32", where=where,
                    remedy="import the float model it was made from",
                )  # fmt: skip
        found = {key: tensor.array for key, tensor in other.tensors.items()}
        if ours.has_norm and not other.has_norm:
            folded += 1
            found |= _unfolded(ours, found)
        if "bias" in ours.tensors and "bias" not in found:
            found["bias"] = np.zeros_like(ours.tensors["bias"].array)
        for key, tensor in ours.tensors.items():
            state[tensor.name] = _fitting(found[key], tensor)
    return Recovered(state, folded)


def _unfolded(ours: Node, found: State) -> State:
    """A BatchNorm that does nothing: scale / sqrt(variance + epsilon) is exactly 1 in float32."""
    scale = ours.tensors["scale"].array
    one, zero = np.ones_like(scale), np.zeros_like(scale)
    variance = one - np.float32(ours.attrs["epsilon"])
    shift = zero if "bias" in ours.tensors else found.get("bias", zero)
    return dict(zip(NORM, (one, shift, zero, variance), strict=True))


def _fitting(array: npt.NDArray[Any], wanted: Tensor) -> npt.NDArray[Any]:
    if array.shape != wanted.array.shape:
        raise UnsupportedModel(
            f"has {list(array.shape)} numbers for {wanted.name!r}, the net {list(wanted.array.shape)}"
        )
    return array.copy()

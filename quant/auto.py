"""Calibrator "auto": of the clips the calibrators propose for a tensor, the one its layer suffers least from.

The error of a clip c for a layer with weights W, summed over the probe images:

    E(c) = sum over images, positions and channels k of ( g_k * (W^ * q_c(x) - W * x)_k )**2

where x are the layer's float inputs, q_c rounds them to the grid of c, W^ are the weights on their own
grid, and g_k is the factor of the BatchNorm behind the layer (1 without one): a channel that the
BatchNorm makes small may be wrong by more. The bias cancels. The least E wins; of equal ones the first in
the order of `quant.calibrators.CALIBRATORS`, which begins with the widest.

Each layer is judged on float inputs and alone, so the order of layers has no effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from quant.layers import by_channel, from_rows, nearest, product, rounded_input, rows
from quant.scheme import LayerScheme, QuantScheme
from quant.watch import watch

if TYPE_CHECKING:
    from quant.follow import Behind

PROBE = 32
"""Images that judge; the clips themselves come from all calibration images."""


def choose(
    net: nn.Layer,
    scheme: QuantScheme,
    proposed: Mapping[str, Mapping[str, float]],
    batches: Iterable[npt.NDArray[np.float32]],
    following: Mapping[str, Behind],
) -> dict[str, str]:
    """Path -> name of the calibrator with the least output error.

    Args:
        net: the float net, in eval mode.
        proposed: path -> calibrator -> clip, each above zero.
        batches: probe images, float32 N x C x H x W.
        following: what stands behind each layer (`quant.follow.behind`).
    """
    layers = dict(net.named_sublayers())
    judges = {la.path: _Judge(layers[la.path], la, proposed[la.path]) for la in scheme.layers}
    for path, judge in judges.items():
        after = following.get(path)
        if after is not None and after.batch_norm is not None:
            judge.factor = batch_norm_factor(layers[after.batch_norm])
    watch(net, judges, batches)
    return {path: judge.best() for path, judge in judges.items()}


def batch_norm_factor(layer: nn.Layer) -> npt.NDArray[np.float64]:
    """What a BatchNorm in eval mode multiplies each channel by: weight / sqrt(variance + epsilon)."""
    variance = layer._variance.numpy().astype(np.float64)
    scaled: npt.NDArray[np.float64] = layer.weight.numpy() / np.sqrt(variance + layer._epsilon)
    return scaled


class _Judge:
    """Adds up the error of each proposed clip of one layer."""

    def __init__(self, layer: nn.Layer, scheme: LayerScheme, clips: Mapping[str, float]) -> None:
        self.scheme, self.clips = scheme, clips
        self.factor: npt.NDArray[np.float64] | None = None
        self.rounded = from_rows(layer, nearest(rows(layer), scheme.weight_bits))
        self.errors = dict.fromkeys(clips.values(), 0.0)

    def __call__(self, layer: nn.Layer, x: paddle.Tensor) -> None:
        exact = product(layer, x, layer.weight)
        for clip in self.errors:
            used = rounded_input(x, clip, self.scheme.activation_bits)
            off = product(layer, used, self.rounded) - exact
            if self.factor is not None:
                off = off * by_channel(layer, self.factor)
            self.errors[clip] += float(paddle.square(off).sum())

    def best(self) -> str:
        return min(self.clips, key=lambda name: self.errors[self.clips[name]])

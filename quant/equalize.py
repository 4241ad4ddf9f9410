"""Cross-layer equalization: channels of one activation are given like ranges, without changing the net.

Where a layer's output reaches one other layer alone, through BatchNorm and ReLU at most, channel i may be
divided by s_i > 0 on its way: ReLU(x / s) = ReLU(x) / s. The first layer (or the BatchNorm behind it) is
divided by s_i, the second layer's weights on channel i are multiplied by it; the net computes the same.
Source: Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", arXiv
1906.04721, section 4.1: s_i = sqrt(r1_i * r2_i) / r2_i, r1 and r2 being the ranges of channel i in the
first and second weights.

Here weights have a scale for each output channel, so the range that the first layer's weights would have
is not what costs: the activation between has one scale for all channels. So r1_i is the range of channel i
of that activation, measured (as Xiao et al. 2022, "SmoothQuant", arXiv 2211.10438, equation 4 with
alpha 1/2). A second layer that is depthwise has a scale for each channel of its own, its r2 costs nothing
either, and s_i = r1_i / max(r1) makes all channels equal. s is normalised so that the activation's
largest value stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from quant.watch import watch

if TYPE_CHECKING:
    from quant.follow import Behind

Vector = npt.NDArray[np.float64]
# A channel is widened at most so many times: one that is nearly silent on the calibration images need not be
# silent on others.
_MOST = 16.0


def pairs(scheme_paths: Iterable[str], following: Mapping[str, Behind], net: nn.Layer) -> dict[str, str]:
    """First layer -> second layer, where equalizing is legal and the second layer is quantized."""
    quantized = set(scheme_paths)
    layers = dict(net.named_sublayers())
    found = {}
    for path, after in following.items():
        if after.feeds in quantized and _has_channels(layers[after.feeds]):
            found[path] = after.feeds
    return found


def factors(activation: Vector, weights: Vector | None) -> Vector:
    """What each channel is divided by.

    Args:
        activation: C, largest |x| of each channel.
        weights: C, largest |w| the second layer has on the channel; None where it is depthwise.

    >>> factors(np.array([8.0, 2.0]), None)
    array([1.  , 0.25])
    >>> factors(np.array([4.0, 1.0]), np.array([1.0, 4.0]))  # sqrt(4 / 1) = 2, sqrt(1 / 4) = 0.5
    array([1.  , 0.25])
    """
    usable = activation > 0
    if weights is not None:
        usable &= weights > 0
    if not usable.any():
        return np.ones_like(activation)
    ratio = activation if weights is None else activation / np.where(weights > 0, weights, 1.0)
    raw = np.where(usable, ratio if weights is None else np.sqrt(ratio), np.nan)
    # The largest value after division is that before it.
    raw *= np.nanmax(np.where(usable, activation / raw, np.nan)) / activation.max()
    raw = np.where(usable, raw, 1.0)
    return np.asarray(np.clip(raw, 1.0 / _MOST, _MOST))


def equalize(
    net: nn.Layer,
    chosen: Mapping[str, str],
    following: Mapping[str, Behind],
    batches: Iterable[npt.NDArray[np.float32]],
) -> None:
    """Rescale the pairs of ``chosen`` in place, in the net's order; outputs stay but for float rounding.

    Args:
        net: a float net in eval mode.
        batches: images the activations' ranges are measured on.
    """
    layers = dict(net.named_sublayers())
    ranges = _ranges(net, set(chosen.values()), batches)
    # In the net's order, so that a second layer's changed weights are what the next pair starts from. The
    # ranges stay right: dividing one activation leaves all others as they were.
    for first, second in chosen.items():
        target = layers[second]
        scale = factors(ranges[second], _column_ranges(target))
        after = following[first].batch_norm
        _divide(layers[first], layers[after] if after is not None else None, scale)
        _multiply(target, scale)


def _ranges(net: nn.Layer, paths: set[str], batches: Iterable[npt.NDArray[np.float32]]) -> dict[str, Vector]:
    found: dict[str, Vector] = {}

    def measure(path: str, layer: nn.Layer, x: paddle.Tensor) -> None:
        axes = list(range(x.ndim - 1)) if isinstance(layer, nn.Linear) else [0, 2, 3]
        seen = np.asarray(x.abs().max(axis=axes).numpy(), np.float64)
        found[path] = np.maximum(found[path], seen) if path in found else seen

    watch(net, {path: partial(measure, path) for path in paths}, batches)
    return found


def _has_channels(layer: nn.Layer) -> bool:
    """Whether each input channel has weights of its own: not so in a grouped layer that is not depthwise."""
    return _is_depthwise(layer) or getattr(layer, "_groups", 1) == 1


def _is_depthwise(layer: nn.Layer) -> bool:
    return isinstance(layer, nn.Conv2D) and 1 < layer._groups == len(layer.weight)


def _column_ranges(layer: nn.Layer) -> Vector | None:
    """Largest |w| on each input channel; None for a depthwise layer."""
    if _is_depthwise(layer):
        return None
    weight = np.abs(layer.weight.numpy().astype(np.float64))
    return np.asarray(weight.max(axis=1) if isinstance(layer, nn.Linear) else weight.max(axis=(0, 2, 3)))


def _divide(first: nn.Layer, batch_norm: nn.Layer | None, scale: Vector) -> None:
    if batch_norm is not None:
        tensors = [(batch_norm.weight, scale), (batch_norm.bias, scale)]
    else:
        shape = [1, -1] if isinstance(first, nn.Linear) else [-1, 1, 1, 1]
        tensors = [(first.weight, scale.reshape(shape))]
        if first.bias is not None:
            tensors.append((first.bias, scale))
    for tensor, by in tensors:
        tensor.set_value((tensor.numpy() / by).astype(np.float32))


def _multiply(second: nn.Layer, scale: Vector) -> None:
    if isinstance(second, nn.Linear):
        by = scale[:, None]
    elif _is_depthwise(second):
        by = scale[:, None, None, None]
    else:
        by = scale[None, :, None, None]
    second.weight.set_value((second.weight.numpy() * by).astype(np.float32))

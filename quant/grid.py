"""Proof that a layer is quantized: what it computes with lies on a grid of so many steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import paddle

from quant.paddle_qat import INPUT
from quant.scheme import LayerScheme
from quant.wrap import quantized_weight

if TYPE_CHECKING:
    from paddle import nn

# Steps: float32 rounding of step * k for k <= 127 stays below 127 * 2**-23, three orders under this;
# values that were never rounded are off by 0.25 steps on average.
TOLERANCE = 0.01
_PROBES = 1024


def steps(bits: int) -> int:
    """Steps on each side of zero.

    >>> steps(8), steps(4)
    (127, 7)
    """
    return 2 ** (bits - 1) - 1


def off_grid(values: npt.NDArray[np.float32], clip: npt.NDArray[np.float32], bits: int) -> float:
    """Largest distance of a value to the grid, in steps; values outside the grid count in full.

    A step is clip / (2**(bits-1) - 1), so the grid holds at most 2**bits - 1 values (255 at 8 bits).

    Args:
        values: C x anything; row c is measured on the grid of clip[c].
        clip: C; a clip of 0 allows zeros only.

    >>> off_grid(np.array([[0.0, 1.0, 2.5]], np.float32), np.array([127.0], np.float32), 8)
    0.5
    """
    rows = values.reshape(len(clip), -1).astype(np.float64)
    step = np.where(clip > 0, clip, 1.0).astype(np.float64)[:, None] / steps(bits)
    grid = rows / step
    limit = np.where(clip > 0, steps(bits), 0)[:, None]
    nearest = np.clip(np.round(grid), -limit, limit)
    return float(np.abs(grid - nearest).max())


def weight_error(wrapper: nn.Layer, layer: LayerScheme) -> float:
    """Distance in steps of the weights a layer computes with to its grid, worst channel."""
    used, stored = quantized_weight(wrapper), wrapper.weight.numpy()
    if layer.type == "Linear":
        used, stored = used.T, stored.T
    clip = np.abs(stored.reshape(len(stored), -1)).max(axis=1).astype(np.float32)
    return off_grid(used, clip, layer.weight_bits)


def input_error(wrapper: nn.Layer, layer: LayerScheme, clip: float) -> float:
    """Distance in steps of the inputs a layer computes with to its grid, on values in and out of range."""
    probe = np.linspace(-1.5 * clip, 1.5 * clip, _PROBES, dtype=np.float32)
    quantizer = getattr(wrapper, INPUT)
    with paddle.no_grad():
        used = quantizer(paddle.to_tensor(probe)).numpy()
    return off_grid(used[None, :], np.array([clip], np.float32), layer.activation_bits)

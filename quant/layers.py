"""What one quantized layer computes, in pieces: its inputs and weights on their grids, its product."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn
from paddle.nn import functional as F

from quant.grid import steps

Rows = npt.NDArray[np.float64]


def rounded_input(x: paddle.Tensor, clip: float, bits: int) -> paddle.Tensor:
    """x on the grid of its clip: round(x / s), cut at the last step, times s; s = clip / steps.

    >>> rounded_input(paddle.to_tensor([0.4, 0.6, 9.0]), 3.0, bits=3).tolist()
    [0.0, 1.0, 3.0]
    """
    step = clip / steps(bits)
    return paddle.clip(paddle.round(x / step), -steps(bits), steps(bits)) * step


def rows(layer: nn.Layer) -> Rows:
    """The weights with one output channel a row: float64, out x K (a conv's K is in/groups * kh * kw)."""
    weight = np.asarray(layer.weight.numpy(), np.float64)
    return weight.T if isinstance(layer, nn.Linear) else weight.reshape(len(weight), -1)


def from_rows(layer: nn.Layer, matrix: Rows) -> paddle.Tensor:
    """The inverse of `rows`: a float32 tensor of the layer's weight shape."""
    shaped = matrix.T if isinstance(layer, nn.Linear) else matrix.reshape(layer.weight.shape)
    return paddle.to_tensor(np.ascontiguousarray(shaped, np.float32))


def on_grid(whole: Rows, largest: npt.NDArray[np.float64], bits: int) -> Rows:
    """Whole steps back to weights; a row's largest keeps its exact value.

    PaddleSlim takes max |w| of the channel as its scale, so weights written back like this have the
    scale they were rounded with, and rounding them again changes nothing.

    Args:
        whole: out x K, whole numbers of steps; at least one of each row is +-steps(bits).
        largest: out; max |w| of each row before rounding.
    """
    limit = steps(bits)
    return np.where(
        np.abs(whole) == limit, np.sign(whole) * largest[:, None], whole * (largest / limit)[:, None]
    )


def nearest(matrix: Rows, bits: int) -> Rows:
    """Each row on its own grid of max |w| / steps, rounded to the nearest step.

    >>> nearest(np.array([[1.0, -3.0, 0.4]]), bits=3)
    array([[ 1., -3.,  0.]])
    """
    largest = np.abs(matrix).max(axis=1)
    step: Rows = np.where(largest > 0, largest, 1.0)[:, None] / steps(bits)
    whole: Rows = np.rint(matrix / step)
    return on_grid(whole, largest, bits)


def product(layer: nn.Layer, x: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """The layer's convolution or matrix product with other weights, without its bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(
        x,
        weight,
        stride=layer._stride,
        padding=layer._updated_padding,
        dilation=layer._dilation,
        groups=layer._groups,
    )


def by_channel(layer: nn.Layer, values: npt.NDArray[np.float64]) -> paddle.Tensor:
    """Per output channel numbers in a shape that broadcasts against the layer's output."""
    shape = [-1] if isinstance(layer, nn.Linear) else [1, -1, 1, 1]
    return paddle.to_tensor(np.asarray(values, np.float32)).reshape(shape)


def channel_mean(layer: nn.Layer, output: paddle.Tensor) -> npt.NDArray[np.float64]:
    """Mean of each output channel over images and positions."""
    axes = list(range(output.ndim - 1)) if isinstance(layer, nn.Linear) else [0, 2, 3]
    return np.asarray(output.mean(axis=axes).numpy(), np.float64)

"""Depthwise convolution as banded matrix products: what makes training on a CPU quick.

Paddle 2.6.2 computes a depthwise conv and its gradients pixel by pixel on a CPU: most of a training step.
Here the output of one channel is cut into tiles of ``TILE`` rows x columns. The pixels a tile reads, times
a matrix that holds the filter once for every pixel of the tile (zeros elsewhere), give the tile, so that
BLAS does the work; most products are with zeros and it is still several times faster
(``benchmarks/training.py``). Gradients are products with the same matrices::

    y = X B(w)        dX = dY B(w)^T        dB = X^T dY, summed where B holds the same tap of the filter

Sums run in another order than Paddle's, so that results differ by float32 rounding.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn
from paddle.autograd import PyLayer
from paddle.nn.quant.quant_layers import QuantizedConv2D

Floats = npt.NDArray[np.float32]
Pair = tuple[int, int]
Cut = tuple[slice, slice]

TILE = (4, 16)  # rows and columns; the fastest of 2 to 8 x 8 to 32 on lines 128 wide
# Floats of input tiles worked on at once: they and what is made of them stay in the second level cache.
BLOCK = 1 << 17


class Geometry(NamedTuple):
    """Input size and the conv's own numbers, each height before width."""

    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair


class Site(NamedTuple):
    """One tile: where its pixels are in the input, in the padded window, and in the output."""

    source: Cut
    window: Cut
    target: Cut
    inside: Cut


class Tiling:
    """How planes of one size are cut, and the matrices that belong to it.

    Attributes:
        out: rows and columns of the output.
        window: rows and columns that one tile reads.
        taps: (kh * kw) x (window pixels * tile pixels), 0 or 1: the products that a tap takes part in.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = size, kernel, stride, padding = geometry
        self.out = tuple((size[d] + 2 * padding[d] - kernel[d]) // stride[d] + 1 for d in (0, 1))
        # Few rows are one tile; the rows of padding are then left out of the window.
        self.whole = self.out[0] <= TILE[0]
        self.tile = (min(self.out[0], TILE[0]), TILE[1])
        reach = [(self.tile[d] - 1) * stride[d] + kernel[d] for d in (0, 1)]
        self.window = (size[0] if self.whole else reach[0], reach[1])
        self.sites = list(self._sites())
        self.taps = _taps(kernel, stride, padding[0] if self.whole else 0, self.window, self.tile)

    def _top(self, tile: int) -> int:
        _, _, stride, padding = self.geometry
        return 0 if self.whole else tile * self.tile[0] * stride[0] - padding[0]

    def _sites(self) -> Iterator[Site]:
        size, _, stride, padding = self.geometry
        for row in range(-(-self.out[0] // self.tile[0])):
            for column in range(-(-self.out[1] // self.tile[1])):
                start = (self._top(row), column * self.tile[1] * stride[1] - padding[1])
                first = (row * self.tile[0], column * self.tile[1])
                low = [max(0, start[d]) for d in (0, 1)]
                high = [max(low[d], min(size[d], start[d] + self.window[d])) for d in (0, 1)]
                end = [min(self.out[d], first[d] + self.tile[d]) for d in (0, 1)]
                yield Site(
                    (slice(low[0], high[0]), slice(low[1], high[1])),
                    (
                        slice(low[0] - start[0], high[0] - start[0]),
                        slice(low[1] - start[1], high[1] - start[1]),
                    ),
                    (slice(first[0], end[0]), slice(first[1], end[1])),
                    (slice(0, end[0] - first[0]), slice(0, end[1] - first[1])),
                )


@lru_cache(maxsize=64)
def _taps(kernel: Pair, stride: Pair, above: int, window: Pair, tile: Pair) -> Floats:
    taps = np.zeros((*kernel, *window, *tile), np.float32)
    for i, j, row, column in np.ndindex(*kernel, *tile):
        y = row * stride[0] + i - above
        if 0 <= y < window[0]:
            taps[i, j, y, column * stride[1] + j, row, column] = 1.0
    return taps.reshape(kernel[0] * kernel[1], -1)


@lru_cache(maxsize=1024)
def tiling(geometry: Geometry) -> Tiling:
    """The tiling of a size, made once: text lines come in many widths."""
    return Tiling(geometry)


class _Scratch:
    """Tiles of a block of channels; pixels of padding stay zero from block to block."""

    def __init__(self, tiles: Tiling, count: int, channels: int) -> None:
        self.tiles, sites = tiles, len(tiles.sites)
        pixels = count * sites * tiles.window[0] * tiles.window[1]
        step = max(1, min(channels, BLOCK // pixels))
        self.blocks = [slice(at, min(at + step, channels)) for at in range(0, channels, step)]
        self.windows = np.zeros((step, count, sites, *tiles.window), np.float32)
        self.parts = np.zeros((step, count, sites, *tiles.tile), np.float32)

    def read(self, x: Floats) -> Floats:
        """C x N x H x W -> C x (N * tiles) x window pixels."""
        windows = self.windows[: len(x)]
        for k, site in enumerate(self.tiles.sites):
            windows[:, :, k, site.window[0], site.window[1]] = x[:, :, site.source[0], site.source[1]]
        return windows.reshape(len(x), windows.shape[1] * windows.shape[2], -1)

    def read_out(self, y: Floats) -> Floats:
        """C x N x H' x W' -> C x (N * tiles) x tile pixels."""
        parts = self.parts[: len(y)]
        for k, site in enumerate(self.tiles.sites):
            parts[:, :, k, site.inside[0], site.inside[1]] = y[:, :, site.target[0], site.target[1]]
        return parts.reshape(len(y), parts.shape[1] * parts.shape[2], -1)


def _band(tiles: Tiling, weight: Floats) -> Floats:
    flat = weight.reshape(len(weight), -1) @ tiles.taps
    return flat.reshape(len(weight), tiles.window[0] * tiles.window[1], -1)


def forward(tiles: Tiling, x: Floats, weight: Floats, out: Floats) -> None:
    """Convolve ``x`` (N x C x H x W) with ``weight`` (C x 1 x kh x kw) into ``out`` (N x C x H' x W')."""
    scratch = _Scratch(tiles, *x.shape[:2])
    band, planes, results = _band(tiles, weight), x.transpose(1, 0, 2, 3), out.transpose(1, 0, 2, 3)
    for block in scratch.blocks:
        windows = scratch.read(planes[block])
        parts = scratch.parts[: len(windows)]
        np.matmul(windows, band[block], out=parts.reshape(*windows.shape[:2], -1))
        for k, site in enumerate(tiles.sites):
            inside = parts[:, :, k, site.inside[0], site.inside[1]]
            results[block, :, site.target[0], site.target[1]] = inside


def backward(tiles: Tiling, x: Floats, weight: Floats, grad: Floats, grad_x: Floats) -> Floats:
    """Gradients for ``grad`` (N x C x H' x W'): of ``x`` into ``grad_x``; that of ``weight`` is returned."""
    scratch = _Scratch(tiles, *x.shape[:2])
    turned = _band(tiles, weight).transpose(0, 2, 1)
    grad_band = np.empty(turned.transpose(0, 2, 1).shape, np.float32)
    planes, grads, results = (a.transpose(1, 0, 2, 3) for a in (x, grad, grad_x))
    spread = np.empty_like(scratch.windows)
    for block in scratch.blocks:
        parts = scratch.read_out(grads[block])
        np.matmul(scratch.read(planes[block]).transpose(0, 2, 1), parts, out=grad_band[block])
        windows = spread[: len(parts)]
        np.matmul(parts, turned[block], out=windows.reshape(*parts.shape[:2], -1))
        result = results[block]
        result[...] = 0.0
        for k, site in enumerate(tiles.sites):
            result[:, :, site.source[0], site.source[1]] += windows[:, :, k, site.window[0], site.window[1]]
    return (grad_band.reshape(len(weight), -1) @ tiles.taps.T).reshape(weight.shape)


def _view(tensor: paddle.Tensor) -> Floats:
    """The memory of a contiguous float32 CPU tensor; use it only while the tensor is held."""
    pointer = ctypes.cast(tensor.data_ptr(), ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, shape=tuple(tensor.shape))


class _Depthwise(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, stride: Pair, padding: Pair
    ) -> paddle.Tensor:
        # Paddle insists on None for what needs no gradient.
        ctx.wanted = not x.stop_gradient, not weight.stop_gradient
        x, weight = x.contiguous(), weight.contiguous()
        geometry = Geometry(tuple(x.shape[2:]), tuple(weight.shape[2:]), stride, padding)
        tiles = tiling(geometry)
        out = paddle.empty([*x.shape[:2], *tiles.out], "float32")
        forward(tiles, _view(x), _view(weight), _view(out))
        ctx.tiles = tiles
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        x, weight = ctx.saved_tensor()
        grad = grad.contiguous()
        grad_x = paddle.empty(x.shape, "float32")
        grad_weight = backward(ctx.tiles, _view(x), _view(weight), _view(grad), _view(grad_x))
        found = grad_x, paddle.to_tensor(grad_weight)
        return found[0] if ctx.wanted[0] else None, found[1] if ctx.wanted[1] else None


def conv(x: paddle.Tensor, weight: paddle.Tensor, stride: Pair, padding: Pair) -> paddle.Tensor:
    """Depthwise convolution with zero padding, differentiable in both.

    Args:
        x: float32 N x C x H x W. weight: float32 C x 1 x kh x kw.
        stride, padding: height before width.
    Returns:
        float32 N x C x H' x W'.

    >>> conv(paddle.ones([1, 1, 1, 3]), paddle.full([1, 1, 1, 3], 2.0), (1, 1), (0, 1)).tolist()
    [[[[4.0, 6.0, 4.0]]]]
    """
    return _Depthwise.apply(x, weight, stride, padding)


@contextmanager
def quick_depthwise(*nets: nn.Layer | None) -> Iterator[None]:
    """Depthwise convs of these nets run by ``conv`` inside the block; names, state and classes stay.

    Covers ``nn.Conv2D`` and Paddle's quantized one, in float32 on the CPU with zero padding and without
    dilation. Every other layer, and everything outside the block, runs as ever.
    """
    layers = [la for net in nets if net is not None for la in net.sublayers(include_self=True) if fits(la)]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def fits(layer: nn.Layer) -> bool:
    """Whether ``conv`` computes what this layer does."""
    if not isinstance(layer, (nn.Conv2D, QuantizedConv2D)):
        return False
    channels, per_group = layer.weight.shape[:2]
    return (
        layer._groups == channels > 1
        and per_group == 1
        and _pair(layer._dilation) == (1, 1)
        and _pair(layer._padding) is not None
        and layer._padding_mode == "zeros"
        and layer._data_format == "NCHW"
        and layer.weight.dtype == paddle.float32
        and layer.weight.place.is_cpu_place()
    )


def _pair(value: Any) -> Pair | None:
    """An int or two as (height, width); None for padding by name or side by side."""
    if isinstance(value, int):
        return value, value
    whole = not isinstance(value, str) and len(value) == 2 and all(isinstance(v, int) for v in value)
    return (value[0], value[1]) if whole else None


def _forward(layer: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    stride, padding = _pair(layer._stride), _pair(layer._padding)
    assert stride is not None and padding is not None
    y = conv(*_operands(layer, x), stride, padding)
    return y if layer.bias is None else y + layer.bias.reshape([1, -1, 1, 1])


def _operands(layer: nn.Layer, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """What is convolved: input and weight, rounded to their grids where the layer is quantized."""
    if isinstance(layer, nn.Conv2D):
        return x, layer.weight
    if layer._act_preprocess is not None:
        x = layer._act_preprocess(x)
    return layer._fake_quant_input(x), layer._fake_quant_weight(layer.weight)

"""Convolutions, float and int8: conv2d, depthwise_conv2d, conv2d_transpose.

Sources: ``lite/operators/conv_op.{h,cc}`` (attributes, output size), ``lite/kernels/arm/conv_gemmlike.cc``
and ``conv_depthwise.cc`` (scales and bias), ``lite/backends/arm/math/gemm_prepacked_int8.cc`` (rounding),
``lite/kernels/arm/conv_transpose_compute.cc``.

int8 values travel as integers in float32. A sum of products stays exact in float32, in any order, while
sum(|w|) * 127 < 2**24 for each output channel; where weights are larger than that the sum is cut into parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from export.nb.activations import fused
from export.nb.finish import Finish
from export.nb.ops import Env, Site, Step, handles

Array = np.ndarray
_EXACT = 1 << 24
# Outputs computed at once, so that sums and tiles stay in the cache.
_BLOCK = 1 << 16
_TILE = 16
_MAX_STEP = 64


@dataclass(frozen=True)
class Geometry:
    """Strides (h, w), dilations (h, w) and padding (top, bottom, left, right), in pixels."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    paddings: tuple[int, int, int, int]
    algorithm: str = "EXPLICIT"

    def padding(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Padding for an input size (UpdatePaddingAndDilation in ``lite/operators/conv_op.cc``)."""
        if self.algorithm == "VALID":
            return (0, 0, 0, 0)
        if self.algorithm != "SAME":
            return self.paddings
        pads: list[int] = []
        for size, kernel, stride in zip((height, width), self.kernel, self.strides, strict=True):
            total = max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return pads[0], pads[1], pads[2], pads[3]

    def output(self, height: int, width: int) -> tuple[int, int]:
        top, bottom, left, right = self.padding(height, width)
        rows = (height + top + bottom - self.dilations[0] * (self.kernel[0] - 1) - 1) // self.strides[0] + 1
        cols = (width + left + right - self.dilations[1] * (self.kernel[1] - 1) - 1) // self.strides[1] + 1
        return rows, cols


def geometry(site: Site, kernel: tuple[int, int]) -> Geometry:
    """Read the attributes; two paddings mean (h, w), four (top, bottom, left, right)."""
    strides, dilations = site.integers("strides"), site.integers("dilations", (1, 1))
    paddings = site.integers("paddings")
    if len(paddings) == 2:
        paddings = [paddings[0], paddings[0], paddings[1], paddings[1]]
    whole = len(strides) == len(dilations) == 2 and len(paddings) == 4
    if not whole or min(strides + dilations) < 1 or max(strides + dilations) > _MAX_STEP or min(paddings) < 0:
        raise site.unsupported(f"strides {strides}, dilations {dilations}, paddings {paddings}")
    reach = [spread * (size - 1) + 1 for spread, size in zip(dilations, kernel, strict=True)]
    if max(paddings[:2]) > reach[0] or max(paddings[2:]) > reach[1]:
        raise site.unsupported(f"paddings {paddings} are wider than the filter")
    algorithm = site.text("padding_algorithm", "EXPLICIT")
    if algorithm == "SAME":
        dilations = [1, 1]
    return Geometry(
        kernel, (strides[0], strides[1]), (dilations[0], dilations[1]),
        (paddings[0], paddings[1], paddings[2], paddings[3]), algorithm,
    )  # fmt: skip


def padded(x: Array, pads: tuple[int, int, int, int]) -> Array:
    """Zero padding of N x C x H x W (for int8 the zero is int8 0)."""
    top, bottom, left, right = pads
    if not any(pads):
        return x
    n, c, h, w = x.shape
    out = np.zeros((n, c, h + top + bottom, w + left + right), x.dtype)
    out[:, :, top : top + h, left : left + w] = x
    return out


def taps(x: Array, geo: Geometry) -> Callable[[int, int], Array]:
    """Views of the padded input, one per kernel position: N x C x H' x W'."""
    h, w = x.shape[2:]
    rows, cols = geo.output(h, w)
    wide = padded(x, geo.padding(h, w))
    (sh, sw), (dh, dw) = geo.strides, geo.dilations

    def tap(i: int, j: int) -> Array:
        top, left = i * dh, j * dw
        return wide[:, :, top : top + sh * (rows - 1) + 1 : sh, left : left + sw * (cols - 1) + 1 : sw]

    return tap


def exact_parts(weight: Array) -> list[slice]:
    """Cuts the K axis of int8 weights (rows x K) so that each part's sums are exact in float32."""
    k = weight.shape[1]
    if not k or float(np.abs(weight).sum(1).max(initial=0)) * 127 < _EXACT:
        return [slice(0, k)]
    step = _EXACT // (128 * 127)
    return [slice(at, min(at + step, k)) for at in range(0, k, step)]


def product(weight: Array, columns: Array, parts: list[slice]) -> Array:
    """weight (O x K) times columns (N x K x L), float32; sums of parts are added in float64, exact there.

    The device holds the sum as int32 and converts it to float32, to the nearest (``scvtf`` in
    ``lite/backends/arm/math/gemm_prepacked_int8.cc``), before it scales: so does this.
    """
    if len(parts) == 1:
        return np.matmul(weight, columns)
    total = np.zeros((columns.shape[0], weight.shape[0], columns.shape[2]), np.float64)
    for part in parts:
        total += np.matmul(np.ascontiguousarray(weight[:, part]), columns[:, part])
    return total.astype(np.float32)


class DenseSum:
    """Sums of a conv with any number of groups by im2col and BLAS: N x C x H x W -> N x O x H' x W'."""

    def __init__(self, site: Site, weight: Array, geo: Geometry, groups: int) -> None:
        self.site, self.geo, self.groups = site, geo, groups
        out, per_group, self.kh, self.kw = weight.shape
        self.channels = per_group * groups
        flat = weight.reshape(out, -1).astype(np.float32)
        self.weights = [np.ascontiguousarray(part) for part in np.split(flat, groups)]
        self.parts = [
            exact_parts(part) if site.is_int8 else [slice(0, part.shape[1])] for part in self.weights
        ]
        self.pointwise = (self.kh, self.kw, *geo.strides, *geo.paddings) == (1, 1, 1, 1, 0, 0, 0, 0)

    def __call__(self, x: Array) -> Array:
        rows, cols = self.geo.output(x.shape[2], x.shape[3])
        columns = self._columns(x, rows, cols)
        n = x.shape[0]
        if self.groups == 1:
            return self._one(columns, rows, cols)
        split = np.split(columns, self.groups, axis=1)
        sums = [product(w, c, p) for w, c, p in zip(self.weights, split, self.parts, strict=True)]
        return np.concatenate(sums, axis=1).reshape(n, -1, rows, cols)

    def _one(self, columns: Array, rows: int, cols: int) -> Array:
        n, k, length = columns.shape
        weight, parts = self.weights[0], self.parts[0]
        if length == 1:  # squeeze-excite: one matrix product for the whole batch instead of n vector products
            flat = columns.reshape(1, n, k).transpose(0, 2, 1)
            return product(weight, flat, parts)[0].T.reshape(n, -1, rows, cols)
        return product(weight, columns, parts).reshape(n, -1, rows, cols)

    def _columns(self, x: Array, rows: int, cols: int) -> Array:
        n, c = x.shape[:2]
        if self.pointwise:
            return x.reshape(n, c, rows * cols)
        self.site.check_size((n, c, self.kh, self.kw, rows, cols))
        tap = taps(x, self.geo)
        columns = np.empty((n, c, self.kh * self.kw, rows, cols), np.float32)
        for i in range(self.kh):
            for j in range(self.kw):
                columns[:, :, i * self.kw + j] = tap(i, j)
        return columns.reshape(n, c * self.kh * self.kw, rows * cols)


class DepthwiseSum:
    """Sums of a depthwise conv (groups = channels = outputs) as banded matrix products, one per channel.

    A row of the output is cut into tiles of 16 pixels. The pixels that a tile needs, kh rows of ``reach``
    pixels, times a matrix that holds the filter shifted by 0..15 pixels give the tile. The added products
    are with zeros, so that integer sums stay exact; BLAS does this 2 to 3 times faster than a pass per
    kernel position.
    """

    def __init__(self, site: Site, weight: Array, geo: Geometry) -> None:
        self.site, self.geo = site, geo
        self.channels, _, self.kh, self.kw = weight.shape
        step, spread = geo.strides[1], geo.dilations[1]
        self.reach = (_TILE - 1) * step + (self.kw - 1) * spread + 1
        site.check_size((self.channels, self.kh, self.reach, _TILE))
        band = np.zeros((self.channels, self.kh, self.reach, _TILE), np.float32)
        for pixel in range(_TILE):
            for j in range(self.kw):
                band[:, :, pixel * step + j * spread, pixel] = weight[:, 0, :, j]
        self.band = band.reshape(self.channels, self.kh * self.reach, _TILE)

    def __call__(self, x: Array) -> Array:
        rows, cols = self.geo.output(x.shape[2], x.shape[3])
        tiles = self._tiles(x, rows, -(-cols // _TILE))
        sums = np.matmul(tiles, self.band).reshape(self.channels, x.shape[0], rows, -1)
        return sums[..., :cols].transpose(1, 0, 2, 3)

    def _tiles(self, x: Array, rows: int, tiles: int) -> Array:
        """The input of each tile: C x (N * rows * tiles) x (kh * reach)."""
        n, c, h, w = x.shape
        top, bottom, left, right = self.geo.padding(h, w)
        (sh, sw), dh = self.geo.strides, self.geo.dilations[0]
        width = max(w + left + right, (tiles - 1) * _TILE * sw + self.reach)
        wide = np.zeros((c, n, h + top + bottom, width), np.float32)
        wide[:, :, top : top + h, left : left + w] = x.transpose(1, 0, 2, 3)
        per_c, per_n, per_h, per_w = wide.strides
        windows = np.lib.stride_tricks.as_strided(
            wide, (c, n, rows, tiles, self.kh, self.reach),
            (per_c, per_n, per_h * sh, per_w * _TILE * sw, per_h * dh, per_w), writeable=False,
        )  # fmt: skip
        return windows.reshape(c, n * rows * tiles, self.kh * self.reach)


def check_input(site: Site, x: Array, channels: int, geo: Geometry) -> tuple[int, int]:
    """Output rows and columns of an input that fits the filter."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise site.unsupported(
            f"input of shape {list(x.shape)} does not fit a filter for {channels} channels"
        )
    rows, cols = geo.output(x.shape[2], x.shape[3])
    if rows < 1 or cols < 1:
        raise site.unsupported(f"an input of {x.shape[2]} x {x.shape[3]} pixels is smaller than the filter")
    top, bottom, left, right = geo.padding(x.shape[2], x.shape[3])
    site.check_size((x.shape[0], x.shape[1], x.shape[2] + top + bottom, x.shape[3] + left + right))
    return rows, cols


def channel_scales(site: Site, name: str, channels: int) -> Array:
    """One scale per output channel; a single one holds for all."""
    scales = site.scales(name)
    if scales.size not in (1, channels):
        raise site.unsupported(f"{name} has {scales.size} scales for {channels} channels")
    return np.broadcast_to(scales, (channels,)).astype(np.float32)


def out_scale_of(site: Site, name: str, int8_alias: str, float_alias: str) -> np.float32 | None:
    """The output scale of an int8 kernel that writes int8; None where it writes floats."""
    alias = site.kernel.alias
    if alias == int8_alias:
        return site.scale(name)
    if alias != float_alias:
        raise site.unsupported(f"int8 kernel {site.kernel.text!r} is not known")
    return None


def filter_of(site: Site) -> Array:
    """The filter O x I/g x kh x kw, int8 exactly where the kernel is."""
    weight = site.param("Filter")
    wanted = np.dtype(np.int8) if site.is_int8 else np.dtype(np.float32)
    if weight.ndim != 4 or weight.dtype != wanted or 0 in weight.shape:
        raise site.unsupported(
            f"filter of shape {list(weight.shape)} and type {weight.dtype} for {site.kernel.text!r}"
        )
    return weight


def bias_of(site: Site, channels: int) -> Array | None:
    """The bias, one float per output channel, or None."""
    name = site.optional("Bias")
    if name is None:
        return None
    bias = site.params.get(name)
    if bias is None or bias.dtype != np.float32 or bias.size not in (1, channels):
        raise site.unsupported(f"bias {name!r} is no float parameter of {channels} values")
    return np.broadcast_to(bias.reshape(-1), (channels,)).astype(np.float32)


@handles("conv2d", "depthwise_conv2d")
def conv2d(site: Site) -> Step:
    """Input N x C x H x W, Filter O x C/g x kh x kw, Bias O -> Output N x O x H' x W'."""
    weight, groups = filter_of(site), site.integer("groups")
    if site.inputs("ResidualData") or site.op.attr("fuse_elementwise_op_type"):
        raise site.unsupported("a fused second input is not known")
    out = weight.shape[0]
    if groups < 1 or out % groups:
        raise site.unsupported(f"{groups} groups for {out} output channels")
    geo = geometry(site, (weight.shape[2], weight.shape[3]))
    depthwise = groups == out and weight.shape[1] == 1 and groups > 1
    sums = DepthwiseSum(site, weight, geo) if depthwise else DenseSum(site, weight, geo, groups)
    source, target = site.input("Input"), site.output("Output")
    finish = _finish(site, out)

    def step(env: Env) -> None:
        x = env[source]
        rows, cols = check_input(site, x, weight.shape[1] * groups, geo)
        y = np.empty((x.shape[0], out, rows, cols), np.float32)
        # A few images at a time, so that sums are finished while they are in the cache.
        size = max(1, _BLOCK // (out * rows * cols))
        for at in range(0, x.shape[0], size):
            finish(sums(x[at : at + size]), y[at : at + size])
        env[target] = y

    return step


def _finish(site: Site, channels: int) -> Finish:
    bias = bias_of(site, channels)
    if not site.is_int8:
        return Finish(None, bias, fused(site), None, 2)
    out_scale = out_scale_of(site, "Output0_scale", "int8_out", "fp32_out")
    scale = channel_scales(site, "Filter0_scale", channels) * site.scale("Input0_scale")
    return Finish(scale, bias, fused(site, out_scale), out_scale, 2)


@handles("conv2d_transpose", "depthwise_conv2d_transpose")
def conv2d_transpose(site: Site) -> Step:
    """Input N x C x H x W, Filter C x O/g x kh x kw -> Output N x O x H' x W'; float only.

    The int8 kernel is refused: opt writes wrong scales for it when a BN follows (measured).
    """
    if site.is_int8:
        raise site.unsupported("the int8 kernel of a transposed conv is not known; keep it in float")
    weight, groups = filter_of(site), site.integer("groups", 1)
    channels, per_group, kh, kw = weight.shape
    geo = geometry(site, (kh, kw))
    if groups < 1 or channels % groups or geo.dilations != (1, 1) or geo.algorithm != "EXPLICIT":
        raise site.unsupported(f"groups {groups}, dilations {geo.dilations} or padding {geo.algorithm}")
    extra = [*site.integers("output_padding", ()), 0, 0][:2]
    size = site.integers("output_size", ())
    source, target = site.input("Input"), site.output("Output")
    finish = Finish(None, bias_of(site, per_group * groups), fused(site), None, 2)
    flat = weight.reshape(groups, channels // groups, per_group * kh * kw).transpose(0, 2, 1).copy()

    def step(env: Env) -> None:
        x = env[source]
        n, c, h, w = x.shape
        if c != channels:
            raise site.unsupported(f"{c} channels for a filter of {channels}")
        site.check_size((n, groups * per_group, kh, kw, h, w))
        columns = np.matmul(flat, x.reshape(n, groups, channels // groups, h * w))
        columns = columns.reshape(n, groups * per_group, kh, kw, h, w)
        y = _scatter(site, columns, geo, (extra[0], extra[1]), size)
        finish(y, y)
        env[target] = y

    return step


def _scatter(site: Site, columns: Array, geo: Geometry, extra: tuple[int, int], size: list[int]) -> Array:
    """Adds the products of each kernel position to their output pixels (col2im)."""
    n, c, kh, kw, h, w = columns.shape
    (sh, sw), (top, bottom, left, right) = geo.strides, geo.paddings
    site.check_size((n, c, (h - 1) * sh + kh + extra[0], (w - 1) * sw + kw + extra[1]))
    full = np.zeros((n, c, (h - 1) * sh + kh + extra[0], (w - 1) * sw + kw + extra[1]), np.float32)
    for i in range(kh):
        for j in range(kw):
            full[:, :, i : i + sh * (h - 1) + 1 : sh, j : j + sw * (w - 1) + 1 : sw] += columns[:, :, i, j]
    rows, cols = full.shape[2] - top - bottom, full.shape[3] - left - right
    if len(size) == 2 and min(size) > 0:
        rows, cols = min(rows, size[0]), min(cols, size[1])
    return np.ascontiguousarray(full[:, :, top : top + rows, left : left + cols])

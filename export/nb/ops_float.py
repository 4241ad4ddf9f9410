"""Operators that always run in float: elementwise, pooling, batch norm, softmax, scale, interpolation.

Sources are named per function; all are files of Paddle-Lite v2.13-rc.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.nb.activations import by_name
from export.nb.device_math import Math
from export.nb.ops import Env, Site, Step, handles
from export.nb.ops_conv import Geometry, geometry

Array = np.ndarray
_BINARY: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum,
    "min": np.minimum,
}  # fmt: skip


@handles(
    *(f"elementwise_{name}" for name in _BINARY), *(f"fusion_elementwise_{n}_activation" for n in _BINARY)
)
def elementwise(site: Site) -> Step:
    """X op Y, Y aligned to X from ``axis`` on (-1: to the end); ``kernels/arm/elementwise_compute.cc``."""
    function = _BINARY[site.op.type.removeprefix("fusion_").split("_")[1]]
    axis = site.integer("axis", -1)
    activation = by_name(site, "act_type") if site.op.type.startswith("fusion_") else None
    if site.op.attr("fuse_scale", False):
        raise site.unsupported("a fused scale is not known")
    left, right, target = site.input("X"), site.input("Y"), site.output("Out")

    def step(env: Env) -> None:
        x, y = env[left], env[right]
        if axis >= 0 and 0 < y.ndim < x.ndim:
            y = y.reshape(y.shape + (1,) * (x.ndim - axis - y.ndim))
        site.check_size(np.broadcast_shapes(x.shape, y.shape))
        out = function(x, y)
        env[target] = out if activation is None else activation(out)

    return step


@handles("scale")
def scale(site: Site) -> Step:
    """x * scale + bias, or (x + bias) * scale; ``lite/kernels/arm/scale_compute.cc``."""
    if site.inputs("ScaleTensor") or site.op.attr("fuse_scaleact"):
        raise site.unsupported("a scale read from a tensor, or a fused second scale, is not known")
    factor, bias = np.float32(site.number("scale")), np.float32(site.number("bias"))
    if not site.op.attr("bias_after_scale", True):
        bias = np.float32(bias * factor)
    activation = by_name(site, "activation_type")
    source, target = site.input("X"), site.output("Out")

    def step(env: Env) -> None:
        x = env[source]
        if x.dtype != np.float32:
            env[target] = x * x.dtype.type(factor) + x.dtype.type(bias)
            return
        out = x * factor
        out += bias
        env[target] = out if activation is None else activation(out)

    return step


@handles("batch_norm")
def batch_norm(site: Site) -> Step:
    """Y = X * (Scale / sqrt(Variance + epsilon)) + rest, per channel;
    ``lite/kernels/arm/batch_norm_compute.cc``.

    Only Y is written: in inference the other outputs share names with parameters or live tensors.
    """
    mean, variance = site.param("Mean"), site.param("Variance")
    epsilon = np.float32(site.number("epsilon"))
    factor = site.param("Scale") / np.sqrt(variance + epsilon)
    offset = site.param("Bias") - mean * factor
    source, target = site.input("X"), site.output("Y")

    def step(env: Env) -> None:
        x = env[source]
        shape = (-1,) + (1,) * (x.ndim - 2)
        out = x * factor.reshape(shape)
        out += offset.reshape(shape)
        env[target] = out

    return step


@handles("softmax")
def softmax(site: Site) -> Step:
    """Softmax along ``axis``; ``lite/backends/arm/math/softmax.cc``.

    Along the last axis with more than 4 values: the polynomial exp for whole groups of four, the C library's
    for the rest, as the device does; up to 4 values the C library's for all.
    """
    axis = site.integer("axis", -1)
    source, target = site.input("X"), site.output("Out")

    def step(env: Env) -> None:
        x = env[source]
        at = axis % x.ndim
        shifted = x - x.max(axis=at, keepdims=True)
        e = _exp_groups(shifted, site.math) if at == x.ndim - 1 else np.exp(shifted)
        e *= np.float32(1) / e.sum(axis=at, keepdims=True)
        env[target] = e

    return step


def _exp_groups(x: Array, math: Math) -> Array:
    """exp of each row: groups of four by the polynomial, the tail by the C library."""
    whole = x.shape[-1] // 4 * 4 if x.shape[-1] > 4 else 0
    out = np.empty_like(x)
    if whole:
        out[..., :whole] = math.exp(x[..., :whole])
    np.exp(x[..., whole:], out=out[..., whole:])
    return out


@handles("pool2d")
def pool2d(site: Site) -> Step:
    """Max or average over windows of N x C x H x W.

    ``lite/backends/arm/math/pooling.cc``, ``lite/operators/pool_op.cc``.
    """
    kind, source, target = site.text("pooling_type"), site.input("X"), site.output("Out")
    ksize = site.integers("ksize")
    if kind not in ("max", "avg"):
        raise site.unsupported(f"pooling {kind!r} is not known")
    everything = bool(site.op.attr("global_pooling", False))
    if site.op.attr("adaptive", False):
        everything = everything or ksize == [1, 1]
        if not everything:
            raise site.unsupported(f"adaptive pooling to {ksize} is not known")
    if everything:
        return _global_pool(kind, source, target)
    window = _Windows(site, ksize)

    def step(env: Env) -> None:
        env[target] = window.maximum(env[source]) if kind == "max" else window.average(env[source])

    return step


def _global_pool(kind: str, source: str, target: str) -> Step:
    def step(env: Env) -> None:
        x = env[source]
        n, c = x.shape[:2]
        flat = x.reshape(n, c, -1)
        out = flat.max(axis=2) if kind == "max" else flat.mean(axis=2, dtype=np.float32)
        env[target] = out.reshape(n, c, 1, 1)

    return step


class _Windows:
    """Sliding windows of one pool op."""

    def __init__(self, site: Site, ksize: list[int]) -> None:
        if len(ksize) != 2 or not 0 < min(ksize) <= max(ksize) < 4096:
            raise site.unsupported(f"window {ksize} makes no sense")
        self.site, self.geo = site, geometry(site, (ksize[0], ksize[1]))
        self.ceil = bool(site.op.attr("ceil_mode", False))
        self.exclusive = bool(site.op.attr("exclusive", True))

    def _size(self, x: Array) -> tuple[int, int, tuple[int, int, int, int]]:
        """Output size, and the padding widened so that each window lies inside."""
        geo: Geometry = self.geo
        top, bottom, left, right = geo.padding(x.shape[2], x.shape[3])
        sizes = []
        for size, kernel, stride, pads in (
            (x.shape[2], geo.kernel[0], geo.strides[0], top + bottom),
            (x.shape[3], geo.kernel[1], geo.strides[1], left + right),
        ):
            span = size - kernel + pads + (stride - 1 if self.ceil else 0)
            sizes.append(span // stride + 1)
        if min(sizes) < 1:
            raise self.site.unsupported(
                f"an input of {x.shape[2]} x {x.shape[3]} pixels is smaller than the window"
            )
        bottom = max(bottom, (sizes[0] - 1) * geo.strides[0] + geo.kernel[0] - x.shape[2] - top)
        right = max(right, (sizes[1] - 1) * geo.strides[1] + geo.kernel[1] - x.shape[3] - left)
        return sizes[0], sizes[1], (top, bottom, left, right)

    def _reduce(self, x: Array, fill: float, function: Callable[..., Array]) -> Array:
        rows, cols, (top, bottom, left, right) = self._size(x)
        n, c, h, w = x.shape
        wide = np.full((n, c, h + top + bottom, w + left + right), fill, np.float32)
        wide[:, :, top : top + h, left : left + w] = x
        (sh, sw), (kh, kw) = self.geo.strides, self.geo.kernel
        out: Array | None = None
        for i in range(kh):
            for j in range(kw):
                tap = wide[:, :, i : i + sh * (rows - 1) + 1 : sh, j : j + sw * (cols - 1) + 1 : sw]
                out = tap.copy() if out is None else function(out, tap, out=out)
        assert out is not None
        return out

    def maximum(self, x: Array) -> Array:
        """The largest value of each window; padding never wins."""
        return self._reduce(x, -np.inf, np.maximum)

    def average(self, x: Array) -> Array:
        """The mean of each window, over pixels only (exclusive) or over the padding too."""
        total = self._reduce(x, 0.0, np.add)
        rows, cols, _ = self._size(x)
        total /= np.outer(self._counts(x, 0, rows), self._counts(x, 1, cols)).astype(np.float32)
        return total

    def _counts(self, x: Array, axis: int, windows: int) -> Array:
        """How many pixels (or, not exclusive, pixels and padding) each window covers along an axis."""
        before, after = self.geo.padding(x.shape[2], x.shape[3])[2 * axis : 2 * axis + 2]
        size = x.shape[2 + axis]
        start = np.arange(windows) * self.geo.strides[axis] - before
        end = np.minimum(start + self.geo.kernel[axis], size + after)
        if self.exclusive:
            start, end = np.maximum(start, 0), np.minimum(end, size)
        return np.maximum(end - start, 1)


@handles("nearest_interp", "nearest_interp_v2")
def nearest(site: Site) -> Step:
    """Nearest neighbour to a size or by factors; ``lite/backends/arm/math/interpolate.cc``.

    The source pixel is int(i * in/out); with align_corners int(i * (in-1)/(out-1) + 0.5).
    """
    if site.inputs("SizeTensor") or site.inputs("OutSize") or site.inputs("Scale"):
        raise site.unsupported("a size read from a tensor is not known")
    align = bool(site.op.attr("align_corners", False))
    size = (site.integer("out_h", -1), site.integer("out_w", -1))
    factors = _factors(site)
    source, target = site.input("X"), site.output("Out")

    def step(env: Env) -> None:
        x = env[source]
        extents = [int(x.shape[2 + axis] * factors[axis]) if factors else size[axis] for axis in (0, 1)]
        if min(extents) < 1:
            raise site.unsupported(f"output size {extents}")
        site.check_size((x.shape[0], x.shape[1], *extents))
        rows, cols = (_sources(x.shape[2 + axis], extents[axis], align) for axis in (0, 1))
        env[target] = np.take(np.take(x, rows, axis=2), cols, axis=3)

    return step


def _factors(site: Site) -> tuple[float, float] | None:
    value = site.op.attr("scale", ())
    given = [float(v) for v in value] if isinstance(value, tuple) else [float(value)]  # type: ignore[arg-type]
    given = [v for v in given if v > 0]
    if not given:
        return None
    return given[0], given[-1]


def _sources(size: int, out: int, align: bool) -> Array:
    if align:
        step = np.float32((size - 1) / (out - 1)) if out > 1 else np.float32(0)
        return (step * np.arange(out, dtype=np.float32) + 0.5).astype(np.int64)
    step = np.float32(size) / np.float32(out)
    return np.minimum((step * np.arange(out, dtype=np.float32)).astype(np.int64), size - 1)

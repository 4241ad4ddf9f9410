"""Matrix products: fc (from matmul_v2 + add), matmul, matmul_v2, mul, and calib around the int8 ones.

Sources: ``lite/operators/fc_op.cc``, ``lite/kernels/arm/fc_compute.cc``, ``matmul_v2_compute.cc``,
``calib_compute.cc``.
"""

from __future__ import annotations

import numpy as np

from export.nb import device_math
from export.nb.activations import by_name
from export.nb.finish import Finish
from export.nb.ops import Env, Site, Step, handles
from export.nb.ops_conv import bias_of, channel_scales, exact_parts, out_scale_of

Array = np.ndarray


@handles("calib", "calib_once", "calib_inplace")
def calib(site: Site) -> Step:
    """float <-> int8: q = round_half_away(x * (1/scale)) clamped to [-127, 127], and x = q * scale.

    The reciprocal is rounded to float32 first (``lite/backends/arm/math/type_trans.cc``).
    """
    source, target, alias = site.input("Input"), site.output("Out"), site.kernel.alias
    base = alias.removesuffix("_inplace")
    if base not in ("fp32_to_int8", "int8_to_fp32"):
        raise site.unsupported(f"conversion {alias!r} is not known")
    scale = site.scale("scale")
    inverse = np.float32(1) / scale

    def quantize(x: Array) -> Array:
        x *= inverse
        return device_math.to_int8(x, out=x)

    def to_int8(env: Env) -> None:
        env[target] = device_math.in_blocks(quantize, env[source])

    def to_float(env: Env) -> None:
        env[target] = env[source].astype(np.float32, copy=False) * scale

    if base == "fp32_to_int8":
        return to_int8
    if source in site.params:
        # A stored tensor (LSTM weights): converted once, here, and not again per image.
        ready = site.params[source].astype(np.float32) * scale

        def constant(env: Env) -> None:
            env[target] = ready

        return constant
    return to_float


def _weight(site: Site, name: str) -> Array:
    weight = site.param(name)
    wanted = np.dtype(np.int8) if site.is_int8 else np.dtype(np.float32)
    if weight.ndim != 2 or weight.dtype != wanted or 0 in weight.shape:
        raise site.unsupported(f"{name} of shape {list(weight.shape)} and type {weight.dtype}")
    return weight


@handles("fc")
def fc(site: Site) -> Step:
    """Input ... x K times W (K x N, int8 with one scale per column) plus Bias N -> ... x N."""
    weight = _weight(site, "W")
    k, n = weight.shape
    columns = site.integer("in_num_col_dims", 1)
    from_matmul = site.text("op_type", "mul") in ("matmul", "matmul_v2")
    flat = weight.astype(np.float32)
    parts = exact_parts(flat.T) if site.is_int8 else [slice(0, k)]
    finish = _finish_fc(site, n)
    source, target = site.input("Input"), site.output("Out")

    def step(env: Env) -> None:
        x = env[source]
        lead = x.shape[: x.ndim - 1 if from_matmul else columns]
        rows = x.reshape(int(np.prod(lead)), -1)
        if rows.shape[1] != k:
            raise site.unsupported(f"input of shape {list(x.shape)} for weights of {k} x {n}")
        acc = rows @ flat if len(parts) == 1 else _exact_sum(rows, flat, parts)
        y = np.empty((rows.shape[0], n), np.float32)
        finish(acc, y)
        env[target] = y.reshape(*lead, n)

    return step


def _exact_sum(rows: Array, weight: Array, parts: list[slice]) -> Array:
    """As ``ops_conv.product``: exact, then float32."""
    total = np.zeros((len(rows), weight.shape[1]), np.float64)
    for part in parts:
        total += rows[:, part] @ weight[part]
    return total.astype(np.float32)


def _finish_fc(site: Site, channels: int) -> Finish:
    bias, activation = bias_of(site, channels), by_name(site, "activation_type")
    if not site.is_int8:
        return Finish(None, bias, activation, None, 0)
    out_scale = out_scale_of(site, "Out0_scale", "int8out", "fp32out")
    if out_scale is not None and site.text("activation_type", "") == "relu6":
        raise site.unsupported("relu6 behind an int8 result is not known")
    scale = channel_scales(site, "W0_scale", channels) * site.scale("Input0_scale")
    return Finish(scale, bias, activation, out_scale, 0)


@handles("matmul", "matmul_v2")
def matmul(site: Site) -> Step:
    """X times Y with optional transposes, float (``lite/kernels/arm/matmul_v2_compute.cc``)."""
    if site.is_int8:
        raise site.unsupported("int8 matmul is known as fc only")
    new = site.op.type == "matmul_v2"
    flip_x = bool(site.op.attr("trans_x" if new else "transpose_X", False))
    flip_y = bool(site.op.attr("trans_y" if new else "transpose_Y", False))
    alpha = np.float32(site.number("alpha", 1.0))
    left, right, target = site.input("X"), site.input("Y"), site.output("Out")

    def step(env: Env) -> None:
        x, y = env[left], env[right]
        x = x.swapaxes(-1, -2) if flip_x and x.ndim > 1 else x
        y = y.swapaxes(-1, -2) if flip_y and y.ndim > 1 else y
        out = np.matmul(x, y)
        env[target] = out if alpha == 1 else out * alpha

    return step


@handles("mul")
def mul(site: Site) -> Step:
    """X flattened to two axes times Y flattened to two axes, float (``lite/operators/mul_op.cc``)."""
    if site.is_int8:
        raise site.unsupported("the int8 kernel of mul is not known")
    x_axes, y_axes = site.integer("x_num_col_dims", 1), site.integer("y_num_col_dims", 1)
    left, right, target = site.input("X"), site.input("Y"), site.output("Out")

    def step(env: Env) -> None:
        x, y = env[left], env[right]
        rows = x.reshape(int(np.prod(x.shape[:x_axes])), -1)
        env[target] = (rows @ y.reshape(rows.shape[1], -1)).reshape(*x.shape[:x_axes], *y.shape[y_axes:])

    return step

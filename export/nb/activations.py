"""Activations, alone and fused behind conv, fc and elementwise ops.

Sources: ``lite/backends/arm/math/activation.cc``, ``lite/operators/conv_op.h`` (which attributes a fused
activation reads), ``lite/kernels/arm/conv_gemmlike.cc`` (constants divided by the output scale for int8_out).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.nb.device_math import Math, in_blocks
from export.nb.ops import Env, Site, Step, handles

Array = np.ndarray
# An activation may work in place and returns the array that holds the result.
Activation = Callable[[Array], Array]
_ZERO = np.float32(0)
_ONE = np.float32(1)


def relu(x: Array) -> Array:
    return np.maximum(x, _ZERO, out=x)


def hard_swish(threshold: np.float32, scale: np.float32, offset: np.float32) -> Activation:
    """x * min(max(x + offset, 0), threshold) / scale, the division as a product with 1/scale."""
    inverse = np.float32(1) / scale

    def apply(x: Array) -> Array:
        gate = x + offset
        np.maximum(gate, _ZERO, out=gate)
        np.minimum(gate, threshold, out=gate)
        x *= inverse
        x *= gate
        return x

    return apply


def hard_sigmoid(slope: np.float32, offset: np.float32) -> Activation:
    """min(max(x * slope + offset, 0), 1)."""

    def apply(x: Array) -> Array:
        x *= slope
        x += offset
        np.maximum(x, _ZERO, out=x)
        return np.minimum(x, np.float32(1), out=x)

    return apply


def clipped(limit: np.float32) -> Activation:
    """relu6: min(max(x, 0), limit)."""

    def apply(x: Array) -> Array:
        np.maximum(x, _ZERO, out=x)
        return np.minimum(x, limit, out=x)

    return apply


def leaky(alpha: np.float32) -> Activation:
    return lambda x: np.where(x >= 0, x, x * alpha)


def swish(math: Math, beta: np.float32) -> Activation:
    return lambda x: math.swish(x, beta)


def _f32(site: Site, name: str, divisor: np.float32 = _ONE) -> np.float32:
    return np.float32(np.float32(site.number(name)) / divisor)


_FUSED: dict[str, Callable[[Site, np.float32], Activation]] = {
    "relu": lambda site, scale: relu,
    "relu6": lambda site, scale: clipped(_f32(site, "fuse_brelu_threshold", scale)),
    "hard_swish": lambda site, scale: hard_swish(
        _f32(site, "hard_swish_threshold", scale),
        _f32(site, "hard_swish_scale", scale),
        _f32(site, "hard_swish_offset", scale),
    ),
    "leaky_relu": lambda site, scale: leaky(_f32(site, "leaky_relu_alpha")),
    "hard_sigmoid": lambda site, scale: hard_sigmoid(_f32(site, "slope"), _f32(site, "offset")),
    "sigmoid": lambda site, scale: site.math.sigmoid,
    "tanh": lambda site, scale: site.math.tanh,
    "swish": lambda site, scale: swish(site.math, _f32(site, "swish_scale")),
}
_LINEAR = {"relu", "relu6", "hard_swish", "leaky_relu"}


def fused(site: Site, out_scale: np.float32 | None = None) -> Activation | None:
    """The activation fused into a conv; ``out_scale`` is set where the result is rounded to int8.

    Behind an int8 result only activations exist that scale with their input.
    """
    if not site.op.attr("with_act", False):
        return None
    name = site.text("act_type")
    if name not in _FUSED or (out_scale is not None and name not in _LINEAR):
        raise site.unsupported(
            f"fused activation {name!r} is not known{'' if out_scale is None else ' for int8'}"
        )
    return _FUSED[name](site, np.float32(1) if out_scale is None else out_scale)


def by_name(site: Site, attr: str) -> Activation | None:
    """The activation that ``act_type`` or ``activation_type`` names (fc, elementwise, scale); None: none."""
    name = site.text(attr, "")
    if not name:
        return None
    if name == "relu":
        return relu
    if name == "relu6":
        return clipped(np.float32(site.number("alpha", 6.0)))
    raise site.unsupported(f"activation {name!r} is not known")


def _alone(site: Site, activation: Activation) -> Step:
    source, target = site.input("X"), site.output("Out")

    def step(env: Env) -> None:
        env[target] = in_blocks(activation, env[source])

    return step


_ALONE: dict[str, Callable[[Site], Activation]] = {
    "relu": lambda site: relu,
    "relu6": lambda site: clipped(np.float32(site.number("threshold", 6.0))),
    "hard_swish": lambda site: hard_swish(_f32(site, "threshold"), _f32(site, "scale"), _f32(site, "offset")),
    "hard_sigmoid": lambda site: hard_sigmoid(_f32(site, "slope"), _f32(site, "offset")),
    "leaky_relu": lambda site: leaky(_f32(site, "alpha")),
    "sigmoid": lambda site: site.math.sigmoid,
    "tanh": lambda site: site.math.tanh,
    "swish": lambda site: swish(site.math, _f32(site, "beta")),
    "exp": lambda site: np.exp,
    "sqrt": lambda site: np.sqrt,
    "abs": lambda site: np.abs,
}


@handles(*_ALONE)
def activation(site: Site) -> Step:
    """An activation op of its own: X -> Out, any shape, float32."""
    if site.is_int8:
        raise site.unsupported("there is no int8 kernel of this op")
    return _alone(site, _ALONE[site.op.type](site))

"""exp, division, sigmoid, tanh and rounding the way Paddle-Lite's ARM kernels compute them, in float32.

Sources (tag v2.13-rc): ``lite/backends/arm/math/funcs.h`` (exp_ps, div_ps), ``activation.cc`` (act_sigmoid,
act_tanh), ``type_trans.cc`` (fp32_to_int8). The device divides by a reciprocal estimate of 8 bits and one
Newton step; the estimate (FRECPE) and the step (FRECPS) are defined bit by bit in the Arm Architecture
Reference Manual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

_EXP_LIMIT = np.float32(88.3762626647949)
_LOG2E = np.float32(1.44269504088896341)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_POLY = [
    np.float32(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
]
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
TANH_LIMIT = np.float32(70.00008)
# The largest float32 below one half: x + it, cut to an integer, rounds half away from zero for |x| < 2**22.
_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0.0))

# Elements of one block in `in_blocks`.
_BLOCK = 1 << 15


def _reciprocal_table() -> Array:
    """The 256 fractions of FRECPE, shifted to their place in a float32."""
    a = np.arange(256, 512, dtype=np.int64) * 2 + 1
    estimate = ((1 << 19) // a + 1) // 2
    return ((estimate & 0xFF) << 15).astype(np.int32)


_RECIPROCAL = _reciprocal_table()


def exp(x: Array) -> Array:
    """e**x by the polynomial of ``exp_ps``; any shape, float32, relative error about 1e-7.

    >>> float(exp(np.zeros(1, np.float32))[0])
    1.0
    """
    x = np.minimum(x, _EXP_LIMIT)
    np.maximum(x, -_EXP_LIMIT, out=x)
    n = x * _LOG2E
    n += _HALF
    np.floor(n, out=n)
    t = n * _LN2_HIGH
    x -= t
    np.multiply(n, _LN2_LOW, out=t)
    x -= t
    y = x * _POLY[0]
    for c in _POLY[1:-1]:
        y += c
        y *= x
    y += _POLY[-1]
    np.multiply(x, x, out=t)
    y *= t
    y += x
    y += _ONE
    power = n.astype(np.int32)
    power += 127
    np.left_shift(power, 23, out=power)
    y *= power.view(np.float32)
    return y


def reciprocal(b: Array) -> Array:
    """1/b by FRECPE and one FRECPS step, relative error up to 1.2e-5; float32, b normal and not zero."""
    bits = b.view(np.int32)
    estimate = _RECIPROCAL[(bits >> 15) & 0xFF]
    estimate += (np.int32(253) - ((bits >> 23) & 0xFF)) << 23
    estimate |= bits & np.int32(-0x80000000)
    r = estimate.view(np.float32)
    # FRECPS is fused: the product is exact, here in float64, and only 2 - product is rounded.
    step = np.multiply(b, r, dtype=np.float64)
    np.subtract(2.0, step, out=step)
    return step.astype(np.float32) * r


@dataclass(frozen=True)
class Math:
    """The two functions that the device approximates, and what it builds from them; float32, any shape.

    ``ARM`` computes as the device does. ``LIBM`` uses numpy's exp and division, for comparison with runtimes
    that do not approximate.
    """

    exp: Callable[[Array], Array]
    reciprocal: Callable[[Array], Array]

    def sigmoid(self, x: Array) -> Array:
        """1/(1+e**-x) as ``act_sigmoid`` does."""
        return self.reciprocal(_ONE + self.exp(-x))

    def tanh(self, x: Array) -> Array:
        """(e**x - e**-x)/(e**x + e**-x) as ``act_tanh`` does."""
        x = np.minimum(np.maximum(x, -TANH_LIMIT), TANH_LIMIT)
        plus, minus = self.exp(x), self.exp(-x)
        return (plus - minus) * self.reciprocal(plus + minus)

    def swish(self, x: Array, beta: np.float32) -> Array:
        """x/(1+e**(-beta*x)) as ``act_swish`` does."""
        return x * self.reciprocal(_ONE + self.exp(-(beta * x)))


ARM = Math(exp, reciprocal)
LIBM = Math(np.exp, lambda b: _ONE / b)


def round_half_away(x: Array, out: Array | None = None) -> Array:
    """The nearest integer, halves away from zero (FCVTAS); float32, exact for |x| < 2**22.

    >>> round_half_away(np.array([0.5, -0.5, 1.4999999, 2.5], np.float32)).tolist()
    [1.0, -1.0, 1.0, 3.0]
    """
    shifted = np.copysign(_BELOW_HALF, x)
    shifted = np.add(x, shifted, out=shifted if out is None else out)
    return np.trunc(shifted, out=shifted)


def to_int8(x: Array, out: Array | None = None, *, positive: bool = False) -> Array:
    """Round half away and clamp to [-127, 127]; the integers stay in float32, where BLAS needs them.

    Source: ``lite/backends/arm/math/type_trans.cc``: -128 never occurs.

    Args:
        positive: no value is below zero (behind a relu), which saves half of the work.
    """
    # Clamping first keeps the sum below 2**22, and NaN and infinity out of the cut.
    clamped = np.minimum(x, np.float32(127), out=out)
    if positive:
        clamped += _BELOW_HALF
        return np.trunc(clamped, out=clamped)
    np.maximum(clamped, np.float32(-127), out=clamped)
    return round_half_away(clamped, out=clamped)


def in_blocks(function: Callable[[Array], Array], x: Array) -> Array:
    """Apply an elementwise function block by block, so that its intermediate results stay in the cache.

    Args:
        function: gets a flat array that it may change, and returns the result, of the same size.
        x: float32, any shape; it is not changed.
    """
    out = np.array(x, order="C")
    flat = out.reshape(-1)
    for at in range(0, flat.size, _BLOCK):
        part = flat[at : at + _BLOCK]
        result = function(part)
        if result is not part:
            part[...] = result
    return out

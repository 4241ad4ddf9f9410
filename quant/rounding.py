"""Rounding of weights that is learned: AdaRound, in the form of second moments of a layer's inputs.

Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization", arXiv 2004.10568.
For one layer, with float inputs x, the quantized net's inputs x^, weights W and steps s:

    minimise   E |W x - W~ x^|**2 + lambda * sum(1 - |2 h(V) - 1|**beta)                     (eq. 21, 24)
    W~ = s * clip(floor(W / s) + h(V), -steps, steps)
    h(V) = clip(1.2 * sigmoid(V) - 0.1, 0, 1)                                                (eq. 23)

beta falls, so that h ends at 0 or 1. The first term is a quadratic form: with A = E x^ x^T and
B = E x x^T (rows of x^), it is tr(W~ A W~T) - 2 tr(W B W~T) + constant. A and B are collected once; learning
then sees no image, and its gradient 2 (W~ A - W B) is exact, over all images at every step. The paper's
variant with the activation function inside (eq. 25) has no such form and is not used. What was learned is
then improved by single weights: as long as rounding one weight of a channel the other way lowers the error,
the best such weight is turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.grid import steps
from quant.layers import Rows, on_grid

ITERATIONS = 300
_LEARNING_RATE = 0.05
_LAMBDA = 0.01
_WARM_UP = 0.2  # share of the iterations without the term that pushes h to 0 or 1 (paper's code: 0.2)
_BETA = (20.0, 2.0)
_ZETA, _GAMMA = 1.1, -0.1


@dataclass(frozen=True)
class Moments:
    """Second moments of one layer's inputs, by group of channels.

    Attributes:
        inner: G x K x K, E of x^ x^T, x^ being what the quantized layer reads.
        cross: G x K x K, E of x x^T, x being what the float layer reads.
    """

    inner: Rows
    cross: Rows

    def error(self, exact: Rows, candidate: Rows) -> Rows:
        """E |w x - w~ x^|**2 of each output channel, up to what does not depend on w~.

        Args:
            exact, candidate: G x O x K.
        Returns:
            G x O.
        """
        quadratic = np.einsum("gok,gok->go", candidate @ self.inner, candidate)
        result: Rows = quadratic - 2.0 * np.einsum("gok,gok->go", exact @ self.cross, candidate)
        return result


def learn(matrix: Rows, moments: Moments, bits: int, *, iterations: int = ITERATIONS) -> Rows:
    """Weights on their grid, rounded so that the layer's output error is least.

    Rows keep their scale max |w| (the largest weight stays where it is). A row whose learned rounding is
    not better than rounding to nearest keeps the latter. Deterministic: nothing is drawn.

    Args:
        matrix: out x K, the float weights (`quant.layers.rows`).
        moments: of G groups; row r belongs to group r // (out / G).
        bits: of the weights.
    Returns:
        out x K, each weight a whole number of steps, at most one step from the float one.

    >>> # All inputs are 1, so only the sum counts, 5.8: 2 + 1 + 3 (bits 3, step 1) is nearer than the
    >>> # nearest of each, 1 + 1 + 3.
    >>> ones = Moments(np.ones((1, 3, 3)), np.ones((1, 3, 3)))
    >>> learn(np.array([[1.45, 1.35, 3.0]]), ones, bits=3).sum()
    6.0
    """
    limit, largest = steps(bits), np.abs(matrix).max(axis=1)
    step = np.where(largest > 0, largest, 1.0)[:, None] / limit
    # In steps of each row, so that one learning rate and one lambda fit every layer.
    ratio: Rows = (matrix / step).reshape(len(moments.inner), -1, matrix.shape[1])
    moments, plain = _normalised(moments), np.rint(ratio)
    low, high = np.maximum(np.floor(ratio), -limit), np.minimum(np.floor(ratio) + 1, limit)
    # The largest weight is the scale: it stays. So does what lies on the grid already.
    fixed = np.abs(ratio - plain) < 1e-9
    low, high = np.where(fixed, plain, low), np.where(fixed, plain, high)
    learned = np.where(_learn_up(ratio, moments, iterations, limit), high, low)
    better = moments.error(ratio, learned) < moments.error(ratio, plain)
    chosen = _turn_single(np.where(better[:, :, None], learned, plain), low, high, ratio, moments)
    return on_grid(chosen.reshape(matrix.shape), largest, bits)


def _turn_single(whole: Rows, low: Rows, high: Rows, ratio: Rows, moments: Moments) -> Rows:
    """Turn one weight a channel at a time, the one that gains most, while any gains.

    Turning weight k by d changes the error by d * gradient_k + d**2 * A_kk. All arrays G x O x K, in steps.
    """
    whole = whole.copy()
    gradient = 2.0 * (whole @ moments.inner - ratio @ moments.cross)
    own = np.einsum("gkk->gk", moments.inner)[:, None, :]
    group, row = np.indices(whole.shape[:2])
    for _ in range(2 * whole.shape[2]):  # each turn lowers the error, so it ends; this only bounds the time
        turn = np.where(whole == low, high - low, low - high)
        change = turn * gradient + turn**2 * own
        best = change.argmin(axis=2)
        # A gain below float64 rounding is none.
        gains = change[group, row, best] < -1e-12
        if not gains.any():
            break
        by = np.where(gains, turn[group, row, best], 0.0)
        whole[group, row, best] += by
        gradient += 2.0 * by[:, :, None] * moments.inner[group, best]
    return whole


def _normalised(moments: Moments) -> Moments:
    """Scaled so that a channel's inputs have a mean square of 1 in each group."""
    power = np.einsum("gkk->g", moments.inner) / moments.inner.shape[1]
    factor = 1.0 / np.where(power > 0, power, 1.0)[:, None, None]
    return Moments(moments.inner * factor, moments.cross * factor)


def _learn_up(ratio: Rows, moments: Moments, iterations: int, limit: int) -> npt.NDArray[np.bool_]:
    """True where a weight is rounded up; everything in steps, float32 for speed."""
    low = np.floor(ratio).astype(np.float32)
    inner, target = moments.inner.astype(np.float32), (ratio @ moments.cross).astype(np.float32)
    rest = np.clip((ratio - low - _GAMMA) / (_ZETA - _GAMMA), 1e-6, 1 - 1e-6)
    v = np.log(rest / (1 - rest)).astype(np.float32)  # h(v) starts at the fraction, i.e. at the float weight
    mean, square = np.zeros_like(v), np.zeros_like(v)
    for number in range(1, iterations + 1):
        gate = 1 / (1 + np.exp(-v))
        open_ = gate * (_ZETA - _GAMMA) + _GAMMA
        h = np.clip(open_, 0, 1)
        gradient = 2 * (np.clip(low + h, -limit, limit) @ inner - target)
        if number > _WARM_UP * iterations:
            gradient += _LAMBDA * _push(h, number / iterations)
        gradient *= ((open_ > 0) & (open_ < 1)) * gate * (1 - gate) * (_ZETA - _GAMMA)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        corrected = np.sqrt(square / (1 - 0.999**number)) + 1e-8
        v = v - _LEARNING_RATE * mean / (1 - 0.9**number) / corrected
    return 1 / (1 + np.exp(-v)) * (_ZETA - _GAMMA) + _GAMMA >= 0.5


def _push(h: npt.NDArray[np.float32], progress: float) -> npt.NDArray[np.float32]:
    """Gradient of sum(1 - |2h - 1|**beta) by h; beta falls evenly after the warm-up."""
    beta = _BETA[1] + (_BETA[0] - _BETA[1]) * (1 - progress) / (1 - _WARM_UP)
    away = 2 * h - 1
    result: npt.NDArray[np.float32] = (
        -2 * np.float32(beta) * np.sign(away) * np.abs(away) ** np.float32(beta - 1)
    )
    return result

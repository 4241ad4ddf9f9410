"""LSTM weights as an int8 nb file holds them: one scale a matrix, simulated in training and evaluation.

Paddle-Lite 2.13 computes ``rnn`` in float but its matrices may be stored as int8 (``export/nb/compact.py``),
after which the device computes with q * s, s = max|w| / 127, q = round half away from zero (w / s). A net
prepared here computes with the same values, bit for bit, so that training sees what is shipped. The
gradient passes straight through (Bengio et al. 2013): no value is clipped, since the largest sets the scale.

State names and tensors stay as they are: the layer keeps its float weights and rounds them when it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn
from paddle.autograd import PyLayer

from quant.scheme import LstmScheme
from slim.numerics import MATRIX_MAX_ERROR, matrix_error, quantize_matrix

BITS = 8


class _Rounded(PyLayer):
    @staticmethod
    def forward(ctx: Any, weight: paddle.Tensor) -> paddle.Tensor:
        return paddle.to_tensor(rounded(weight.numpy()))

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> paddle.Tensor:
        return grad


class QuantizedLSTM(nn.LSTM):
    """An LSTM that computes with rounded matrices; made from an ``nn.LSTM`` by ``attach``."""

    float_matrices: tuple[str, ...] = ()
    _all_weights: list[paddle.Tensor]

    def _cudnn_impl(self, *args: Any) -> Any:
        # Paddle's name; on a CPU, too, this is where the list of weights is read.
        with self._rounding():
            return super()._cudnn_impl(*args)

    @contextmanager
    def _rounding(self) -> Iterator[None]:
        stored, names = self._all_weights, matrices(self)
        kept = {id(names[name]) for name in self.float_matrices}
        self._all_weights = [w if len(w.shape) != 2 or id(w) in kept else _Rounded.apply(w) for w in stored]
        try:
            yield
        finally:
            self._all_weights = stored


def rounded(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The float32 values the device computes with: int8 times scale.

    Rounding them again gives the same bits, so that the nb file may be made from them: s is the float32
    nearest to max|w| / 127, and 127 * s, rounded, is max|w| or nearer to it than a step of s can tell.

    >>> rounded(np.array([[127.0, 0.6]], np.float32)).tolist()
    [[127.0, 1.0]]
    """
    integers, scale = quantize_matrix(weight)
    return integers.astype(np.float32) * scale


def matrices(lstm: nn.Layer) -> dict[str, paddle.Tensor]:
    """Name -> weight matrix, as in the layer's state: weight_ih_l0, weight_hh_l0_reverse, ..."""
    return {name: p for name, p in lstm._parameters.items() if name.startswith("weight_")}


def plan(path: str, lstm: nn.Layer, *, quantize: bool) -> LstmScheme:
    """How an LSTM is stored: int8, but for matrices that would lose more than 5% of their size by it."""
    if not quantize:
        return LstmScheme(path, None)
    errors = {name: matrix_error(p.numpy()) for name, p in matrices(lstm).items()}
    return LstmScheme(path, BITS, tuple(n for n, error in errors.items() if error > MATRIX_MAX_ERROR))


def attach(lstm: nn.Layer, scheme: LstmScheme) -> None:
    """Make the layer compute as the scheme says, in place; with ``weight_bits`` None it stays as it is."""
    if scheme.weight_bits is not None:
        # The class and nothing else: a layer around it or in its place would rename the state.
        lstm.__class__ = QuantizedLSTM
        lstm.float_matrices = scheme.float_matrices


def misplaced(net: nn.Layer, schemes: Sequence[LstmScheme]) -> int:
    """How many LSTMs round other matrices than planned."""
    layers, wrong = dict(net.named_sublayers()), 0
    for one in schemes:
        layer = layers[one.path]
        planned = set(matrices(layer)) - set(one.float_matrices) if one.weight_bits else set()
        rounds = isinstance(layer, QuantizedLSTM)
        done = set(matrices(layer)) - set(layer.float_matrices) if rounds else set()
        wrong += done != planned
    return wrong


def bake(net: nn.Layer) -> None:
    """Write the rounded values into the weights and make plain LSTMs of the layers, for the export.

    A program then holds what the net computes with, and the nb file made of it the same values as int8.
    """
    for layer in net.sublayers(include_self=True):
        if isinstance(layer, QuantizedLSTM):
            for name, weight in matrices(layer).items():
                if name not in layer.float_matrices:
                    weight.set_value(rounded(weight.numpy()))
            layer.__class__ = nn.LSTM

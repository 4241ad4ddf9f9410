"""LSQ: each input quantizer's step learned by gradient (Esser et al. 2020, Learned Step Size Quantization).

With v = x / s and Q = 2**(bits-1) - 1 (symmetric, as the device: never -128)::

    y        = round(clip(v, -Q, Q)) * s
    dy / dx  = 1 inside, 0 outside of [-Q, Q]
    dy / ds  = round(v) - v inside, -Q or Q outside

Summed over the tensor and multiplied by 1 / sqrt(N * Q), N the values of one image, which balances the
step's updates with those of weights (section 2.2 of the paper). s starts at the calibrated clip / Q, not at
the paper's 2 mean|x| / sqrt(Q), which is for a blank start.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer

from quant.paddle_qat import INPUT, is_wrapper

# A step stays above this part of where it started: at 0 the layer would be dead.
FLOOR = 1e-3


class _Rounding(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, step: paddle.Tensor, limit: int) -> paddle.Tensor:
        v = x / step
        q = paddle.round(v.clip(-limit, limit))
        ctx.save_for_backward(v, q)
        ctx.limit, ctx.wanted = limit, (not x.stop_gradient, not step.stop_gradient)
        return q * step

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        v, q = ctx.saved_tensor()
        inside = (v.abs() <= ctx.limit).astype(grad.dtype)
        scale = 1.0 / math.sqrt(v.size / v.shape[0] * ctx.limit)
        grad_step = ((q - v * inside) * grad).sum().reshape([1]) * scale
        return grad * inside if ctx.wanted[0] else None, grad_step if ctx.wanted[1] else None


def quantize(x: paddle.Tensor, step: paddle.Tensor, bits: int) -> paddle.Tensor:
    """Round to the grid of ``step`` (1 value), differentiable in both; shape unchanged, first axis the batch.

    >>> quantize(paddle.to_tensor([[0.24, -9.0]]), paddle.to_tensor([0.1]), 3).tolist()
    [[0.20000000298023224, -0.30000001192092896]]
    """
    return _Rounding.apply(x, step, 2 ** (bits - 1) - 1)


class LearnedStep(nn.Layer):
    """Stands in for an input quantizer while training.

    Args:
        observer: the quantizer it replaces, calibrated.
        adaptive: for Adam, which moves any parameter by about the learning rate: the rate of this one is
            multiplied by its start, so that it moves by such a part of itself.
    """

    def __init__(self, observer: nn.Layer, *, adaptive: bool) -> None:
        super().__init__()
        self.bits = int(observer._quant_bits)
        self.start = float(observer._scale.numpy()[0]) / self.limit
        self._replaced = (observer,)  # in a tuple, so that its state does not become part of this layer's
        self.step = self.create_parameter(
            shape=[1],
            dtype="float32",
            attr=paddle.ParamAttr(
                initializer=nn.initializer.Constant(self.start), learning_rate=self.start if adaptive else 1.0
            ),
        )

    @property
    def limit(self) -> int:
        """Q: steps on each side of zero."""
        return int(2 ** (self.bits - 1) - 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return quantize(x, self.step.clip(min=self.start * FLOOR), self.bits)

    def replaced(self) -> nn.Layer:
        """The quantizer with the learned range."""
        (observer,) = self._replaced
        clip = max(float(self.step.numpy()[0]), self.start * FLOOR) * self.limit
        observer._scale.set_value(np.asarray([clip], np.float32))
        return observer


def attach(net: nn.Layer, *, adaptive: bool) -> None:
    """Learn the step of every input quantizer of a wrapped net, from the calibrated clip on."""
    for layer in net.sublayers():
        if is_wrapper(layer):
            learned = LearnedStep(getattr(layer, INPUT), adaptive=adaptive)
            learned.training = layer.training
            setattr(layer, INPUT, learned)


def strip(net: nn.Layer) -> None:
    """Put the quantizers back, with the ranges that were learned; a net without any stays as it is."""
    for layer in net.sublayers():
        if is_wrapper(layer) and isinstance(getattr(layer, INPUT), LearnedStep):
            setattr(layer, INPUT, getattr(layer, INPUT).replaced())


def steps(net: nn.Layer) -> dict[str, float]:
    """Path -> learned step, for the layers that have one."""
    found = {p: la for p, la in net.named_sublayers() if isinstance(la, LearnedStep)}
    return {path.rpartition(".")[0]: float(layer.step.numpy()[0]) for path, layer in found.items()}

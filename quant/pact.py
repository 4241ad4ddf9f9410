"""PACT: a learned symmetric clip in front of each input quantizer while training (Choi et al. 2018).

y = min(max(x, -alpha), alpha), with gradient d y / d alpha = 1 where x > alpha, -1 where x < -alpha,
0 between. PaddleOCR writes the same as x - relu(x - alpha) + relu(-alpha - x), which takes twice the
time. As in its slim recipes alpha starts at 20 with an L2 decay of 2e-5. It only acts in training: the
moving average behind it sees clipped values, so the clip it learned stays in the model as the input's
scale, and ``strip`` removes the layer, as PaddleSlim does when it saves.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from quant.paddle_qat import INPUT, PREPROCESS, is_wrapper

START = 20.0
DECAY = 2e-5


class Pact(nn.Layer):
    """Clip any tensor to [-alpha, alpha]; shape unchanged.

    >>> Pact(2.0)(paddle.to_tensor([-3.0, 1.0, 5.0])).tolist()
    [-2.0, 1.0, 2.0]
    """

    def __init__(self, start: float = START) -> None:
        super().__init__()
        self.alpha = self.create_parameter(
            shape=[1],
            dtype="float32",
            attr=paddle.ParamAttr(
                initializer=nn.initializer.Constant(start), regularizer=paddle.regularizer.L2Decay(DECAY)
            ),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.minimum(paddle.maximum(x, -self.alpha), self.alpha)


def attach(net: nn.Layer) -> None:
    """Put a clip in front of every input quantizer of a wrapped and calibrated net.

    alpha starts at 20, or at the calibrated range where that is wider: a smaller start would cut
    values that the float model uses before training has seen a single batch.
    """
    for layer in net.sublayers():
        if is_wrapper(layer):
            calibrated = float(np.abs(getattr(layer, INPUT)._scale.numpy()).max())
            clip = Pact(max(START, calibrated))
            clip.training = layer.training
            setattr(layer, PREPROCESS, clip)


def strip(net: nn.Layer) -> None:
    """Take every clip off again; a net without any stays as it is."""
    for layer in net.sublayers():
        if is_wrapper(layer) and layer._sub_layers.pop(PREPROCESS, None) is not None:
            setattr(layer, PREPROCESS, None)


def alphas(net: nn.Layer) -> dict[str, float]:
    """Path -> learned clip, for the layers that have one."""
    return {
        path.rpartition(".")[0]: float(layer.alpha.numpy()[0])
        for path, layer in net.named_sublayers()
        if isinstance(layer, Pact)
    }

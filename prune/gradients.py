"""Gradients of the loss on a few labelled batches, for criteria that ask what a channel does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from slim.errors import StageFailed, UsageError

Gradients = Mapping[str, npt.NDArray[np.float32]]
"""Name of a paddle parameter -> batches x the parameter's shape, float32."""


class HasImage(Protocol):
    """A labelled batch; what else it holds is between it and its loss."""

    @property
    def image(self) -> npt.NDArray[np.float32]: ...


B = TypeVar("B", bound=HasImage)


def gradients(net: nn.Layer, loss: Callable[[Any, B], Any], batches: Iterable[B]) -> Gradients:
    """The gradient of ``loss`` with respect to every parameter, batch by batch; the net is the same after.

    The net runs in training mode, where heads give logits, with BatchNorm statistics and Dropout held:
    the function that is differentiated is the one inference runs.

    Args:
        loss: the net's output and the batch -> 0-D tensor (`slim.training.losses.loss_of`).
        batches: N x C x H x W float32 images with their labels.
    Raises:
        UsageError: no batches. StageFailed: a gradient is not finite.
    """
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    modes = [(layer, layer.training) for layer in net.sublayers(include_self=True)]
    count = 0
    try:
        for layer, _ in modes:
            layer.training = not isinstance(layer, (nn.BatchNorm2D, nn.Dropout))
        for batch in batches:
            _forget(net)
            loss(net(paddle.to_tensor(batch.image)), batch).backward()
            count += 1
            for path, tensor in net.named_parameters():
                if tensor.grad is not None:
                    found.setdefault(tensor.name, []).append(_finite(path, tensor))
    finally:
        _forget(net)
        for layer, training in modes:
            layer.training = training
    if not count:
        raise UsageError("no labelled batches to take gradients on", remedy="give Train or Calibration data")
    return {name: np.stack(values) for name, values in found.items()}


def _forget(net: nn.Layer) -> None:
    for tensor in net.parameters():
        tensor.clear_gradient(False)  # freed, not filled with zeros


def _finite(path: str, tensor: Any) -> npt.NDArray[np.float32]:
    value: npt.NDArray[np.float32] = tensor.grad.numpy()
    if not np.isfinite(value).all():
        raise StageFailed(f"the gradient of {path} is not finite", remedy="is this checkpoint trained?")
    return value

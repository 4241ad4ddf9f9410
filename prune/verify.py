"""The proof that a plan cuts what it says: the pruned net against the masked float net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
from paddle import nn

from prune.groups import Group
from prune.mask import silence
from slim.arch.heads import DBHead
from slim.errors import StageFailed
from slim.numerics import max_abs

BOUND = 1e-5
"""Largest absolute difference of an output: float32 sums of the same terms in another order."""


def random_input(input_shape: Sequence[int], seed: int, batch: int = 2) -> np.ndarray:
    """Noise in the range of normalised images, float32, batch x C x H x W."""
    generator = np.random.default_rng(seed)
    return generator.uniform(-1.0, 1.0, (batch, *input_shape)).astype(np.float32)


def difference(
    net: nn.Layer,
    pruned: nn.Layer,
    groups: Sequence[Group],
    kept: Mapping[str, Sequence[int]],
    x: np.ndarray,
) -> float:
    """Largest absolute difference between ``pruned`` and ``net`` with the same channels masked.

    Logits of the training branch reach 30 and round accordingly: an output larger than 1 is measured in
    units of its largest value; probabilities and maps are at most 1.

    Compared in inference and in training mode with the BatchNorm statistics held: the training branch
    of a detector has layers that inference does not run. ``net`` is masked in place: give a clone.

    Raises:
        StageFailed: the pruned net does not run at all (a layer was cut to another width than its input).
    """
    silence(net, groups, kept)
    try:
        pairs = list(zip(_outputs(net, x), _outputs(pruned, x), strict=True))
    except ValueError as error:  # paddle's InvalidArgument: shapes do not fit
        raise StageFailed(
            f"the pruned net does not run: layers were cut to different widths ({str(error)[:200]})"
        ) from error
    if any(a.shape != b.shape for a, b in pairs):
        raise StageFailed("the pruned net's output has another shape than the original's")
    return max(max_abs(a, b) / max(1.0, float(np.abs(a).max())) for a, b in pairs)


def _outputs(net: nn.Layer, x: np.ndarray) -> list[np.ndarray]:
    modes = [(layer, layer.training) for layer in net.sublayers(include_self=True)]
    found: list[np.ndarray] = []
    try:
        for training in (False, True):
            for layer, _ in modes:
                held = isinstance(layer, (nn.BatchNorm2D, nn.Dropout, nn.LSTM))
                layer.training = training and not held
            with paddle.no_grad():
                outputs = net(paddle.to_tensor(x))
            found += [_measured(net, tensor.numpy()) for tensor in paddle.utils.flatten(outputs)]
    finally:
        for layer, training in modes:
            layer.training = training
    return found


def _measured(net: nn.Layer, output: np.ndarray) -> np.ndarray:
    """DB's binary map is left out: 1 / (1 + exp(-50 (shrink - threshold))) of the two maps before it
    multiplies their rounding by up to 12.5 and tells nothing new.
    """
    return output[:, :2] if isinstance(getattr(net, "head", None), DBHead) else output

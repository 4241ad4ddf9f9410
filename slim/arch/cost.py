"""What a net costs: parameters and multiply-adds, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn


@dataclass(frozen=True)
class LayerCost:
    """Parameters (count) and multiply-adds (count, for one input) of one layer."""

    params: int
    flops: int


@dataclass(frozen=True)
class Cost:
    """Totals of a net for one input.

    ``flops`` counts multiply-adds of conv, linear and LSTM layers; ``params`` every stored number,
    BatchNorm's running statistics included.
    """

    params: int
    flops: int
    by_layer: dict[str, LayerCost]


def count(net: nn.Layer, input_shape: Sequence[int]) -> Cost:
    """Run ``net`` once on zeros and count.

    Args:
        input_shape: C, H, W of one input.

    >>> count(nn.Sequential(nn.Conv2D(3, 8, 3, padding=1)), (3, 4, 5)).flops
    4320
    """
    found: dict[str, LayerCost] = {}
    hooks = [
        layer.register_forward_post_hook(_counter(path, found))
        for path, layer in net.named_sublayers()
        if isinstance(layer, (nn.Conv2D, nn.Conv2DTranspose, nn.Linear, nn.LSTM))
    ]
    run_hooked(net, input_shape, hooks)
    params = sum(int(np.prod(p.shape)) for p in net.parameters())
    return Cost(params, sum(layer.flops for layer in found.values()), found)


def run_hooked(net: nn.Layer, input_shape: Sequence[int], hooks: Sequence[Any]) -> None:
    """One inference pass on zeros of C x H x W for forward hooks to see; they are removed, the mode stays."""
    training = net.training
    net.eval()
    try:
        with paddle.no_grad():
            net(paddle.zeros([1, *input_shape], dtype="float32"))
    finally:
        for hook in hooks:
            hook.remove()
        if training:
            net.train()


def _counter(path: str, found: dict[str, LayerCost]):  # type: ignore[no-untyped-def]
    def hook(layer: nn.Layer, inputs: Sequence[paddle.Tensor], output: object) -> None:
        params = sum(int(np.prod(p.shape)) for p in layer.parameters())
        found[path] = LayerCost(params, _multiply_adds(layer, inputs[0], output))

    return hook


def _multiply_adds(layer: nn.Layer, x: paddle.Tensor, output: object) -> int:
    if isinstance(layer, nn.LSTM):
        steps = int(x.shape[1])
        weights = sum(int(np.prod(p.shape)) for p in layer.parameters() if len(p.shape) == 2)
        return steps * weights
    if isinstance(layer, nn.Conv2DTranspose):
        return int(np.prod(layer.weight.shape)) * int(np.prod(x.shape[2:]))
    assert isinstance(output, paddle.Tensor)
    if isinstance(layer, nn.Linear):
        return int(np.prod(layer.weight.shape)) * int(np.prod(output.shape[1:-1]))
    return int(np.prod(layer.weight.shape)) * int(np.prod(output.shape[2:]))

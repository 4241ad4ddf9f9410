"""What a net costs after a cut, computed from the groups without cutting anything.

The layers' costs are those of `slim.arch.cost.count`; a cut scales each by the share of its output
channels and, where it mixes channels, of its input channels that stay. An LSTM's first layer is the
only part of it that shrinks with its input. The result is exact (tested against a cut net).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from paddle import nn

from prune.groups import Group
from slim.arch.cost import count


@dataclass(frozen=True)
class _Share:
    """Channels of a group on one side of a layer: ``size * repeat`` of them."""

    group: str
    size: int
    repeat: int


@dataclass(frozen=True)
class _LayerModel:
    """Costs of one layer: what scales with both sides, with the outputs alone, and what stays."""

    flops: int
    mixing: int
    per_output: int
    fixed_flops: int = 0
    fixed_params: int = 0
    outputs: tuple[_Share, ...] = ()
    inputs: tuple[_Share, ...] = ()


class CostModel:
    """FLOPs (multiply-adds for one input) and parameters of a net under any choice of kept channels."""

    def __init__(self, net: nn.Layer, groups: Sequence[Group], input_shape: Sequence[int]) -> None:
        counted = count(net, input_shape)
        flops = {path: layer.flops for path, layer in counted.by_layer.items()}
        self._layers = _layer_models(net, groups, flops)
        self._rest = counted.params - sum(_params(layer, {}) for layer in self._layers)
        self.flops_before, self.params_before = counted.flops, counted.params

    def flops(self, kept: Mapping[str, int]) -> int:
        """Multiply-adds with ``kept`` channels left in the named groups, all in the others."""
        return sum(_flops(layer, kept) for layer in self._layers)

    def params(self, kept: Mapping[str, int]) -> int:
        """Parameters, BatchNorm's four vectors included as paddle counts them."""
        return self._rest + sum(_params(layer, kept) for layer in self._layers)


def _layer_models(net: nn.Layer, groups: Sequence[Group], flops: Mapping[str, int]) -> list[_LayerModel]:
    layers = dict(net.named_sublayers())
    sides: dict[str, dict[str, list[_Share]]] = {path: {} for path in flops}
    for group in groups:
        for m in group.members:
            sides.setdefault(m.path, {}).setdefault(m.side, []).append(
                _Share(group.name, group.size, m.repeat)
            )
    return [
        _layer_model(layers[path], flops.get(path, 0), tuple(side.get("out", ())), tuple(side.get("in", ())))
        for path, side in sides.items()
    ]


def _layer_model(
    layer: nn.Layer, flops: int, outputs: tuple[_Share, ...], inputs: tuple[_Share, ...]
) -> _LayerModel:
    sizes = {name: int(np.prod(p.shape)) for name, p in layer.named_parameters()}
    if isinstance(layer, nn.LSTM):
        first = sum(size for name, size in sizes.items() if _reads_input(name))
        weights = sum(int(np.prod(p.shape)) for p in layer.parameters() if len(p.shape) == 2)
        moving = flops * first // weights
        return _LayerModel(moving, first, 0, flops - moving, sum(sizes.values()) - first, (), inputs)
    mixing = 0 if isinstance(layer, nn.BatchNorm2D) else sizes.get("weight", 0)
    width = sum(s.size * s.repeat for s in outputs)
    per_output = (sum(sizes.values()) - mixing) // width if width else 0
    fixed = sum(sizes.values()) - mixing - per_output * width
    return _LayerModel(flops, mixing, per_output, 0, fixed, outputs, inputs)


def _reads_input(name: str) -> bool:
    """The input weights of an LSTM's first layer, under either of paddle's two names for them."""
    return name.startswith("weight_ih_l0") or (name.startswith("0.") and name.endswith("weight_ih"))


def _ratio(shares: tuple[_Share, ...], kept: Mapping[str, int]) -> tuple[int, int]:
    """Kept and all channels of a side; (1, 1) for a side no group has."""
    if not shares:
        return 1, 1
    left = sum(kept.get(s.group, s.size) * s.repeat for s in shares)
    return left, sum(s.size * s.repeat for s in shares)


def _flops(layer: _LayerModel, kept: Mapping[str, int]) -> int:
    out, outs = _ratio(layer.outputs, kept)
    into, ins = _ratio(layer.inputs, kept)
    return layer.fixed_flops + layer.flops * out * into // (outs * ins)


def _params(layer: _LayerModel, kept: Mapping[str, int]) -> int:
    out, outs = _ratio(layer.outputs, kept)
    into, ins = _ratio(layer.inputs, kept)
    alone = layer.per_output * out if layer.outputs else 0
    return layer.fixed_params + layer.mixing * out * into // (outs * ins) + alone

"""What a net costs after a cut, computed from the groups without cutting anything.

The layers' costs are those of `slim.arch.cost.count`; a cut scales each by the share of its output
channels and, where it mixes channels, of its input channels that stay; an LSTM's follow from the features
and hidden units that stay. The result is exact (tested against a cut net).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class _Model(Protocol):
    """Costs of one layer under any choice of kept channels."""

    def flops(self, kept: Mapping[str, int]) -> int: ...

    def params(self, kept: Mapping[str, int]) -> int: ...


@dataclass(frozen=True)
class _Plain:
    """Conv, linear, BatchNorm: what scales with both sides, with the outputs alone, and what stays."""

    all_flops: int
    mixing: int
    per_output: int
    fixed: int
    outputs: tuple[_Share, ...]
    inputs: tuple[_Share, ...]

    def flops(self, kept: Mapping[str, int]) -> int:
        out, outs = _ratio(self.outputs, kept)
        into, ins = _ratio(self.inputs, kept)
        return self.all_flops * out * into // (outs * ins)

    def params(self, kept: Mapping[str, int]) -> int:
        out, outs = _ratio(self.outputs, kept)
        into, ins = _ratio(self.inputs, kept)
        alone = self.per_output * out if self.outputs else 0
        return self.fixed + self.mixing * out * into // (outs * ins) + alone


@dataclass(frozen=True)
class _Lstm:
    """4 gates x hidden units; layer 0 reads the input, the others all directions of the layer below."""

    steps: int
    layers: int
    directions: int
    features: int
    hidden: int
    inputs: tuple[_Share, ...]
    units: tuple[_Share, ...]

    def flops(self, kept: Mapping[str, int]) -> int:
        return self.steps * self._weights(kept)

    def params(self, kept: Mapping[str, int]) -> int:
        return self._weights(kept) + self.layers * self.directions * 8 * self._hidden(kept)

    def _hidden(self, kept: Mapping[str, int]) -> int:
        left, whole = _ratio(self.units, kept)
        return self.hidden * left // whole

    def _weights(self, kept: Mapping[str, int]) -> int:
        left, whole = _ratio(self.inputs, kept)
        into, hidden = self.features * left // whole, self._hidden(kept)
        read = into + hidden + (self.layers - 1) * (self.directions + 1) * hidden
        return self.directions * 4 * hidden * read


class CostModel:
    """FLOPs (multiply-adds for one input) and parameters of a net under any choice of kept channels."""

    def __init__(self, net: nn.Layer, groups: Sequence[Group], input_shape: Sequence[int]) -> None:
        counted = count(net, input_shape)
        flops = {path: layer.flops for path, layer in counted.by_layer.items()}
        self._layers = _layer_models(net, groups, flops)
        self._rest = counted.params - sum(layer.params({}) for layer in self._layers)
        self.flops_before, self.params_before = counted.flops, counted.params

    def flops(self, kept: Mapping[str, int]) -> int:
        """Multiply-adds with ``kept`` channels left in the named groups, all in the others."""
        return sum(layer.flops(kept) for layer in self._layers)

    def params(self, kept: Mapping[str, int]) -> int:
        """Parameters, BatchNorm's four vectors included as paddle counts them."""
        return self._rest + sum(layer.params(kept) for layer in self._layers)


def _layer_models(net: nn.Layer, groups: Sequence[Group], flops: Mapping[str, int]) -> list[_Model]:
    layers = dict(net.named_sublayers())
    sides: dict[str, dict[str, list[_Share]]] = {path: {} for path in flops}
    for group in groups:
        for m in group.members:
            sides.setdefault(m.path, {}).setdefault(m.side, []).append(
                _Share(group.name, group.size, m.repeat)
            )
    return [_layer_model(layers[path], flops.get(path, 0), side) for path, side in sides.items()]


def _layer_model(layer: nn.Layer, flops: int, sides: Mapping[str, list[_Share]]) -> _Model:
    outputs, inputs = tuple(sides.get("out", ())), tuple(sides.get("in", ()))
    sizes = {name: int(np.prod(p.shape)) for name, p in layer.named_parameters()}
    if isinstance(layer, nn.LSTM):
        shape = (layer.num_layers, layer.num_directions, layer.input_size, layer.hidden_size)
        one = _Lstm(1, *shape, (), ()).flops({})
        return _Lstm(flops // one, *shape, inputs, tuple(sides.get("hidden", ())))
    mixing = 0 if isinstance(layer, nn.BatchNorm2D) else sizes.get("weight", 0)
    width = sum(s.size * s.repeat for s in outputs)
    per_output = (sum(sizes.values()) - mixing) // width if width else 0
    fixed = sum(sizes.values()) - mixing - per_output * width
    return _Plain(flops, mixing, per_output, fixed, outputs, inputs)


def _ratio(shares: tuple[_Share, ...], kept: Mapping[str, int]) -> tuple[int, int]:
    """Kept and all channels of a side; (1, 1) for a side no group has."""
    if not shares:
        return 1, 1
    left = sum(kept.get(s.group, s.size) * s.repeat for s in shares)
    return left, sum(s.size * s.repeat for s in shares)

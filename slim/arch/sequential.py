"""Backbones written out in a configuration: a list of convs, pools, gates and residual blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import paddle
from paddle import nn

from slim.arch.layers import ConvBN, Size, SqueezeExcite, activate
from slim.errors import UnsupportedModel

OUTPUT = "Output"
_PAGE_STRIDES = [(4, 4), (8, 8), (16, 16), (32, 32)]


class Residual(nn.Layer):
    """x + layers(x), then an activation; a strided 1x1 conv on the shortcut where the shapes differ."""

    def __init__(self, in_channels: int, layers: Sequence[Mapping[str, Any]], act: str | None) -> None:
        super().__init__()
        found = _Stack(in_channels)
        for entry in layers:
            found.add(entry)
        self.act, self.out_channels, self.stride = act, found.channels, found.stride
        self.layers = nn.Sequential(*found.layers)
        same = found.channels == in_channels and found.stride == (1, 1)
        self.short = None if same else ConvBN(in_channels, found.channels, 1, stride=found.stride)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        short = x if self.short is None else self.short(x)
        return activate(cast("paddle.Tensor", short + self.layers(x)), self.act)


class Layers(nn.Layer):
    """The layers of the list, one after the other: N x C x H x W -> the last map, or the marked ones.

    >>> net = Layers([{"ConvBN": {"out_channels": 8, "stride": 2}}, {"MaxPool": {"kernel_size": 2}}])
    >>> net.out_channels, net.stride
    (8, (4, 4))
    """

    def __init__(self, layers: Sequence[Mapping[str, Any]], in_channels: int = 3) -> None:
        super().__init__()
        found = _Stack(in_channels)
        self.marks: list[str] = []
        widths: list[int] = []
        self.mark_strides: list[tuple[int, int]] = []
        for entry in layers:
            if OUTPUT in entry:
                self.marks.append(str(len(found.layers) - 1))
                widths.append(found.channels)
                self.mark_strides.append(found.stride)
            else:
                found.add(entry)
        self.layers = nn.Sequential(*found.layers)
        self.names = [str(place) for place in range(len(found.layers))]
        self.out_channels: int | list[int] = widths or found.channels
        self.stride = found.stride

    def forward(self, x: paddle.Tensor) -> paddle.Tensor | list[paddle.Tensor]:
        maps = []
        for name in self.names:
            x = getattr(self.layers, name)(x)
            if name in self.marks:
                maps.append(x)
        return maps if self.marks else x


class _Stack:
    """Layers so far, the channels that leave them and by how much they divide height and width."""

    def __init__(self, in_channels: int) -> None:
        self.channels, self.stride = in_channels, (1, 1)
        self.layers: list[nn.Layer] = []

    def add(self, entry: Mapping[str, Any]) -> None:
        name, args = next(iter(entry.items()))
        if name not in _BUILD:
            raise UnsupportedModel(f"layer {name!r} is not known", remedy=f"use {', '.join(_BUILD)}")
        layer, stride = _BUILD[name](self.channels, **(args or {}))
        self.layers.append(layer)
        self.channels = getattr(layer, "out_channels", self.channels)
        down, right = _pair(stride)
        self.stride = self.stride[0] * down, self.stride[1] * right


def _pair(stride: Any) -> tuple[int, int]:
    return (stride, stride) if isinstance(stride, int) else (int(stride[0]), int(stride[1]))


_Built = tuple[nn.Layer, Size]


def _conv(
    channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: Any = 1,
    groups: int = 1,
    act: str | None = "relu",
) -> _Built:
    if channels % groups or out_channels % groups:
        raise UnsupportedModel(
            f"ConvBN has groups {groups}, which divides not both its {channels} and {out_channels} channels"
        )
    layer = ConvBN(channels, out_channels, kernel_size, stride=_pair(stride), groups=groups, act=act)
    layer.out_channels = out_channels
    return layer, stride


def _depthwise(channels: int, kernel_size: int = 3, stride: Any = 1, act: str | None = "relu") -> _Built:
    return _conv(channels, channels, kernel_size, stride, channels, act)


def _squeeze_excite(channels: int, reduction: int = 4) -> _Built:
    if channels < reduction:
        raise UnsupportedModel(f"SqueezeExcite has reduction {reduction} and {channels} channels")
    return SqueezeExcite(channels, reduction), 1


def _max_pool(channels: int, kernel_size: Any = 2, stride: Any = None) -> _Built:
    return _pool(nn.MaxPool2D, "MaxPool", kernel_size, stride)


def _avg_pool(channels: int, kernel_size: Any = 2, stride: Any = None) -> _Built:
    return _pool(nn.AvgPool2D, "AvgPool", kernel_size, stride)


def _pool(layer: Any, name: str, kernel_size: Any, stride: Any) -> _Built:
    """A side of n becomes ceil(n / stride), as behind a conv: sums of the two fit.

    An odd kernel is padded by half of itself; an even one has windows side by side, the last one cut short.
    """
    kernel, step = _pair(kernel_size), _pair(stride or kernel_size)
    even = [k % 2 == 0 for k in kernel]
    apart = [k == s if short else s == 1 for k, s, short in zip(kernel, step, even, strict=True)]
    if any(even) and not all(apart):
        raise UnsupportedModel(
            f"{name} has kernel_size {list(kernel)} and stride {list(step)}",
            remedy="give an even side the same stride and an odd one beside it stride 1, or make both odd",
        )
    padding = [0 if short else k // 2 for k, short in zip(kernel, even, strict=True)]
    return layer(kernel, stride=step, padding=padding, ceil_mode=any(even)), step


def _residual(channels: int, layers: Sequence[Mapping[str, Any]], act: str | None = "relu") -> _Built:
    block = Residual(channels, layers, act)
    return block, block.stride


_BUILD: dict[str, Callable[..., _Built]] = {
    "ConvBN": _conv,
    "DepthwiseConvBN": _depthwise,
    "SqueezeExcite": _squeeze_excite,
    "MaxPool": _max_pool,
    "AvgPool": _avg_pool,
    "Residual": _residual,
}


def build(kind: str, args: Mapping[str, Any], in_channels: int) -> Layers:
    """The backbone of a list, checked for what its kind needs of it.

    Raises:
        UnsupportedModel: a layer that does not fit the one before, a det list without its four maps.
    """
    net = Layers(in_channels=in_channels, **args)
    if kind == "det" and net.mark_strides != _PAGE_STRIDES:
        found = ", ".join(f"1/{down}" if down == right else f"1/{down} x 1/{right}"
                          for down, right in net.mark_strides)  # fmt: skip
        raise UnsupportedModel(
            f"Architecture.Backbone.layers marks maps at {found or 'no place'}, a detector needs "
            "1/4, 1/8, 1/16, 1/32 of the page",
            remedy=f"put '- {OUTPUT}:' after the layer that ends each",
        )
    if kind != "det" and net.marks:
        raise UnsupportedModel(
            f"Architecture.Backbone.layers marks {len(net.marks)} maps, a {kind} model takes the last one",
            remedy=f"remove '{OUTPUT}'",
        )
    return net

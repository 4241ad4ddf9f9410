"""ResNet_vd backbone of the server DB detector (He et al. 2018, "Bag of Tricks", variant D)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import paddle
from paddle import nn
from paddle.nn import functional as F

from slim.errors import UnsupportedModel

_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_WIDTHS = (64, 128, 256, 512)


class ResNetConvBN(nn.Layer):
    """Optional 2x2 average pool, Conv2D without bias, BatchNorm, optional relu."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        pool: bool = False,
        relu: bool,
    ) -> None:
        super().__init__()
        self.pool = nn.AvgPool2D(2, stride=2, padding=0, ceil_mode=True) if pool else None
        self.relu = relu
        self._conv = nn.Conv2D(
            in_channels, out_channels, kernel, stride=stride, padding=(kernel - 1) // 2, bias_attr=False
        )
        self._batch_norm = nn.BatchNorm2D(out_channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.pool is not None:
            x = self.pool(x)
        x = self._batch_norm(self._conv(x))
        return F.relu(x) if self.relu else x


class BasicBlock(nn.Layer):
    """Two 3x3 convs; the shortcut is a 1x1 conv at the head of each stage."""

    EXPANSION = 1

    def __init__(self, in_channels: int, width: int, *, stride: int, head: bool, first: bool) -> None:
        super().__init__()
        self.conv0 = ResNetConvBN(in_channels, width, 3, stride=stride, relu=True)
        self.conv1 = ResNetConvBN(width, width, 3, relu=False)
        self.short = ResNetConvBN(in_channels, width, 1, pool=not first, relu=False) if head else None

    def forward(self, inputs: paddle.Tensor) -> paddle.Tensor:
        x = self.conv1(self.conv0(inputs))
        short = inputs if self.short is None else self.short(inputs)
        return F.relu(cast("paddle.Tensor", short + x))


class Bottleneck(nn.Layer):
    """1x1, 3x3 (stride), 1x1 x4 with the vd shortcut."""

    EXPANSION = 4

    def __init__(self, in_channels: int, width: int, *, stride: int, head: bool, first: bool) -> None:
        super().__init__()
        self.conv0 = ResNetConvBN(in_channels, width, 1, relu=True)
        self.conv1 = ResNetConvBN(width, width, 3, stride=stride, relu=True)
        self.conv2 = ResNetConvBN(width, width * 4, 1, relu=False)
        self.short = ResNetConvBN(in_channels, width * 4, 1, pool=not first, relu=False) if head else None

    def forward(self, inputs: paddle.Tensor) -> paddle.Tensor:
        x = self.conv2(self.conv1(self.conv0(inputs)))
        short = inputs if self.short is None else self.short(inputs)
        return F.relu(cast("paddle.Tensor", short + x))


class ResNetVd(nn.Layer):
    """N x 3 x H x W -> four maps at 1/4, 1/8, 1/16, 1/32 of the size."""

    def __init__(self, in_channels: int = 3, layers: int = 18) -> None:
        super().__init__()
        if layers not in _DEPTHS:
            raise UnsupportedModel(
                f"ResNet layers is {layers}", remedy=f"use one of {', '.join(map(str, _DEPTHS))}"
            )
        block = BasicBlock if layers < 50 else Bottleneck
        self.conv1_1 = ResNetConvBN(in_channels, 32, 3, stride=2, relu=True)
        self.conv1_2 = ResNetConvBN(32, 32, 3, relu=True)
        self.conv1_3 = ResNetConvBN(32, 64, 3, relu=True)
        self.pool = nn.MaxPool2D(kernel_size=3, stride=2, padding=1)
        self.out_channels: list[int] = []
        self.stages: list[list[str]] = []
        width = 64
        for s, depth in enumerate(_DEPTHS[layers]):
            names = []
            for b in range(depth):
                stride = 2 if b == 0 and s > 0 else 1
                unit = block(width, _WIDTHS[s], stride=stride, head=b == 0, first=b == 0 and s == 0)
                width = _WIDTHS[s] * block.EXPANSION
                self.add_sublayer(f"bb_{s}_{b}", unit)
                names.append(f"bb_{s}_{b}")
            self.stages.append(names)
            self.out_channels.append(width)

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        x = self.pool(self.conv1_3(self.conv1_2(self.conv1_1(x))))
        maps = []
        for names in self.stages:
            for name in names:
                x = getattr(self, name)(x)
            maps.append(x)
        return maps


def build(args: Mapping[str, Any], in_channels: int) -> nn.Layer:
    """The detector's ResNet_vd from the Backbone section's arguments."""
    return ResNetVd(in_channels=in_channels, **args)

"""The conv units that PP-OCR v2.0 nets are made of, named as in the official checkpoints."""

from __future__ import annotations

from typing import cast

import paddle
from paddle import nn
from paddle.nn import functional as F

from slim.errors import UnsupportedModel

Size = int | tuple[int, int]


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of ``divisor``, never losing more than 10%.

    Source: MobileNetV3 (Howard et al. 2019), as the PP-OCR v2.0 nets use it.

    >>> make_divisible(16 * 0.35), make_divisible(0.5 * 88)
    (8, 48)
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def activate(x: paddle.Tensor, act: str | None) -> paddle.Tensor:
    """Apply "relu", "hardswish" (x * relu6(x + 3) / 6) or nothing; shape unchanged."""
    if act is None:
        return x
    if act == "relu":
        return F.relu(x)
    if act == "hardswish":
        return F.hardswish(x)
    raise UnsupportedModel(f"activation {act!r} is not known", remedy="use relu, hardswish or null")


class ConvBN(nn.Layer):
    """Conv2D without bias, BatchNorm, activation. N x C x H x W in and out."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: Size = 1,
        groups: int = 1,
        act: str | None = None,
    ) -> None:
        super().__init__()
        self.act = act
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=(kernel - 1) // 2,
            groups=groups,
            bias_attr=False,
        )
        self.bn = nn.BatchNorm2D(out_channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return activate(self.bn(self.conv(x)), self.act)


class SqueezeExcite(nn.Layer):
    """Channel gate: x * hardsigmoid(conv2(relu(conv1(mean(x))))).

    The gate is clip(0.2 x + 0.5, 0, 1): with Paddle's default slope 1/6 the official
    classifier's weights do not reproduce the official outputs.
    """

    SLOPE = 0.2
    OFFSET = 0.5

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.conv1 = nn.Conv2D(channels, channels // reduction, 1)
        self.conv2 = nn.Conv2D(channels // reduction, channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        gate = self.conv2(F.relu(self.conv1(self.avg_pool(x))))
        return x * F.hardsigmoid(gate, slope=self.SLOPE, offset=self.OFFSET)


class InvertedResidual(nn.Layer):
    """MobileNetV3 block: 1x1 expand, depthwise, optional SE, 1x1 project, shortcut where shapes allow."""

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: Size,
        use_se: bool,
        act: str,
    ) -> None:
        super().__init__()
        # A stride written as a pair never has a shortcut, not even (1, 1): so the published weights
        # were trained (with one, the recognizer's outputs are off by 1.0).
        self.shortcut = stride == 1 and in_channels == out_channels
        self.expand_conv = ConvBN(in_channels, mid_channels, 1, act=act)
        self.bottleneck_conv = ConvBN(
            mid_channels, mid_channels, kernel, stride=stride, groups=mid_channels, act=act
        )
        self.use_se = use_se
        if use_se:
            self.mid_se = SqueezeExcite(mid_channels)
        self.linear_conv = ConvBN(mid_channels, out_channels, 1)

    def forward(self, inputs: paddle.Tensor) -> paddle.Tensor:
        x = self.bottleneck_conv(self.expand_conv(inputs))
        if self.use_se:
            x = self.mid_se(x)
        x = self.linear_conv(x)
        return cast("paddle.Tensor", inputs + x) if self.shortcut else x

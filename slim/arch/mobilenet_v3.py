"""MobileNetV3 backbones of PP-OCR v2.0: one for text lines (cls, rec), one for pages (det).

Rows are (kernel, expand, out, squeeze-excite, activation, stride class); the stride class names
which entry of ``small_stride`` / ``large_stride`` a line net uses there, and whether a page net
halves both sides. Source: Howard et al. 2019, table 1 and 2; strides: the published PP-OCR configs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import paddle
from paddle import nn

from slim.arch.layers import ConvBN, InvertedResidual, Size, make_divisible
from slim.errors import UnsupportedModel


class Row(NamedTuple):
    """One block of the table: widths are those of scale 1.0."""

    kernel: int
    expand: int
    out: int
    use_se: bool
    act: str
    stage: int | None  # index into the stride list, None: stride 1


_SMALL = (
    Row(3, 16, 16, True, "relu", 0),
    Row(3, 72, 24, False, "relu", 1),
    Row(3, 88, 24, False, "relu", None),
    Row(5, 96, 40, True, "hardswish", 2),
    Row(5, 240, 40, True, "hardswish", None),
    Row(5, 240, 40, True, "hardswish", None),
    Row(5, 120, 48, True, "hardswish", None),
    Row(5, 144, 48, True, "hardswish", None),
    Row(5, 288, 96, True, "hardswish", 3),
    Row(5, 576, 96, True, "hardswish", None),
    Row(5, 576, 96, True, "hardswish", None),
)
_LARGE = (
    Row(3, 16, 16, False, "relu", 0),
    Row(3, 64, 24, False, "relu", 1),
    Row(3, 72, 24, False, "relu", None),
    Row(5, 72, 40, True, "relu", 2),
    Row(5, 120, 40, True, "relu", None),
    Row(5, 120, 40, True, "relu", None),
    Row(3, 240, 80, False, "hardswish", None),
    Row(3, 200, 80, False, "hardswish", None),
    Row(3, 184, 80, False, "hardswish", None),
    Row(3, 184, 80, False, "hardswish", None),
    Row(3, 480, 112, True, "hardswish", None),
    Row(3, 672, 112, True, "hardswish", None),
    Row(5, 672, 160, True, "hardswish", 3),
    Row(5, 960, 160, True, "hardswish", None),
    Row(5, 960, 160, True, "hardswish", None),
)
_TABLES = {"small": (_SMALL, 576), "large": (_LARGE, 960)}
# Page nets halve both sides at these rows.
_PAGE_STRIDE_2 = {"small": (0, 1, 3, 8), "large": (1, 3, 6, 12)}


def table(model_name: str) -> tuple[Sequence[Row], int]:
    """Rows and last width of "small" or "large"; raises UnsupportedModel for another name."""
    if model_name not in _TABLES:
        raise UnsupportedModel(
            f"MobileNetV3 model_name {model_name!r} is not known", remedy=f"use one of {', '.join(_TABLES)}"
        )
    return _TABLES[model_name]


def _line_stride(model_name: str, row: Row, strides: Sequence[int]) -> Size:
    if row.stage is None:
        return 1
    if model_name == "large" and row.stage == 0:
        return strides[0]
    return (strides[row.stage], 1)


class MobileNetV3Line(nn.Layer):
    """Backbone for text lines: N x 3 x H x W -> N x C x H' x W/4 (H' = 1 for the published shapes).

    Strides of the blocks only touch the height; the stem and the last pool halve the width.
    """

    def __init__(
        self,
        in_channels: int = 3,
        model_name: str = "small",
        scale: float = 0.5,
        small_stride: Sequence[int] | None = None,
        large_stride: Sequence[int] | None = None,
        disable_se: bool = False,
    ) -> None:
        super().__init__()
        rows, last = table(model_name)
        given = small_stride if model_name == "small" else large_stride
        default = [2, 2, 2, 2] if model_name == "small" else [1, 2, 2, 2]
        strides = list(given or default)
        if len(strides) != 4:
            raise UnsupportedModel(f"{model_name}_stride has {len(strides)} entries, must have 4")
        width = make_divisible(16 * scale)
        self.conv1 = ConvBN(in_channels, width, 3, stride=2, act="hardswish")
        blocks = []
        for row in rows:
            out = make_divisible(scale * row.out)
            blocks.append(
                InvertedResidual(
                    width,
                    make_divisible(scale * row.expand),
                    out,
                    row.kernel,
                    stride=_line_stride(model_name, row, strides),
                    use_se=row.use_se and not disable_se,
                    act=row.act,
                )
            )
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.out_channels = make_divisible(scale * last)
        self.conv2 = ConvBN(width, self.out_channels, 1, act="hardswish")
        self.pool = nn.MaxPool2D(kernel_size=2, stride=2, padding=0)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.pool(self.conv2(self.blocks(self.conv1(x))))


class MobileNetV3Page(nn.Layer):
    """Backbone for pages: N x 3 x H x W -> four maps at 1/4, 1/8, 1/16, 1/32 of the size."""

    def __init__(
        self,
        in_channels: int = 3,
        model_name: str = "large",
        scale: float = 0.5,
        disable_se: bool = False,
    ) -> None:
        super().__init__()
        rows, last = table(model_name)
        halves = _PAGE_STRIDE_2[model_name]
        split_after = 2 if model_name == "large" else 0
        width = make_divisible(16 * scale)
        self.conv = ConvBN(in_channels, width, 3, stride=2, act="hardswish")
        stages: list[list[nn.Layer]] = [[]]
        self.out_channels: list[int] = []
        for i, row in enumerate(rows):
            if i in halves and i > split_after:
                self.out_channels.append(width)
                stages.append([])
            out = make_divisible(scale * row.out)
            stages[-1].append(
                InvertedResidual(
                    width,
                    make_divisible(scale * row.expand),
                    out,
                    row.kernel,
                    stride=2 if i in halves else 1,
                    use_se=row.use_se and not disable_se,
                    act=row.act,
                )
            )
            width = out
        stages[-1].append(ConvBN(width, make_divisible(scale * last), 1, act="hardswish"))
        self.out_channels.append(make_divisible(scale * last))
        self.stage_count = len(stages)
        for i, stage in enumerate(stages):
            self.add_sublayer(f"stage{i}", nn.Sequential(*stage))

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        x = self.conv(x)
        maps = []
        for i in range(self.stage_count):
            x = getattr(self, f"stage{i}")(x)
            maps.append(x)
        return maps


def build(kind: str, args: Mapping[str, Any], in_channels: int) -> nn.Layer:
    """The line or page backbone for a kind, from the Backbone section's arguments."""
    cls = MobileNetV3Page if kind == "det" else MobileNetV3Line
    return cls(in_channels=in_channels, **args)

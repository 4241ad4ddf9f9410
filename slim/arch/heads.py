"""Heads: classes of a line, CTC logits of a line, DB maps of a page."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F


class ClsHead(nn.Layer):
    """N x C x H x W -> N x classes; logits in training, softmax in eval."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(in_channels, classes)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        # squeeze, not flatten: opt 2.13 crashes on flatten_contiguous_range.
        x = self.fc(self.pool(x).squeeze(axis=[2, 3]))
        return x if self.training else F.softmax(x, axis=1)


class CTCHead(nn.Layer):
    """N x T x C -> N x T x classes; logits in training, softmax in eval. Class 0 is the blank."""

    def __init__(self, in_channels: int, classes: int, mid_channels: int | None = None) -> None:
        super().__init__()
        self.mid_channels = mid_channels
        if mid_channels is None:
            self.fc = nn.Linear(in_channels, classes)
        else:
            self.fc1 = nn.Linear(in_channels, mid_channels)
            self.fc2 = nn.Linear(mid_channels, classes)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.fc(x) if self.mid_channels is None else self.fc2(self.fc1(x))
        return x if self.training else F.softmax(x, axis=2)


class DBBranch(nn.Layer):
    """One DB map: 3x3 conv, then two 2x2 transposed convs: N x C x H x W -> N x 1 x 4H x 4W in 0..1."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        width = in_channels // 4
        self.conv1 = nn.Conv2D(in_channels, width, 3, padding=1, bias_attr=False)
        self.conv_bn1 = nn.BatchNorm2D(width)
        self.conv2 = nn.Conv2DTranspose(width, width, 2, stride=2)
        self.conv_bn2 = nn.BatchNorm2D(width)
        self.conv3 = nn.Conv2DTranspose(width, 1, 2, stride=2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = F.relu(self.conv_bn1(self.conv1(x)))
        x = F.relu(self.conv_bn2(self.conv2(x)))
        return F.sigmoid(self.conv3(x))


class DBHead(nn.Layer):
    """Shrink map in eval (N x 1 x H x W); shrink, threshold and binary maps in training (N x 3 x H x W).

    binary = 1 / (1 + exp(-k (shrink - threshold))) (Liao et al. 2020, eq. 2).
    """

    def __init__(self, in_channels: int, k: int = 50) -> None:
        super().__init__()
        self.k = k
        self.binarize = DBBranch(in_channels)
        self.thresh = DBBranch(in_channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        shrink = self.binarize(x)
        if not self.training:
            return shrink
        threshold = self.thresh(x)
        return paddle.concat([shrink, threshold, F.sigmoid(self.k * (shrink - threshold))], axis=1)

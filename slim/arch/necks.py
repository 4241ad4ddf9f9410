"""What stands between backbone and head: the sequence encoder of CRNN and DB's feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import nn
from paddle.nn import functional as F

from slim.errors import UnsupportedModel


class LstmEncoder(nn.Layer):
    """Two-layer bidirectional LSTM: N x T x C -> N x T x 2*hidden."""

    def __init__(self, in_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.out_channels = hidden_size * 2
        self.lstm = nn.LSTM(in_channels, hidden_size, direction="bidirectional", num_layers=2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        out, _ = self.lstm(x)
        return out


class SequenceEncoder(nn.Layer):
    """Feature map N x C x 1 x W -> sequence N x W x C', by an LSTM ("rnn") or as it is ("reshape")."""

    def __init__(self, in_channels: int, encoder_type: str = "rnn", hidden_size: int = 48) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.encoder: nn.Layer | None = None
        if encoder_type == "rnn":
            self.encoder = LstmEncoder(in_channels, hidden_size)
            self.out_channels = self.encoder.out_channels
        elif encoder_type != "reshape":
            raise UnsupportedModel(
                f"SequenceEncoder encoder_type {encoder_type!r} is not known", remedy="use rnn or reshape"
            )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        # Not while a program is traced: Paddle would wrap the message into a page of code.
        if paddle.in_dynamic_mode() and x.shape[2] != 1:
            raise UnsupportedModel(
                f"the backbone leaves maps {x.shape[2]} pixels high, a sequence needs 1",
                where="Architecture.Backbone",
                remedy="halve the height in more layers: 32 pixels must come to 1",
            )
        x = x.squeeze(axis=2).transpose([0, 2, 1])
        return x if self.encoder is None else self.encoder(x)


class DBFPN(nn.Layer):
    """Feature pyramid of DB (Liao et al. 2020): four maps -> one N x out x H/4 x W/4."""

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        self.out_channels = out_channels
        if len(in_channels) != 4:
            raise UnsupportedModel(f"DBFPN needs 4 feature maps, the backbone gives {len(in_channels)}")
        for level, channels in zip((2, 3, 4, 5), in_channels, strict=True):
            lateral = nn.Conv2D(channels, out_channels, 1, bias_attr=False)
            smooth = nn.Conv2D(out_channels, out_channels // 4, 3, padding=1, bias_attr=False)
            self.add_sublayer(f"in{level}_conv", lateral)
            self.add_sublayer(f"p{level}_conv", smooth)

    def forward(self, x: list[paddle.Tensor]) -> paddle.Tensor:
        c2, c3, c4, c5 = x
        in5 = self.in5_conv(c5)
        out4 = self.in4_conv(c4) + _up(in5, 2)
        out3 = self.in3_conv(c3) + _up(out4, 2)
        out2 = self.in2_conv(c2) + _up(out3, 2)
        maps = [
            _up(self.p5_conv(in5), 8),
            _up(self.p4_conv(out4), 4),
            _up(self.p3_conv(out3), 2),
            self.p2_conv(out2),
        ]
        return paddle.concat(maps, axis=1)


def _up(x: paddle.Tensor, factor: int) -> paddle.Tensor:
    return F.interpolate(x, scale_factor=factor, mode="nearest", align_mode=1)

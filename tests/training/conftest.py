"""A tiny classifier, a small real recognizer, and batches that depend on the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
import pytest
from paddle import nn

from slim.arch import build_net
from slim.arch.heads import ClsHead
from slim.arch.layers import ConvBN

REC = {
    "model_type": "rec",
    "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": 0.35, "small_stride": [1, 2, 2, 2]},
    "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 8},
    "Head": {"name": "CTCHead"},
}


@dataclass(frozen=True)
class FakeBatch:
    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    refs: tuple[str, ...]


class FakeData:
    def __init__(self, name: str) -> None:
        self.name = name

    def describe(self) -> Mapping[str, Any]:
        return {"path": self.name, "count": 64, "sha256": "0" * 64}


class FakeBatches:
    """4 images a step; class 1 is brighter than class 0, so that there is something to learn."""

    steps_per_epoch = 5

    def __init__(self, kind: str, *, data: str = "lines", nan_at: int | None = None) -> None:
        self.kind, self.dataset, self.nan_at = kind, FakeData(data), nan_at

    def batch_at(self, step: int) -> FakeBatch:
        rng = np.random.default_rng([7, step])
        height, width = (48, 64) if self.kind == "cls" else (32, 64)
        image = rng.normal(0.0, 0.3, (4, 3, height, width)).astype(np.float32)
        labels = np.array([0, 1, 0, 1], np.int64)
        if self.kind == "cls":
            image += labels[:, None, None, None] * np.float32(0.8)
            lengths = np.ones(4, np.int64)
        else:
            labels = rng.integers(1, 6, (4, 3)).astype(np.int64)
            lengths = np.array([3, 2, 1, 3], np.int64)
        if self.nan_at == step:
            image[0, 0, 0, 0] = np.nan
        return FakeBatch(image, labels, lengths, tuple(f"line{step}_{k}.png" for k in range(4)))

    def iterate(self, start_step: int, stop_step: int) -> Iterator[FakeBatch]:
        for step in range(start_step, stop_step):
            yield self.batch_at(step)


class TinyClassifier(nn.Layer):
    """Conv, BatchNorm, dropout, the real head; names as in the real nets."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Layer()
        self.backbone.conv1 = ConvBN(3, 8, 3, stride=4, act="relu")
        self.dropout = nn.Dropout(0.2)
        self.head = ClsHead(8, 2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.dropout(self.backbone.conv1(x)))


def make_net(kind: str, seed: int = 0) -> nn.Layer:
    paddle.seed(seed)
    return TinyClassifier() if kind == "cls" else build_net(REC, 6)


def weights(net: nn.Layer) -> dict[str, npt.NDArray[Any]]:
    return {name: tensor.numpy().copy() for name, tensor in net.state_dict().items()}


class Kit:
    """The helpers above for tests, which cannot import a conftest."""

    REC = REC
    Batch, Batches = FakeBatch, FakeBatches
    net = staticmethod(make_net)
    weights = staticmethod(weights)

    @staticmethod
    def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
        """Names whose arrays are not equal bit by bit."""
        assert set(a) == set(b)
        return [name for name in a if a[name].tobytes() != b[name].tobytes()]


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()

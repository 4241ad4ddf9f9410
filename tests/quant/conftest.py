"""Bundled models, drawn text lines and a batch source for the quantization tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slim.bundle import Bundle, from_checkpoint
from slim.data.dataset import Line
from slim.data.loader import Batch
from slim.ocr.preprocess import to_tensor
from slim.spec import InputSpec, ModelSpec

_CLS = {
    "model_type": "cls",
    "Backbone": {"name": "MobileNetV3", "scale": 0.35, "model_name": "small"},
    "Neck": None,
    "Head": {"name": "ClsHead"},
}
_REC = {
    "model_type": "rec",
    "Backbone": {"name": "MobileNetV3", "scale": 0.5, "model_name": "small", "small_stride": [1, 2, 2, 2]},
    "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 48},
    "Head": {"name": "CTCHead"},
}
_CHARS = "0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~!\"#$%&'()*+,-./ "
CLS = ModelSpec("cls", "cls", _CLS, ("0", "180"), InputSpec(48, 192))
REC = ModelSpec("rec", "rec", _REC, ("", *_CHARS, " "), InputSpec(32, 320, dynamic_width=True))


@pytest.fixture(scope="session")
def originals(checkout: Path) -> Mapping[str, Bundle]:
    """Float models by kind; tests work on clones."""
    zoo = checkout / "slim" / "zoo"
    return {
        "cls": from_checkpoint(CLS, zoo / "ch_ppocr_mobile_v2.0_cls.pdparams"),
        "rec": from_checkpoint(REC, zoo / "en_number_synthetic_crnn.pdparams"),
    }


class Lines:
    """Text drawn with one of OpenCV's stroke fonts; every second line of a classifier's set is turned."""

    def __init__(self, count: int, *, turn: bool) -> None:
        self.count, self.turn = count, turn

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Line:
        rng = np.random.default_rng(number)
        text = "".join(rng.choice(list("0123456789ABCDEFabcdef"), 8))
        image = np.full((40, 220, 3), rng.integers(150, 255), np.uint8)
        color = tuple(int(c) for c in rng.integers(0, 90, 3))
        cv2.putText(image, text, (8, 29), cv2.FONT_HERSHEY_SIMPLEX, 1.1, color, 2, cv2.LINE_AA)
        turned = self.turn and number % 2 == 1
        if turned:
            image = np.ascontiguousarray(image[::-1, ::-1])
        label = ("180" if turned else "0") if self.turn else text
        return Line(f"{number}.png", image, label)

    def describe(self) -> dict[str, Any]:
        return {"path": "drawn", "count": self.count, "sha256": "0" * 64}


@pytest.fixture(scope="session")
def lines() -> Callable[..., Lines]:
    return Lines


@pytest.fixture(scope="session")
def images() -> Callable[[ModelSpec, int], np.ndarray]:
    """``images(spec, n)``: float32 n x 3 x H x W of drawn lines."""

    def make(spec: ModelSpec, count: int) -> np.ndarray:
        data = Lines(count, turn=spec.kind == "cls")
        return np.stack([to_tensor(data[i].image, spec.input) for i in range(count)])

    return make


class Turned:
    """Batches for a classifier: batch k depends on k alone."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.dataset = Lines(64, turn=True)
        self.steps_per_epoch = 64 // size

    def iterate(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        for step in range(start_step, stop_step):
            chosen = [self.dataset[(step * self.size + k) % 64] for k in range(self.size)]
            image = np.stack([to_tensor(line.image, CLS.input) for line in chosen])
            labels = np.array([CLS.labels.index(line.text) for line in chosen], np.int64)
            ones = np.ones(self.size, np.int64)
            yield Batch(image, labels, ones, tuple(line.ref for line in chosen), step)


@pytest.fixture
def turned() -> Turned:
    return Turned(4)

"""Predictions by model kind."""

from __future__ import annotations

import numpy as np
import pytest

from slim.errors import InputError, UnsupportedModel
from slim.ocr.postprocess import Prediction, decode
from slim.spec import InputSpec, ModelSpec

CLS = ModelSpec("angle", "cls", {}, ("0", "180"), InputSpec(48, 192))


def test_cls() -> None:
    outputs = np.array([[0.75, 0.25], [0.0, 1.0]], np.float32)
    assert decode(outputs, CLS) == [Prediction("0", 0.75), Prediction("180", 1.0)]


def test_cls_of_another_width() -> None:
    with pytest.raises(InputError, match="does not fit the 2 labels 0, 180"):
        decode(np.zeros((1, 4), np.float32), CLS)


def test_rec() -> None:
    spec = ModelSpec("line", "rec", {}, ("", "a", "b"), InputSpec(32, 320))
    probs = np.array([[[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]], np.float32)
    assert decode(probs, spec) == [Prediction("aa", 0.75)]


def test_det_is_refused() -> None:
    spec = ModelSpec("boxes", "det", {}, (), InputSpec(640, 640))
    with pytest.raises(UnsupportedModel, match="boxes: kind det has no text output"):
        decode(np.zeros((1, 1, 32, 32), np.float32), spec)

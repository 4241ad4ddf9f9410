"""Predictions by model kind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from slim.errors import InputError
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


def test_det() -> None:
    post = {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}
    spec = ModelSpec("boxes", "det", {}, (), InputSpec(640, 640), post)
    maps = np.zeros((2, 1, 32, 64), np.float32)
    maps[1, 0, 10:21, 10:41] = 0.75
    empty, one = decode(maps, spec, [(32, 64), (64, 128)])
    assert empty == Prediction("[]", 0.0)
    # 31 x 11 pixels: 30 x 10 between centres, 300 * 1.5 / 80 = 5.625 more on each side, then twice as large
    points = [[9, 9], [91, 9], [91, 51], [9, 51]]
    assert json.loads(one.text) == [{"transcription": "", "points": points, "score": 0.75}]
    assert one.score == 0.75


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (2, 2, 32, 32), (2, 32, 32)])
def test_det_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="does not fit 2 pages; a detector gives N x 1 x H x W"):
        decode(np.zeros(shape, np.float32), ModelSpec("d", "det", {}, (), InputSpec(32, 32)), [(32, 32)] * 2)

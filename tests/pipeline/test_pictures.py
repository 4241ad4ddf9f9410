"""The pictures of a report, decoded again: their size, and regions where they were found."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from slim.data.dataset import Line
from slim.errors import InputError
from slim.evaluate import EvalResult, PredictionRow
from slim.pipeline.pictures import picture, pictures

Box = list[list[int]]
LEFT: Box = [[100, 100], [500, 100], [500, 300], [100, 300]]
RIGHT: Box = [[600, 600], [900, 600], [900, 900], [600, 900]]


def decoded(uri: str) -> npt.NDArray[np.uint8]:
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


class Pages:
    """Two white pages of 1000 x 2000, of which the second can no longer be read."""

    def __getitem__(self, number: int) -> Line:
        if number:
            raise InputError("cannot be read", where="1.jpg")
        return Line("0.jpg", np.full((1000, 2000, 3), 255, np.uint8), "")


def found(*boxes: Box) -> EvalResult:
    text = json.dumps([{"transcription": "", "points": box} for box in boxes])
    rows = [PredictionRow(f"{k}.jpg", "[]", text, 1.0, False) for k in range(2)]
    return EvalResult("det", {"hmean": 0.5}, rows, 2, 1.0, [(1, 1, 1)] * 2)


def test_a_page_shows_what_each_file_found() -> None:
    report = {"kind": "det", "differing": [{"index": 0}, {"index": 1}], "predictions": {"of": "arm"}}
    made = pictures(report, Pages(), {"original": found(LEFT, RIGHT), "arm": found(LEFT)})  # type: ignore[arg-type]
    assert list(made) == [0]
    page = decoded(made[0]).astype(int)
    assert page.shape == (240, 480, 3)  # 0.24 : 1
    blue, green, red = page[24 + 4 : 72 - 4, 24].mean(axis=0)  # the left side of LEFT, found by both
    assert red > blue + 80, "the shipped file's orange lies over the original's blue"
    blue, green, red = page[144 + 4 : 216 - 4, 144].mean(axis=0)  # of RIGHT, which the shipped file lost
    assert blue > red + 80
    assert page[100:130, 300:470].min() > 240


@pytest.mark.parametrize(
    ("shape", "shown"), [((20, 100), (20, 100)), ((80, 160), (40, 80)), ((32, 6400), (2, 320))]
)
def test_a_line_fits_its_card(shape: tuple[int, int], shown: tuple[int, int]) -> None:
    assert decoded(picture(np.zeros((*shape, 3), np.uint8))).shape[:2] == shown

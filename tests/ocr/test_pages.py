"""Pages through stand-ins for the three models: order, cuts, turning, widths."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slim.ocr.db import Region
from slim.ocr.pages import Model, PageLine, crop, drawn, read_page, reading_order
from slim.ocr.postprocess import Prediction
from slim.spec import InputSpec, ModelSpec

POST = {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 0.01}
PAGE = InputSpec(640, 640, dynamic_width=True, dynamic_height=True)
DET = ModelSpec("d", "det", {}, (), PAGE, POST)
CLS = ModelSpec("c", "cls", {}, ("0", "180"), InputSpec(48, 192))
REC = ModelSpec("r", "rec", {}, ("", "a", "b"), InputSpec(32, 64, dynamic_width=True))


def _at(x: float, y: float, width: float = 50, height: float = 20) -> Region:
    return Region(((x, y), (x + width, y), (x + width, y + height), (x, y + height)), 1.0)


def test_rows_are_read_from_left_to_right() -> None:
    page = [_at(200, 52), _at(10, 58), _at(300, 49), _at(0, 100), _at(90, 91), _at(5, 5)]
    assert [r.points[0] for r in reading_order(page)] == [
        (5, 5),
        (10, 58),
        (200, 52),
        (300, 49),
        (0, 100),
        (90, 91),
    ]
    assert [r.points[0][0] for r in reading_order([_at(200, 50), _at(10, 60)])] == [
        200,
        10,
    ]  # 10 is another row


def test_a_turned_line_is_cut_level() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    corners = np.array([(30, 40), (110, 60), (105, 80), (25, 60)], np.int32)
    cv2.fillPoly(image, [corners], (255, 255, 255))
    cv2.line(image, (30, 40), (25, 60), (0, 0, 255), 3)  # the side where the line begins, red
    cut = crop(image, Region(tuple((float(x), float(y)) for x, y in corners), 1.0))
    assert cut.shape == (20, 82, 3)  # sides 82.5 and 20.6 long
    assert cut[3:-3, 6:-6].min() > 200  # nothing of the black around it
    assert (cut[5:-5, 0, 2] > 150).all() and cut[5:-5, 0, 0].max() < 120


@pytest.mark.parametrize(("height", "shape"), [(29, (29, 20, 3)), (30, (20, 30, 3))])
def test_an_upright_region_is_laid_down(height: int, shape: tuple[int, ...]) -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    image[10:15, 10:30] = 255  # its upper end
    cut = crop(image, _at(10, 10, 20, height))
    assert cut.shape == shape
    if shape[0] == 20:  # turned against the clock: the upper end lies left
        assert cut[:, :4].min() == 255 and cut[:, 8:].max() == 0


class _Rec:
    """Reads "a" where the left end of a line is dark, "b" where it is bright; notes the widths."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.widths.append(x.shape[3])
        return np.eye(3, dtype=np.float32)[[[2 if x[0, :, 8:24, 3].mean() > 0 else 1]]]


def _det(x: np.ndarray) -> np.ndarray:
    return (np.abs(x[:, :1] - x[:, :1, :1, :1]) > 0.2).astype(np.float32)


def _page(*spans: tuple[int, int]) -> np.ndarray:
    """Grey page of 192 x 320; lines 20 high, their left half black, their right half white."""
    image = np.full((192, 320, 3), 100, np.uint8)
    for row, (left, right) in enumerate(spans):
        middle = (left + right) // 2
        image[10 + 40 * row : 31 + 40 * row, left:middle] = 0
        image[10 + 40 * row : 31 + 40 * row, middle : right + 1] = 255
    return image


@pytest.mark.parametrize(
    ("probability", "text"), [(None, "a"), (0.0, "a"), (0.9, "a"), (0.91, "b"), (1.0, "b")]
)
def test_a_line_is_turned_above_the_threshold(probability: float | None, text: str) -> None:
    """0.9 in float32 is 0.89999998."""
    cls = None
    if probability is not None:
        answer = np.array([[1 - probability, probability]], np.float32)
        cls = Model(CLS, lambda x: answer)
    (line,) = read_page(_page((20, 120)), Model(DET, _det), Model(REC, _Rec()), cls)
    assert line.text == Prediction(text, 1.0)
    if probability is None:
        assert line.angle is None
    else:
        assert line.angle is not None and (line.angle.text == "180") == (probability > 0.5)
    assert line.region.points == ((20, 10), (120, 10), (120, 30), (20, 30))


def test_long_lines_get_wider_tensors_where_the_model_allows_it() -> None:
    """100 x 20 becomes 160 x 32; 280 x 20 becomes 448 x 32; 30 x 20 stays at the model's 64."""
    rec, page = _Rec(), _page((20, 120), (20, 300), (20, 50))
    assert len(read_page(page, Model(DET, _det), Model(REC, rec))) == 3
    assert rec.widths == [160, 448, 64]
    fixed = _Rec()
    spec = ModelSpec("r", "rec", {}, REC.labels, InputSpec(32, 64))
    read_page(page, Model(DET, _det), Model(spec, fixed))
    assert fixed.widths == [64, 64, 64]


def test_an_empty_page_has_no_lines() -> None:
    assert read_page(_page(), Model(DET, _det), Model(REC, _Rec())) == []


def test_boxes_are_drawn_on_a_copy() -> None:
    page = _page((20, 120))
    texts = (Prediction("a", 1.0), Prediction("", 0.0))
    lines = [PageLine(_at(20, 60 * k), None, text) for k, text in enumerate(texts, 1)]
    picture = drawn(page, lines)
    assert (page == _page((20, 120))).all()
    green, red = picture[70, 20].astype(int), picture[130, 20].astype(int)
    assert green[1] > green[2] + 100 and red[2] > red[1] + 100
    assert (picture[75, 35] == page[75, 35]).all()

"""Metrics: PaddleOCR's definitions and their edges."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slim.errors import InputError, UnsupportedModel
from slim.metrics import ClsMetric, DetMetric, RecMetric, metric_for, same_text


def test_spaces_do_not_count_case_does() -> None:
    metric = RecMetric()
    assert metric.update(["ab c", "Abc", ""], ["a bc ", "abc", ""]) == [True, False, True]
    assert metric.summary() == {"acc": 2 / 3, "norm_edit_dis": pytest.approx(1 - (1 / 3) / 3, abs=1e-12)}
    assert same_text("a b", "ab")


def test_distance_is_divided_by_the_longer_text() -> None:
    metric = RecMetric()
    metric.update(["kitten"], ["sitting"])  # 3 edits, 7 characters
    assert metric.summary()["norm_edit_dis"] == pytest.approx(4 / 7, abs=1e-12)


def test_batches_add_up_and_reset_forgets() -> None:
    metric = ClsMetric()
    metric.update(["0"], ["0"])
    metric.update(["180", "0", "0"], ["0", "0", "180"])
    assert metric.summary() == {"acc": 0.5}
    metric.reset()
    with pytest.raises(InputError, match="no image was scored"):
        metric.summary()


@pytest.mark.parametrize("kind", ["rec", "cls", "det"])
def test_nothing_scored_has_no_value(kind: str) -> None:
    metric = metric_for(kind)
    metric.update([], [])
    with pytest.raises(InputError, match="no image was scored"):
        metric.summary()
    with pytest.raises(InputError, match="1 predictions for 2 expected"):
        metric.update(["a"], ["a", "b"])


def test_unknown_kind() -> None:
    with pytest.raises(UnsupportedModel, match="kind e2e has no metric; use one of rec, cls, det"):
        metric_for("e2e")


def _page(*boxes: tuple[float, float, float, float], text: str = "HI") -> list[dict[str, Any]]:
    return [
        {"transcription": text, "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
        for x0, y0, x1, y1 in boxes
    ]


A, B, C = (0, 0, 40, 10), (0, 20, 40, 30), (0, 40, 40, 50)


@pytest.mark.parametrize(
    ("found", "wanted", "counts"),
    [
        (_page(A, B), _page(A, B), (2, 2, 2)),
        (_page(), _page(A, B), (0, 0, 2)),
        (_page(A, C), _page(A, B), (1, 2, 2)),
        # IoU of a region shifted along by 13 of 40 pixels: 27 / 53 = 0.509; by 14: 26 / 54 = 0.481
        (_page((13, 0, 53, 10)), _page(A), (1, 1, 1)),
        (_page((14, 0, 54, 10)), _page(A), (0, 1, 1)),
        # exactly 0.5 is no match: 20 x 10 in 40 x 10
        (_page((0, 0, 20, 10)), _page(A), (0, 1, 1)),
        # two found for one label: one of them is in excess
        (_page(A, A), _page(A), (1, 2, 1)),
        # an ignored label asks for nothing, and what lies by more than half in it is not counted
        (_page(A), _page(A) + _page(B, text="###"), (1, 1, 1)),
        (_page(A, B), _page(A) + _page(B, text="*"), (1, 1, 1)),
        (_page(A, (0, 25, 40, 35)), _page(A) + _page(B, text="###"), (1, 2, 1)),  # half is not more than half
        (_page(A, (0, 24, 40, 34)), _page(A) + _page(B, text="###"), (1, 1, 1)),
    ],
)
def test_regions_of_a_page(
    found: list[dict[str, Any]], wanted: list[dict[str, Any]], counts: tuple[int, int, int]
) -> None:
    metric = DetMetric()
    right = metric.update([json.dumps(found)], [json.dumps(wanted)])
    matched, count, targets = counts
    assert right == [matched == count == targets]
    precision, recall = matched / count if count else 0.0, matched / targets
    hmean = 2 * precision * recall / (precision + recall) if matched else 0.0
    assert metric.summary() == {"precision": precision, "recall": recall, "hmean": hmean}


def test_pages_add_up_before_they_are_divided() -> None:
    """3 of 4 found are right, 3 of 6 labels are found: 2 * 0.75 * 0.5 / 1.25 = 0.6, not a mean over pages."""
    metric = metric_for("det")
    pages = [(_page(A, B, C), _page(A, B, C)), (_page(C), _page(A, B)), (_page(), _page(C))]
    right = metric.update([json.dumps(f) for f, _ in pages], [json.dumps(w) for _, w in pages])
    assert right == [True, False, False]
    assert metric.summary() == {"precision": 0.75, "recall": 0.5, "hmean": pytest.approx(0.6)}

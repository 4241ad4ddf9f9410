"""DB post-processing on maps whose regions are known."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from slim.errors import InputError
from slim.ocr.db import Region, find_regions, mean_inside, regions_json
from slim.ocr.polygons import iou, polygon

POST = {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}


def _map(*boxes: tuple[int, int, int, int], value: float = 0.9) -> np.ndarray:
    prob = np.zeros((60, 100), np.float32)
    for x0, y0, x1, y1 in boxes:
        prob[y0 : y1 + 1, x0 : x1 + 1] = value
    return prob


def test_a_region_is_scored_enlarged_and_scaled() -> None:
    """21 x 5 pixels have their corner centres 20 x 4 apart: 80 * 1.5 / 48 = 2.5 more on each side."""
    (region,) = find_regions(_map((30, 20, 50, 24)), (60, 100), POST)
    assert region.score == pytest.approx(0.9, abs=1e-6)
    # 27.5, 17.5, 52.5, 26.5 rounded half to even
    assert region.points == ((28, 18), (52, 18), (52, 26), (28, 26))
    (double,) = find_regions(_map((30, 20, 50, 24)), (120, 300), POST)  # twice as high, three times as wide
    assert double.points == ((82, 35), (158, 35), (158, 53), (82, 53))


def test_corners_stay_inside_the_page() -> None:
    (region,) = find_regions(_map((0, 0, 20, 10)), (60, 100), POST)
    assert region.points[0] == (0, 0) and region.points[2] == (25, 15)  # 200 * 1.5 / 60 = 5 more


def test_a_turned_region() -> None:
    corners = cv2.boxPoints(((50, 30), (50, 10), 20.0))
    prob = np.zeros((60, 100), np.float32)
    cv2.fillPoly(prob, [np.rint(corners).astype(np.int32)], 1.0)
    (region,) = find_regions(prob, (60, 100), POST | {"unclip_ratio": 1e-6})
    assert iou(polygon(region.points), polygon(corners)) > 0.9
    assert region.points[0][1] < region.points[1][1]  # from the top left corner it falls to the right


@pytest.mark.parametrize(
    ("prob", "post", "count"),
    [
        (_map((30, 20, 50, 24), value=0.59), {}, 0),  # under box_thresh
        (_map((30, 20, 50, 24), value=0.59), {"box_thresh": 0.5}, 1),
        (_map((30, 20, 50, 24), value=0.29), {"box_thresh": 0.1}, 0),  # under thresh
        (_map((30, 20, 50, 22)), {}, 0),  # 2 pixels between the outermost centres, 3 needed
        (_map((30, 20, 50, 23)), {}, 1),
        (_map((30, 20, 33, 23)), {"unclip_ratio": 0.1}, 0),  # 3 + 2 * 0.075: under 5 after enlarging
        (_map((5, 5, 20, 12), (40, 5, 60, 12), (5, 30, 20, 40)), {}, 3),
        (_map((5, 5, 20, 12), (40, 5, 60, 12), (5, 30, 20, 40)), {"max_candidates": 2}, 2),
        (_map((5, 5, 20, 12), (22, 5, 60, 12)), {}, 2),  # one free column between them
        (_map((5, 5, 20, 12), (22, 5, 60, 12)), {"use_dilation": True, "box_thresh": 0.5}, 1),
        (_map(), {}, 0),
    ],
)
def test_what_counts_as_a_region(prob: np.ndarray, post: dict[str, object], count: int) -> None:
    assert len(find_regions(prob, (60, 100), POST | post)) == count


def test_slow_scores_the_outline_fast_the_rectangle() -> None:
    prob = _map((10, 10, 30, 40), (31, 30, 60, 40))  # an L: its rectangle is half empty
    assert find_regions(prob, (60, 100), POST) == []
    (slow,) = find_regions(prob, (60, 100), POST | {"score_mode": "slow"})
    assert slow.score == pytest.approx(0.9, abs=1e-6)


def test_mean_inside_counts_filled_pixels_only() -> None:
    prob = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert mean_inside(prob, polygon([(1, 1), (3, 1), (3, 2), (1, 2)])) == np.mean([6, 7, 8, 11, 12, 13])
    assert mean_inside(prob, polygon([(-9, -9), (-5, -9), (-5, -7)])) in (0.0, prob[0, 0])


def test_json_and_wrong_shapes() -> None:
    row = json.loads(regions_json([Region(((1.0, 2.0),) * 4, 0.5)]))[0]
    assert row == {"transcription": "", "points": [[1, 2]] * 4, "score": 0.5}
    with pytest.raises(InputError, match=r"shape \(1, 4, 4\), must be H x W"):
        find_regions(np.zeros((1, 4, 4), np.float32), (4, 4), POST)

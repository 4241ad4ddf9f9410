"""Label maps beside figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slim.data.labels import Box
from slim.data.page_maps import SHRINK, SHRINK_MASK, THRESHOLD, THRESHOLD_MASK, page_maps


def _box(x0: float, y0: float, x1: float, y1: float, text: str = "HI") -> Box:
    return Box(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), text)


def test_a_level_region() -> None:
    """40 x 10: offset 400 * 0.84 / 100 = 3.36, so text is x 14..46 and y 14..16 (13.36 to 46.64, 16.64)."""
    maps = page_maps([_box(10, 10, 50, 20)], 40, 70)
    text = np.zeros((40, 70))
    text[14:17, 14:47] = 1
    assert maps.dtype == np.float32 and maps.shape == (4, 40, 70)
    assert (maps[SHRINK] == text).all() and (maps[SHRINK_MASK] == 1).all()
    column = maps[THRESHOLD, :, 30]  # across the middle: outline at 10 and 20
    wanted = [0.3, 0.7 - 0.4 * 3 / 3.36, 0.7 - 0.4 * 2 / 3.36, 0.7 - 0.4 / 3.36, 0.7, 0.7 - 0.4 / 3.36]
    assert column[[6, 7, 8, 9, 10, 11]] == pytest.approx(wanted, abs=1e-6)
    assert column[15] == pytest.approx(0.3, abs=1e-6)  # 5 inside, beyond the offset
    counts = maps[THRESHOLD_MASK]
    assert counts[:, 30].tolist() == [0] * 7 + [1] * 17 + [0] * 16
    assert counts[8, 8] == 1 and counts[7, 7] == 0  # round corners: 2.83 and 4.24 away from (10, 10)


def test_two_thresholds_meet_at_the_larger() -> None:
    maps = page_maps([_box(10, 10, 50, 20), _box(10, 24, 50, 34)], 50, 70)
    assert maps[THRESHOLD, 21, 30] == pytest.approx(0.7 - 0.4 / 3.36, abs=1e-6)
    assert maps[THRESHOLD, 23, 30] == pytest.approx(0.7 - 0.4 / 3.36, abs=1e-6)


@pytest.mark.parametrize("text", ["###", "*"])
def test_ignored_regions_count_nowhere(text: str) -> None:
    maps = page_maps([_box(10.5, 10.5, 50.5, 20.5, text)], 40, 70)
    wanted = np.ones((40, 70))
    wanted[11:21, 11:51] = 0
    assert (maps[SHRINK] == 0).all() and (maps[SHRINK_MASK] == wanted).all()
    assert not maps[THRESHOLD_MASK].any() and maps[THRESHOLD] == pytest.approx(0.3)


@pytest.mark.parametrize(("height", "learned"), [(7.9, False), (8.0, True)])
def test_small_regions_are_neither_text_nor_ground(height: float, learned: bool) -> None:
    maps = page_maps([_box(10, 10, 50, 10 + height)], 40, 70)
    assert maps[SHRINK].any() == learned
    assert (maps[SHRINK_MASK] == 1).all() == learned
    assert maps[THRESHOLD_MASK].any()


def test_a_part_holds_what_the_page_holds_there() -> None:
    """Also of regions that reach beyond it or lie outside."""
    boxes = [Box(((5, 30), (60, 10), (66, 26), (11, 46)), "A"), _box(70, 60, 95, 75), _box(0, 80, 30, 95)]
    whole = page_maps(boxes, 100, 100)
    moved = [Box(tuple((x - 40, y - 5) for x, y in box.points), box.text) for box in boxes]
    np.testing.assert_array_equal(page_maps(moved, 60, 50), whole[:, 5:65, 40:90])
    assert whole[SHRINK, 28, 36] == 1  # the middle of the turned region
    turned = whole[SHRINK].sum() - whole[SHRINK, 58:].sum()
    # sides 58.5 and 17.1, offset 5.5: 47.5 x 6.0 = 284 pixels
    assert turned == pytest.approx(284, rel=0.05)


def test_regions_without_area_are_left_alone() -> None:
    maps = page_maps([_box(10, 10, 10, 10), _box(10, 10, 30, 10)], 40, 40)
    assert not maps[SHRINK].any() and not maps[THRESHOLD_MASK].any()

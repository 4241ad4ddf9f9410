"""Geometry beside figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slim.errors import InputError
from slim.ocr.polygons import (
    grown,
    inside,
    iou,
    is_convex,
    ordered,
    outline_distance,
    overlap,
    perimeter,
    polygon,
    sides,
    signed_area,
    smallest_box,
)

SQUARE = polygon([(0, 0), (4, 0), (4, 4), (0, 4)])
# A U: 6 x 4 with a notch 2 x 3 from above; area 18.
U = polygon([(0, 0), (2, 0), (2, 3), (4, 3), (4, 0), (6, 0), (6, 4), (0, 4)])


@pytest.mark.parametrize("turn", [1, -1])
def test_area_and_outline(turn: int) -> None:
    assert signed_area(U[::turn]) == 18 * turn
    assert perimeter(U[::turn]) == 26  # 2 + 3 + 2 + 3 + 2 + 4 + 6 + 4


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize(
    ("box", "shared"),
    [
        ([(1, 0), (5, 0), (5, 2), (1, 2)], 4),  # one pixel column on both sides of the notch, twice 1 x 2
        ([(2, 0), (4, 0), (4, 3), (2, 3)], 0),  # the notch itself
        ([(-1, -1), (9, -1), (9, 9), (-1, 9)], 18),  # all of it
        ([(3, 2), (5, 4), (3, 6), (1, 4)], 3),  # a diamond, see below
        ([(7, 0), (9, 0), (9, 2), (7, 2)], 0),  # beside it
    ],
)
def test_overlap_with_a_concave_region(box: list[tuple[float, float]], shared: float, turn: int) -> None:
    """The diamond's upper half is 4 wide and 2 high, area 4; above y = 3, where the U has its notch from
    x = 2 to 4, lies a triangle 2 wide and 1 high, area 1, all in the notch: 3 are left."""
    assert overlap(U, polygon(box)[::turn]) == pytest.approx(shared, abs=1e-12)
    assert overlap(polygon(box)[::turn], U[::turn]) == pytest.approx(shared, abs=1e-12)


def test_two_concave_regions_are_refused() -> None:
    assert not is_convex(U) and is_convex(SQUARE)
    with pytest.raises(InputError, match="two concave regions; one must be convex"):
        overlap(U, U)


def test_iou() -> None:
    assert iou(SQUARE, SQUARE) == 1.0
    assert iou(SQUARE, SQUARE + (2, 0)) == pytest.approx(8 / 24)
    turned = polygon([(2, -1), (5, 2), (2, 5), (-1, 2)])  # area 18; it cuts 4 corners of 1/2 off the square
    assert iou(SQUARE, turned) == pytest.approx(14 / (16 + 18 - 14))
    assert iou(SQUARE[[0, 0, 1, 1]], SQUARE[[0, 0, 1, 1]]) == 0.0


def test_smallest_box_is_ordered() -> None:
    points = np.array([(0, 2), (2, 0), (6, 4), (4, 6), (3, 3)])
    assert smallest_box(points) == pytest.approx(polygon([(2, 0), (6, 4), (4, 6), (0, 2)]), abs=1e-5)
    assert sides(smallest_box(points)) == pytest.approx((32**0.5, 8**0.5), abs=1e-5)
    assert ordered(SQUARE[[2, 0, 3, 1]]).tolist() == SQUARE.tolist()


def test_a_turned_box_grows_on_every_side() -> None:
    box = smallest_box(np.array([(0, 2), (2, 0), (6, 4), (4, 6)]))
    bigger = grown(box, 2**0.5)
    assert bigger == pytest.approx(polygon([(2, -2), (8, 4), (4, 8), (-2, 2)]), abs=1e-5)


def test_distance_and_inside_on_the_grid() -> None:
    distance, mask = outline_distance(U, 6, 8), inside(U + 0.5, 6, 8)
    assert distance[3].tolist() == [0, 1, 0, 0, 0, 1, 0, 1]  # y = 3: the notch's floor runs from x = 2 to 4
    assert distance[5, 7] == pytest.approx(2**0.5)
    assert mask.sum() == 18
    assert mask[1].tolist() == [False, True, True, False, False, True, True, False]

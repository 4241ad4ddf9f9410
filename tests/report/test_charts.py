"""Charts: points stand where their numbers say, checked by hand."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from slim.report.charts import HEIGHT, WIDTH, Axis, Spot, curves, size_accuracy


def test_an_axis_by_hand() -> None:
    """Values 0 .. 10 on 100 .. 200 units: 2.5 stands a quarter of the way; reversed axes count back."""
    assert Axis(0, 10, 100, 200).at(2.5) == 125.0
    assert Axis(0, 10, 200, 100).at(2.5) == 175.0


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (92.1, 94.9, [92.5, 93, 93.5, 94, 94.5]),
        (-3, 5, [-3, -2, -1, 0, 1, 2, 3, 4, 5]),
        (0, 600, [0, 100, 200, 300, 400, 500, 600]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, ticks: list[float]) -> None:
    assert Axis(low, high, 0, 1).ticks() == pytest.approx(ticks)


def test_spots_stand_in_order_with_their_intervals_inside() -> None:
    spots = [Spot("float", 544.5, 93.6, 92.4, 94.6), Spot("arm nb", 168.1, 94.15, 93.0, 95.1)]
    root = ElementTree.fromstring(size_accuracy(spots))
    dots = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter("circle")]
    assert dots[1][0] < dots[0][0] and dots[1][1] < dots[0][1]  # smaller: to the left; more right: higher
    for line in root.iter("line"):
        if line.get("class") == "whisker":
            assert 0 <= float(line.get("y2", "")) < float(line.get("y1", "")) <= HEIGHT
    assert all(0 <= x <= WIDTH for x, _ in dots)


def test_numbers_of_spots_at_one_place_do_not_cover_each_other() -> None:
    spots = [Spot(f"s{i}", 100.0 + i, 90.0, 89.0, 91.0) for i in range(4)]
    texts = ElementTree.fromstring(size_accuracy(spots)).iter("text")
    labels = [t for t in texts if t.get("class") == "label"]
    assert [t.text for t in labels] == ["1", "2", "3", "4"]
    heights = sorted(float(t.get("y", "")) for t in labels)
    assert all(b - a >= 12 for a, b in zip(heights, heights[1:], strict=False))


def test_equal_values_and_single_points_draw() -> None:
    size_accuracy([Spot("a", 1.0, 100.0, 100.0, 100.0), Spot("b", 1.0, 100.0, 100.0, 100.0)])
    size_accuracy([Spot("a", 1.0, 0.0, 0.0, 0.0), Spot("b", 1.0, 0.0, 0.0, 0.0)])
    root = ElementTree.fromstring(curves({"g": [], "h": [(10.0, 0.0)]}, ["h"]))
    assert len(list(root.iter("polyline"))) == 2

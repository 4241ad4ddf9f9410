"""Metrics: PaddleOCR's definitions and their edges."""

from __future__ import annotations

import pytest

from slim.errors import InputError, UnsupportedModel
from slim.metrics import ClsMetric, RecMetric, metric_for, same_text


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


@pytest.mark.parametrize("kind", ["rec", "cls"])
def test_nothing_scored_has_no_value(kind: str) -> None:
    metric = metric_for(kind)
    metric.update([], [])
    with pytest.raises(InputError, match="no image was scored"):
        metric.summary()
    with pytest.raises(InputError, match="1 predictions for 2 expected"):
        metric.update(["a"], ["a", "b"])


def test_unknown_kind() -> None:
    with pytest.raises(UnsupportedModel, match="kind det has no text metric"):
        metric_for("det")

"""Each calibrator against an answer computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quant.calibrators import CALIBRATORS, AbsMax, MovingAverage, Percentile, build
from slim.errors import ConfigError


def _array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_moving_average_of_three_batches() -> None:
    seen = MovingAverage(rate=0.5)
    for batch in (_array(4, -1), _array(0.5, -2), _array(8)):
        seen.update(batch)
    # (0.25 * 4 + 0.5 * 2 + 8) / (0.25 + 0.5 + 1)
    assert seen.clip() == pytest.approx(10 / 1.75, abs=1e-12)  # float64 arithmetic on small integers


def test_moving_average_has_no_memory_of_a_start_value() -> None:
    seen = MovingAverage(rate=0.9)
    seen.update(_array(0.01))
    assert seen.clip() == pytest.approx(0.01, rel=1e-6)  # float32 rounding of 0.01


def test_absmax_keeps_the_largest_of_all_batches() -> None:
    seen = AbsMax()
    for batch in (_array(1, -7), _array(3)):
        seen.update(batch)
    assert seen.clip() == 7.0


def test_percentile_leaves_the_outlier_out_and_averages_batches() -> None:
    seen = Percentile(share=0.9)
    seen.update(np.append(np.arange(1, 10), -1000).astype(np.float32))  # 9th of 10 values: 9
    seen.update(np.append(np.arange(1, 10) + 2, 5000).astype(np.float32))  # 9th of 10 values: 11
    assert seen.clip() == 10.0


def test_percentile_of_one_value_is_that_value() -> None:
    seen = Percentile()
    seen.update(_array(-2.5))
    assert seen.clip() == 2.5


@pytest.mark.parametrize("name", CALIBRATORS)
def test_unfed_calibrator_answers_zero(name: str) -> None:
    assert build(name, 0.9).clip() == 0.0


@pytest.mark.parametrize("name", CALIBRATORS)
def test_nan_stays_visible(name: str) -> None:
    seen = build(name, 0.9)
    seen.update(_array(1, math.nan))
    seen.update(_array(2, 1))
    assert math.isnan(seen.clip())


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'kl2' is not known; use moving_average, absmax, percentile"):
        build("kl2", 0.9)

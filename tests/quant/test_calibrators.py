"""Each calibrator against an answer computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quant.calibrators import (
    CALIBRATORS,
    AbsMax,
    Histogrammed,
    MovingAverage,
    Percentile,
    build,
    build_all,
    update_all,
)
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
    with pytest.raises(
        ConfigError, match="'kl2' is not known; use absmax, moving_average, percentile, hist, mse, kl, auto"
    ):
        build("kl2", 0.9)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_all_zero_has_no_clip(name: str) -> None:
    seen = build(name, 0.9)
    seen.update(np.zeros((2, 3), np.float32))
    assert seen.clip() == 0.0


@pytest.mark.parametrize("name", CALIBRATORS)
def test_infinite_values_stay_visible(name: str) -> None:
    seen = build(name, 0.9)
    seen.update(_array(1, 2))
    seen.update(np.full(20000, math.inf, np.float32))
    seen.update(_array(2, 1))
    assert not math.isfinite(seen.clip())


@pytest.mark.parametrize("name", CALIBRATORS)
def test_one_repeated_value_is_the_clip(name: str) -> None:
    seen = build(name, 0.9)
    for _ in range(3):
        seen.update(np.full((4, 5), -0.75, np.float32))
    assert seen.clip() == pytest.approx(0.75, rel=1e-9)  # float64 arithmetic on one value


def test_together_each_answers_as_alone() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(4, 64)).astype(np.float32) * k for k in (1, 3, 2)]
    together = build_all(0.9)
    for batch in batches:
        update_all(together, batch)
    for name, one in together.items():
        alone = build(name, 0.9)
        for batch in batches:
            alone.update(batch)
        assert one.clip() == alone.clip(), name
    shared = [one.seen for one in together.values() if isinstance(one, Histogrammed)]
    assert len({id(seen) for seen in shared}) == 1
    assert shared[0].counts.sum() == 3 * 256, "a shared histogram was fed twice"


def test_fewer_bits_clip_lower_by_error() -> None:
    values = np.random.default_rng(1).normal(size=50_000).astype(np.float32)
    clips = {}
    for bits in (4, 8):
        one = build("mse", 0.9, bits)
        one.update(values)
        clips[bits] = one.clip()
    # For a normal distribution the best clip at 4 bits is 2.55 deviations (Banner et al. 2019,
    # "Post-training 4-bit quantization", section 3, 16 steps where ours has 15); the search steps by
    # largest / 128, about 0.03 deviations.
    assert clips[4] == pytest.approx(2.55, abs=0.15)
    assert clips[8] > 3.5

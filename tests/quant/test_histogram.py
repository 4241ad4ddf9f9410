"""The streaming histogram, and each rule that reads a clip off it, against answers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quant.calibrators import kl
from quant.histogram import Histogram, coarsened, kl_clip, mse_clip, share_clip


def _array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def _kl_by_hand(counts: np.ndarray, kept: int, levels: int) -> float:
    """The definition, bin by bin, for one threshold."""
    p = counts[:kept].astype(float)
    p[-1] += counts[kept:].sum()
    q = np.zeros(kept)
    for j in range(levels):
        part = slice(kept * j // levels, kept * (j + 1) // levels)
        filled = counts[part] > 0
        if filled.any():
            q[part][filled] = counts[part].sum() / filled.sum()
    p, q = p / p.sum(), q / q.sum()
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def test_range_grows_by_merging_bins_and_loses_no_value() -> None:
    seen = Histogram(bins=8)
    seen.update(_array(0.05, 0.95, 1.0))  # range 1, bins of 0.125: 0, 7, 7
    assert seen.counts.tolist() == [1, 0, 0, 0, 0, 0, 0, 2]
    seen.update(_array(-3.9))  # range 4, bins of 0.5: 0, 1, 1 and 7
    assert seen.range == 4.0
    assert seen.counts.tolist() == [1, 2, 0, 0, 0, 0, 0, 1]


def test_range_may_grow_beyond_all_bins() -> None:
    seen = Histogram(bins=4)
    seen.update(_array(1e-6, 1e-6))
    seen.update(_array(1e6))
    assert seen.counts.sum() == 3
    assert seen.counts[0] == 2
    assert seen.largest <= seen.range < 2 * seen.largest


def test_streaming_equals_numpy_on_everything_at_once() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=1000).astype(np.float32) * k for k in (1, 0.1, 7, 3)]
    seen = Histogram(bins=64)
    for batch in batches:
        seen.update(batch)
    expected, _ = np.histogram(np.abs(np.concatenate(batches)), bins=64, range=(0, seen.range))
    # A value within float32 rounding of an edge may fall on its other side.
    assert np.abs(seen.counts - expected).max() <= 1


def test_zeros_are_counted_apart() -> None:
    seen = Histogram(bins=4)
    seen.update(_array(0, 0, -0.0, 1))
    assert (seen.zeros, seen.counts.tolist()) == (3, [0, 0, 0, 1])


def test_tiny_values_do_not_overflow() -> None:
    seen = Histogram()
    seen.update(_array(1e-42, 3e-42))
    assert seen.counts.sum() == 2


def test_share_counts_zeros() -> None:
    counts = np.array([2, 2, 2, 2])
    assert share_clip(counts, 1.0, zeros=0, share=0.5) == 2.0  # 4 of 8 lie in two bins
    assert share_clip(counts, 1.0, zeros=8, share=0.5) == 1.0  # 8 zeros are half of 16


def test_mse_of_two_points_by_hand() -> None:
    # One step. 1000 values at 0.5, one at 3.5, largest 4: a clip c >= 1 rounds 0.5 to 0 or to c, a clip
    # below it reaches min(c): error 1000 * (0.5 - c)**2 + (3.5 - c)**2 is least at c = (500 + 3.5) / 1001
    # = 0.50300; the candidates step by 4 / 128 = 0.03125, so 0.5 is taken.
    assert mse_clip(np.array([1000, 0, 0, 1]), 1.0, largest=4.0, steps=1) == 0.5


def test_mse_keeps_everything_when_the_grid_holds_it() -> None:
    # Bin middles 0.5, 1.5, 2.5 with 5 steps to 2.5: all of them on the grid of clip 2.5 = 128/128.
    assert mse_clip(np.array([5, 5, 5]), 1.0, largest=2.5, steps=5) == 2.5


def test_kl_of_three_thresholds_by_hand() -> None:
    # levels 2, counts 4 4 0 2. Threshold 3 ends in an empty bin. Threshold 2: P = (4, 6)/10,
    # Q = (1/2, 1/2): 0.4 ln 0.8 + 0.6 ln 1.2 = 0.0201. Threshold 4: groups (4 4) (0 2): P = Q: 0.
    assert kl_clip(np.array([4, 4, 0, 2]), 0.25, levels=2) == 1.0
    # counts 2 8 3 1: threshold 2: P = (2, 12)/14 against Q = (2, 8)/10: 1/7 ln 5/7 + 6/7 ln 15/14 = 0.0111;
    # threshold 3: groups (2) and (8 3): P = (2, 8, 4)/14, Q = (2, 5.5, 5.5)/13: 0.0490;
    # threshold 4: groups (2 8) (3 1): P = (2, 8, 3, 1)/14, Q = (5, 5, 2, 2)/14: 0.1750.
    counts = np.array([2, 8, 3, 1])
    by_hand = [_kl_by_hand(counts, kept, 2) for kept in (2, 3, 4)]
    assert by_hand == pytest.approx([0.0111, 0.0490, 0.1750], abs=1e-4)  # nats, four places written above
    assert kl_clip(counts, 0.5, levels=2) == 1.0


def test_kl_for_all_thresholds_is_the_definition() -> None:
    rng = np.random.default_rng(3)
    for seed_counts in (rng.poisson(30 * np.exp(-np.arange(70) / 12)), rng.integers(0, 3, 70)):
        counts = np.append(seed_counts, 1).astype(np.int64)
        kept = [i for i in range(len(counts) // 2, len(counts) + 1) if counts[i - 1] > 0]
        best = min(kept, key=lambda i: _kl_by_hand(counts, i, 8))
        assert kl_clip(counts, 1.0, levels=8) == best


def test_kl_of_fewer_bins_than_levels_keeps_all() -> None:
    assert kl_clip(np.array([1, 0, 1]), 2.0, levels=128) == 6.0


def test_few_values_are_put_into_fewer_bins() -> None:
    counts = np.zeros(4096, np.int64)
    counts[::16] = 1  # 256 values
    fewer, width = coarsened(counts, 1.0, levels=128)
    assert (len(fewer), width, fewer.sum()) == (512, 8.0, 256)
    many = np.full(2048, 100, np.int64)
    assert coarsened(many, 1.0, levels=128)[0] is many
    assert coarsened(np.full(4096, 100, np.int64), 1.0, levels=128)[0].tolist() == [200] * 2048


def test_kl_keeps_half_of_the_range() -> None:
    """Eight values in the first two bins would fit two levels exactly; the tail is not cut for that."""
    counts = np.array([40, 40, 1, 1, 1, 1, 1, 1])
    assert min(range(2, 9), key=lambda kept: _kl_by_hand(counts, kept, 2)) == 2
    best = min(range(4, 9), key=lambda kept: _kl_by_hand(counts, kept, 2))
    assert kl_clip(counts, 1.0, levels=2) == best >= 4


def test_zeros_count_for_kl_and_move_its_clip() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(100_000)).astype(np.float32)
    plain, rectified = Histogram(), Histogram()
    plain.update(values)
    rectified.update(np.append(values, np.zeros(100_000, np.float32)))
    assert kl(rectified) < kl(plain)

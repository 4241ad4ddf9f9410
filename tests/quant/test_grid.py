"""The measure that proves a layer is quantized, and that it can fail."""

from __future__ import annotations

import numpy as np
import pytest

from quant import grid


def test_values_on_the_grid_have_distance_zero() -> None:
    values = (np.arange(-7, 8) * 0.5).astype(np.float32)[None, :]
    assert grid.off_grid(values, np.array([3.5], np.float32), 4) == 0.0


def test_value_beyond_the_last_step_counts() -> None:
    assert grid.off_grid(np.array([[8.0]], np.float32), np.array([7.0], np.float32), 4) == 1.0


def test_each_row_has_its_own_step() -> None:
    values = np.array([[1.0], [1.0]], np.float32)
    assert grid.off_grid(values, np.array([127.0, 254.0], np.float32), 8) == 0.5


def test_a_clip_of_zero_allows_zeros_only() -> None:
    clip = np.array([0.0], np.float32)
    assert grid.off_grid(np.zeros((1, 3), np.float32), clip, 8) == 0.0
    assert grid.off_grid(np.array([[0.3]], np.float32), clip, 8) > 1.0


@pytest.mark.parametrize("bits", [4, 8])
def test_unrounded_values_are_far_off(bits: int) -> None:
    values = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    clip = np.abs(values).max(axis=1)
    assert grid.off_grid(values, clip, bits) > 10 * grid.TOLERANCE
    step = clip[:, None] / grid.steps(bits)
    rounded = (np.round(values / step) * step).astype(np.float32)
    assert grid.off_grid(rounded, clip, bits) < grid.TOLERANCE

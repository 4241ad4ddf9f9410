"""Augmentation: seeded, in bounds, and never so strong that the line is gone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slim.data.augment import CHANGES, Augment, augmentation, reverse
from slim.errors import UnsupportedModel


def _line(height: int = 40, width: int = 160) -> np.ndarray:
    image = np.full((height, width, 3), 230, np.uint8)
    cv2.putText(image, "Abc 42", (6, height * 3 // 4), cv2.FONT_HERSHEY_SIMPLEX, height / 40, (20, 40, 60), 2)
    return image


@pytest.mark.parametrize("change", [pytest.param(change, id=change.__name__) for change, _ in CHANGES])
def test_each_change_changes_and_repeats(change) -> None:  # type: ignore[no-untyped-def]
    image = _line()
    before = image.copy()
    results = [change(image, np.random.default_rng(seed)) for seed in range(8)]
    again = [change(image, np.random.default_rng(seed)) for seed in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(results, again, strict=True))
    assert any(r.shape != image.shape or not np.array_equal(r, image) for r in results)
    np.testing.assert_array_equal(image, before)
    assert all(r.dtype == np.uint8 and r.ndim == 3 and r.shape[2] == 3 for r in results)


@pytest.mark.parametrize("change", [pytest.param(c, id=c.__name__) for c, _ in CHANGES if c is not reverse])
def test_the_line_stays_where_it_was(change) -> None:  # type: ignore[no-untyped-def]
    """Correlation of the blurred lines, resized to the same size; turned by 180 degrees it must be lower (a
    cls label would be wrong)."""
    image = _line()

    def like(result: np.ndarray, other: np.ndarray) -> float:
        pair = [
            cv2.GaussianBlur(cv2.resize(i, (160, 40)).mean(axis=2), (0, 0), 4.0).ravel()
            for i in (result, other)
        ]
        return float(np.corrcoef(pair)[0, 1])

    for seed in range(12):
        result = change(image, np.random.default_rng(seed))
        assert like(result, image) > 0.7
        assert like(result, image) > like(result, image[::-1, ::-1]) + 0.1


def test_strength_zero_is_the_image_itself() -> None:
    image = _line()
    np.testing.assert_array_equal(Augment(0.0)(image, np.random.default_rng(1)), image)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 80), width=st.integers(1, 200), seed=st.integers(0, 2**32 - 1))
def test_any_size_survives_everything(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    result = Augment(10.0)(image, np.random.default_rng(seed))  # every change is applied
    assert result.dtype == np.uint8
    assert result.shape[2] == 3
    assert 0 not in result.shape
    assert result.shape[0] <= height * 1.2 + 2
    assert result.shape[1] <= width * 1.2 + height * 0.25 + 4


def test_negative_colours_twice_is_the_image() -> None:
    image = _line()
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(reverse(reverse(image, rng), rng), image)


def test_kinds() -> None:
    assert augmentation("rec") == augmentation("cls") == Augment()
    with pytest.raises(UnsupportedModel, match="kind det has no line augmentation"):
        augmentation("det")

"""CTC decoding beside a plain loop, and the lengths it can spell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slim.errors import InputError
from slim.ocr import ctc

LABELS = ("", "a", "b", " ", " ")


def _by_loop(row: np.ndarray) -> tuple[str, float]:
    text, kept, previous = "", [], 0
    for step in row:
        best = int(step.argmax())
        if best != 0 and best != previous:
            text += LABELS[best]
            kept.append(float(step.max()))
        previous = best
    return text, float(np.mean(kept)) if kept else 0.0


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 4), steps=st.integers(1, 20))
def test_equals_the_plain_loop(seed: int, n: int, steps: int) -> None:
    probs = np.random.default_rng(seed).dirichlet(np.ones(5), (n, steps)).astype(np.float32)
    for (text, score), row in zip(ctc.decode(probs, LABELS), probs, strict=True):
        expected, mean = _by_loop(row)
        assert text == expected
        assert score == pytest.approx(mean, abs=1e-12)  # the same float64 mean


def test_all_blank_is_empty_with_score_zero() -> None:
    assert ctc.decode(np.eye(5, dtype=np.float32)[[[0, 0]]], LABELS) == [("", 0.0)]


@pytest.mark.parametrize("shape", [(1, 5), (1, 4, 6), (1, 4, 4)])
def test_wrong_dictionary(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="does not fit 5 labels; use the dictionary"):
        ctc.decode(np.zeros(shape, np.float32), LABELS)


@settings(max_examples=50, deadline=None)
@given(numbers=st.lists(st.integers(1, 3), max_size=12))
def test_steps_needed_is_enough_and_not_too_much(numbers: list[int]) -> None:
    """Spell the numbers with a blank only where needed: that path has the promised length."""
    path: list[int] = []
    for number in numbers:
        if path and path[-1] == number:
            path.append(0)
        path.append(number)
    assert ctc.steps_needed(numbers) == len(path)
    if path:
        ((text, _),) = ctc.decode(np.eye(5, dtype=np.float32)[[path]], LABELS)
        assert text == "".join(LABELS[number] for number in numbers)


def test_encode_takes_the_last_of_equal_labels_and_reports_the_unknown() -> None:
    classes = ctc.class_numbers(LABELS)
    assert ctc.encode("a b", classes) == ([1, 4, 2], "")
    assert ctc.encode("xay", classes) == ([1], "xy")

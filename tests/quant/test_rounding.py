"""Learned rounding: the objective by hand, its optimum, and what it must never do."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from quant.layers import nearest
from quant.rounding import Moments, learn


def _moments(x: np.ndarray, given: np.ndarray | None = None) -> Moments:
    """x: samples x K."""
    given = x if given is None else given
    return Moments((given.T @ given / len(x))[None], (x.T @ given / len(x))[None])


def test_error_is_the_mean_square_by_hand() -> None:
    # w = (1, 2), w~ = (2, 2), x = (1, 1) and (3, 0), x^ = x: squares of (1 + 2 - 4) and (3 - 6): 1 and 9,
    # mean 5. Left out is E (w x)**2 = (9 + 9) / 2 = 9.
    moments = _moments(np.array([[1.0, 1.0], [3.0, 0.0]]))
    error = moments.error(np.array([[[1.0, 2.0]]]), np.array([[[2.0, 2.0]]]))
    assert error.item() + 9.0 == pytest.approx(5.0, abs=1e-12)  # float64 on small integers


def test_rounding_is_the_best_of_all_or_close_to_it() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 0.5
    weights = rng.uniform(-3, 3, size=(8, 6))
    weights[:, 0] = 3.0  # so that a step is 3 / 7 in every row at 4 bits
    moments = _moments(x)
    learned = learn(weights, moments, bits=4)
    step = 3.0 / 7

    def error(candidate: np.ndarray) -> np.ndarray:
        return np.square(x @ (candidate - weights).T).mean(axis=0)

    low = np.floor(weights / step)
    every = [step * np.clip(low + np.array(up), -7, 7) for up in product((0, 1), repeat=6)]
    best = np.min([error(candidate) for candidate in every], axis=0)
    plain, found = error(nearest(weights, 4)), error(learned)
    assert (found <= plain + 1e-12).all(), "worse than rounding to nearest"
    # The best of all 64 halves the error of rounding to nearest; most of that is found.
    assert plain.sum() > 2 * best.sum(), "nothing was to be gained: the case proves nothing"
    assert found.sum() < best.sum() + 0.35 * (plain.sum() - best.sum())


def test_weights_stay_within_one_step_and_the_scale_stays() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(5, 9))
    learned = learn(weights, _moments(rng.normal(size=(50, 9))), bits=8)
    largest = np.abs(weights).max(axis=1)
    assert np.array_equal(np.abs(learned).max(axis=1), largest)
    steps = learned / (largest[:, None] / 127)
    assert np.abs(steps - np.rint(steps)).max() < 1e-9  # float64 rounding of whole numbers up to 127
    assert np.abs(learned - weights).max() < (largest / 127).max()
    assert np.array_equal(nearest(learned, 8), learned), "rounding again changes something"


def test_learning_makes_up_for_what_the_layers_before_lost() -> None:
    # The quantized net feeds 0.5 where the float net feeds 1: the best weight is twice the float one, as
    # far as one step up reaches.
    x = np.ones((4, 2))
    weights = np.array([[1.4, 3.0]])
    same = learn(weights, _moments(x), bits=3)
    halved = learn(weights, _moments(x, 0.5 * x), bits=3)
    assert same.tolist() == [[1.0, 3.0]]
    assert halved.tolist() == [[2.0, 3.0]]


def test_silent_inputs_and_dead_channels_round_to_nearest() -> None:
    weights = np.array([[0.0, 0.0], [1.4, 3.0]])
    learned = learn(weights, _moments(np.zeros((3, 2))), bits=3)
    assert learned.tolist() == [[0.0, 0.0], [1.0, 3.0]]


def test_groups_learn_from_their_own_inputs() -> None:
    # Depthwise: two channels of two weights; the first reads ones (float: twos), the second zeros.
    moments = Moments(
        np.stack([np.ones((2, 2)), np.zeros((2, 2))]), np.stack([2 * np.ones((2, 2)), np.zeros((2, 2))])
    )
    learned = learn(np.array([[1.4, 3.0], [1.4, 3.0]]), moments, bits=3)
    assert learned.tolist() == [[2.0, 3.0], [1.0, 3.0]]

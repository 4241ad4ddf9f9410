"""The interval of a paired drop: published examples, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from slim.errors import InputError
from slim.statistics import paired_drop, wilson


def _cells(both: int, lost: int, gained: int, neither: int) -> tuple[list[bool], list[bool]]:
    reference = [True] * (both + lost) + [False] * (gained + neither)
    candidate = [True] * both + [False] * lost + [True] * gained + [False] * neither
    return reference, candidate


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [((36, 12, 2, 0), 5.69, 34.04), ((54, 0, 0, 0), -6.64, 6.64), ((0, 30, 0, 0), 83.95, 100.0)],
)
def test_known_intervals(cells: tuple[int, int, int, int], low: float, high: float) -> None:
    """Newcombe 1998, method 10, and by hand. Unit: points, printed to 0.01.

    With phi 0 the reaches join by Pythagoras: without discordant pairs to z^2/(n + z^2) = 6.64 points,
    with a total loss to 100 - sqrt(2) * 100 z^2/(n + z^2) = 83.95.
    """
    drop = paired_drop(*_cells(*cells))
    assert drop.low == pytest.approx(low, abs=0.0051)
    assert drop.high == pytest.approx(high, abs=0.0051)


def test_counts_and_sign() -> None:
    drop = paired_drop(*_cells(90, 4, 1, 5))
    assert (drop.n, drop.lost, drop.gained, drop.points) == (100, 4, 1, 3.0)
    assert drop.low < 3.0 < drop.high
    mirrored = paired_drop(*reversed(_cells(90, 4, 1, 5)))
    assert mirrored.points == -3.0
    assert mirrored.low == pytest.approx(-drop.high, abs=1e-9)


def test_interval_holds_the_truth_about_95_times_of_100() -> None:
    """400 draws: 95% of them plus or minus four standard errors (4 * sqrt(.95 * .05 / 400) = 4.4%)."""
    rng = np.random.default_rng(11)
    truth, held, narrow = 2.0, 0, 0
    for _ in range(400):
        both, lost, gained, neither = rng.multinomial(500, [0.88, 0.04, 0.02, 0.06])
        drop = paired_drop(*_cells(both, lost, gained, neither))
        held += drop.low <= truth <= drop.high
        middle = (drop.low + drop.high) / 2
        narrow += middle - (middle - drop.low) / 2 <= truth <= middle + (drop.high - middle) / 2
    assert 0.906 <= held / 400 <= 0.994
    assert narrow / 400 < 0.906  # an interval of half the width must be caught


def test_wilson_ends() -> None:
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0
    with pytest.raises(InputError, match="11 hits of 10"):
        wilson(11, 10)


@pytest.mark.parametrize("pair", [([], []), ([True], [True, False])])
def test_what_cannot_be_paired(pair: tuple[list[bool], list[bool]]) -> None:
    with pytest.raises(InputError, match="cannot pair"):
        paired_drop(*pair)

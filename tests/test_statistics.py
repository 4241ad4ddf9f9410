"""The interval of a paired drop: published examples, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from slim.errors import InputError
from slim.statistics import (
    bootstrap_loss,
    hmean_interval,
    mcnemar_exact,
    paired_drop,
    paired_hmean_drop,
    wilson,
)


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


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (6, 0, 2 / 64), (6, 1, 2 * (1 + 7) / 128), (4, 4, 1.0)],
)
def test_mcnemar_by_hand(lost: int, gained: int, p: float) -> None:
    """Twice the tail of Binomial(lost + gained, 1/2), counted by hand; exact in binary fractions."""
    assert mcnemar_exact(lost, gained) == p == mcnemar_exact(gained, lost)


def test_mcnemar_is_right_where_numbers_are_large() -> None:
    """400 against 500: the normal approximation with continuity correction, |b - c| - 1 over sqrt(b + c).

    Its p is 2 (1 - Phi(99 / 30)) = 9.67e-4; the two differ by less than 5% of p there.
    """
    assert mcnemar_exact(400, 500) == pytest.approx(9.67e-4, rel=0.05)


def test_mcnemar_cries_wolf_at_most_as_often_as_it_says() -> None:
    """Without a difference, p below 5% comes in at most 5% of the draws (2,000 draws: 3.5 sigma is 1.7%)."""
    rng = np.random.default_rng(5)
    draws = [rng.multinomial(300, [0.03, 0.03, 0.94]) for _ in range(2000)]
    rate = float(np.mean([mcnemar_exact(int(a), int(b)) < 0.05 for a, b, _ in draws]))
    assert rate <= 0.067
    real = [rng.multinomial(300, [0.09, 0.02, 0.89]) for _ in range(200)]
    assert np.mean([mcnemar_exact(int(a), int(b)) < 0.05 for a, b, _ in real]) > 0.8


def test_bootstrap_by_hand() -> None:
    """One of two images lost: 0, 1, 2 are lost with 1/4, 1/2, 1/4: the interval is 0 .. 100."""
    assert bootstrap_loss(1, 0, 2, seed=3) == (0.0, 100.0)


def test_bootstrap_is_the_resampling_of_images() -> None:
    """Against drawing images, 2,000 resamples: ends within 0.5 points, 10% of the width."""
    results = np.array([1] * 12 + [-1] * 5 + [0] * 183)
    rng = np.random.default_rng(8)
    means = 100.0 * rng.choice(results, (2000, 200)).mean(axis=1)
    found = bootstrap_loss(12, 5, 200, seed=8)
    assert found == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.5)
    assert bootstrap_loss(12, 5, 200, seed=8) == found


def test_counts_that_cannot_be() -> None:
    with pytest.raises(InputError, match="no counts"):
        mcnemar_exact(-1, 2)
    with pytest.raises(InputError, match="no counts"):
        bootstrap_loss(3, 3, 5, seed=1)


def pages_of(seed: int, share: float, count: int = 120) -> list[tuple[int, int, int]]:
    """Pages of 5 labelled regions, each found with a chance of ``share``."""
    hits = np.random.default_rng(seed).binomial(5, share, count)
    return [(int(k), 5, 5) for k in hits]


def test_a_drop_of_hmean_is_that_of_the_sums_and_its_interval_holds_the_truth() -> None:
    before, now = pages_of(1, 0.9), pages_of(2, 0.8)
    drop = paired_hmean_drop(before, now)
    both = [sum(k for k, _, _ in pages) / (5 * 120) for pages in (before, now)]
    assert drop.points == pytest.approx(100 * (both[0] - both[1]), abs=1e-9)
    assert drop.low < 10.0 < drop.high and drop.low > 0
    assert drop.n == 120 and drop.lost > drop.gained > 0
    # The same pages, so what both miss alike is no noise: a model against itself has no interval.
    same = paired_hmean_drop(before, before)
    assert (same.points, same.low, same.high, same.lost, same.gained) == (0.0, 0.0, 0.0, 0, 0)


def test_pairing_pages_is_sharper_than_not() -> None:
    hard = np.random.default_rng(3).uniform(0.2, 1.0, 200)
    rng = np.random.default_rng(4)
    before = [(int(rng.binomial(10, share)), 10, 10) for share in hard]
    now = [(max(0, k - int(rng.random() < 0.3)), 10, 10) for k, _, _ in before]
    paired = paired_hmean_drop(before, now)
    shuffled = paired_hmean_drop(before, [now[i] for i in rng.permutation(200)])
    assert paired.points == pytest.approx(shuffled.points)
    assert paired.high - paired.low < 0.5 * (shuffled.high - shuffled.low)


def test_the_interval_of_an_hmean_over_pages() -> None:
    low, high = hmean_interval([(4, 5, 5)] * 10 + [(5, 5, 5)] * 10)
    assert 0.8 < low < 0.9 < high < 1.0
    assert hmean_interval([(0, 0, 0)] * 5) == (0.0, 0.0)
    with pytest.raises(InputError, match="cannot pair 1 with 2 pages"):
        paired_hmean_drop([(1, 1, 1)], [(1, 1, 1)] * 2)

"""How sure a difference between two models on the same images is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slim.errors import InputError

Z95 = 1.959963984540054
"""Two-sided 95% quantile of the normal distribution."""


@dataclass(frozen=True)
class PairedDrop:
    """Accuracy lost by a candidate against its reference on the same images.

    Attributes:
        points: percentage points lost (negative: the candidate is better).
        low, high: 95% interval of ``points``.
        n: images. lost: right before, wrong now. gained: wrong before, right now.
    """

    points: float
    low: float
    high: float
    n: int
    lost: int
    gained: int


def paired_drop(reference: Sequence[bool], candidate: Sequence[bool]) -> PairedDrop:
    """Drop in percentage points with a 95% interval for paired proportions.

    The interval is method 10 of R. G. Newcombe, "Improved confidence intervals for the difference
    between binomial proportions based on paired data", Statistics in Medicine 17 (1998) 2635-2650:
    Wilson score intervals of both proportions, joined with the continuity-corrected correlation phi.

    Raises:
        InputError: no images, or lists of different length.

    >>> drop = paired_drop([True] * 48 + [False] * 2, [True] * 36 + [False] * 12 + [True] * 2)
    >>> drop.points, round(drop.low, 2), round(drop.high, 2), drop.lost, drop.gained
    (20.0, 5.69, 34.04, 12, 2)
    """
    n = len(reference)
    if n == 0 or n != len(candidate):
        raise InputError(
            f"cannot pair {n} with {len(candidate)} results", remedy="score both on the same images"
        )
    both = sum(1 for a, b in zip(reference, candidate, strict=True) if a and b)
    lost = sum(1 for a, b in zip(reference, candidate, strict=True) if a and not b)
    gained = sum(1 for a, b in zip(reference, candidate, strict=True) if b and not a)
    neither = n - both - lost - gained
    first, second = (both + lost) / n, (both + gained) / n
    low1, high1 = wilson(both + lost, n)
    low2, high2 = wilson(both + gained, n)
    phi = _phi(both, lost, gained, neither)
    below = _joined(first - low1, high2 - second, phi)
    above = _joined(high1 - first, second - low2, phi)
    difference = first - second
    return PairedDrop(
        points=100.0 * (lost - gained) / n,
        low=100.0 * (difference - below),
        high=100.0 * (difference + above),
        n=n,
        lost=lost,
        gained=gained,
    )


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of the proportion ``hits / n`` (E. B. Wilson, JASA 22, 1927).

    >>> low, high = wilson(48, 50)
    >>> round(low, 4), round(high, 4)
    (0.8654, 0.989)
    """
    if not 0 <= hits <= n or n == 0:
        raise InputError(f"{hits} hits of {n} is not a proportion")
    middle = 2 * hits + Z95**2
    reach = Z95 * math.sqrt(Z95**2 + 4 * hits * (1 - hits / n))
    below = (middle - reach) / (2 * (n + Z95**2)) if hits else 0.0
    above = (middle + reach) / (2 * (n + Z95**2)) if hits < n else 1.0
    return below, above


def _phi(both: int, lost: int, gained: int, neither: int) -> float:
    """Correlation of the two results; a positive one is reduced by n/2, at least to 0."""
    n = both + lost + gained + neither
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - lost * gained)
    if product > 0:
        product = max(product - n / 2, 0.0)
    return product / math.sqrt(margins)


def _joined(left: float, right: float, phi: float) -> float:
    return math.sqrt(max(0.0, left**2 - 2 * phi * left * right + right**2))


RESAMPLES = 10_000
"""Bootstrap resamples: the ends of a 95% interval move by about a hundredth of its width."""


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided exact p-value of McNemar's test: can ``lost`` against ``gained`` be chance?

    Without a real difference each image whose result changed is a fair coin, so p is twice the smaller tail
    of Binomial(lost + gained, 1/2), at most 1 (Q. McNemar, Psychometrika 12 (1947) 153-157, exact form).

    >>> mcnemar_exact(5, 0), mcnemar_exact(3, 3)
    (0.0625, 1.0)
    """
    if lost < 0 or gained < 0:
        raise InputError(f"{lost} lost and {gained} gained are no counts")
    n, tail, ways = lost + gained, 0, 1
    for k in range(min(lost, gained) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


def bootstrap_loss(lost: int, gained: int, n: int, seed: int) -> tuple[float, float]:
    """95% percentile bootstrap interval of the points lost on ``n`` paired images.

    Drawing n images with replacement, over and over, gives multinomial counts of lost, gained and unchanged
    ones, which are drawn here directly (B. Efron, Annals of Statistics 7 (1979) 1-26).

    >>> bootstrap_loss(0, 0, 50, seed=1)
    (0.0, 0.0)
    """
    import numpy as np

    if n < 1 or lost < 0 or gained < 0 or lost + gained > n:
        raise InputError(f"{lost} lost and {gained} gained of {n} images are no counts")
    shares = [lost / n, gained / n, (n - lost - gained) / n]
    draws = np.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    low, high = np.percentile(100.0 * (draws[:, 0] - draws[:, 1]) / n, [2.5, 97.5])
    return float(low), float(high)


Counts = tuple[int, int, int]
"""Of one page: found regions that match a labelled one, found regions, labelled regions."""


def hmean(matched: float, found: float, wanted: float) -> float:
    """Harmonic mean of precision and recall, from 0 to 1; 0 where nothing was found or wanted.

    >>> hmean(1, 1, 2)
    0.6666666666666666
    """
    return 2 * matched / (found + wanted) if found + wanted else 0.0


def hmean_interval(pages: Sequence[Counts], seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap interval of the hmean over pages, which are drawn whole."""
    import numpy as np

    low, high = np.percentile(_resampled(pages, seed), [2.5, 97.5])
    return float(low), float(high)


def paired_hmean_drop(reference: Sequence[Counts], candidate: Sequence[Counts], seed: int = 0) -> PairedDrop:
    """Points of hmean lost by a candidate on the same pages, with a 95% percentile bootstrap interval.

    Regions of one page share its font, light and blur, so pages are drawn, not regions, and the same pages
    for both models (B. Efron, Annals of Statistics 7 (1979) 1-26). ``lost`` and ``gained`` count pages that
    were wholly right before, and are now.

    Raises:
        InputError: no pages, or lists of different length.

    >>> drop = paired_hmean_drop([(2, 2, 2), (1, 1, 1)], [(2, 2, 2), (0, 0, 1)])
    >>> round(drop.points, 2), drop.lost, drop.gained
    (20.0, 1, 0)
    """
    import numpy as np

    if not reference or len(reference) != len(candidate):
        raise InputError(
            f"cannot pair {len(reference)} with {len(candidate)} pages", remedy="score both on the same pages"
        )
    right = [[len(set(page)) == 1 for page in pages] for pages in (reference, candidate)]
    differences = 100.0 * (_resampled(reference, seed) - _resampled(candidate, seed))
    low, high = np.percentile(differences, [2.5, 97.5])
    before, now = (hmean(*map(sum, zip(*pages, strict=True))) for pages in (reference, candidate))
    return PairedDrop(
        points=100.0 * (before - now),
        low=float(low),
        high=float(high),
        n=len(reference),
        lost=sum(a and not b for a, b in zip(*right, strict=True)),
        gained=sum(b and not a for a, b in zip(*right, strict=True)),
    )


def _resampled(pages: Sequence[Counts], seed: int) -> Any:
    """Hmean of each bootstrap sample; equal seeds and numbers of pages draw equal pages."""
    import numpy as np

    counts = np.asarray(pages, np.int64)
    generator, n = np.random.default_rng(seed), len(counts)
    sums = np.stack([counts[generator.integers(0, n, n)].sum(axis=0) for _ in range(RESAMPLES)])
    both = sums[:, 1] + sums[:, 2]
    return np.divide(2.0 * sums[:, 0], both, out=np.zeros(RESAMPLES), where=both > 0)

"""Which channels of a group matter least: each criterion is a pure function, filters -> scores.

Filters are float32, channels x weights (`prune.filters.filters`); scores are float64, one per
channel, and the lowest go first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from slim.errors import UsageError

Scores = npt.NDArray[np.float64]
Criterion = Callable[[npt.NDArray[np.float32]], Scores]


def fpgm(filters: npt.NDArray[np.float32]) -> Scores:
    """Sum of distances to all other filters: what lies near the geometric median is replaceable.

    Source: He et al. 2019, "Filter Pruning via Geometric Median", eq. 4 to 6.

    >>> fpgm(np.array([[0.0], [1.0], [3.0]], "float32")).tolist()
    [4.0, 3.0, 5.0]
    """
    rows = filters.astype(np.float64)
    return np.array([np.sqrt(np.square(rows - row).sum(axis=1)).sum() for row in rows])


def l1(filters: npt.NDArray[np.float32]) -> Scores:
    """Mean absolute weight (Li et al. 2017, "Pruning Filters for Efficient ConvNets").

    >>> l1(np.array([[1.0, -3.0], [0.0, 0.5]], "float32")).tolist()
    [2.0, 0.25]
    """
    return np.abs(filters.astype(np.float64)).mean(axis=1)


def l2(filters: npt.NDArray[np.float32]) -> Scores:
    """Euclidean norm of the weights.

    >>> l2(np.array([[3.0, 4.0], [0.0, 1.0]], "float32")).tolist()
    [5.0, 1.0]
    """
    return np.sqrt(np.square(filters.astype(np.float64)).sum(axis=1))


CRITERIA: dict[str, Criterion] = {"fpgm": fpgm, "l1": l1, "l2": l2}
"""Name in a config -> function; a new criterion is a function and a line here."""


def criterion(name: str) -> Criterion:
    """The criterion of that name; UsageError with the known ones.

    >>> criterion("l1") is l1
    True
    """
    if name not in CRITERIA:
        raise UsageError(f"criterion {name!r} is not known", remedy=f"use one of {', '.join(CRITERIA)}")
    return CRITERIA[name]

"""Which channels of a group matter least: each criterion is a pure function, a group's data -> scores.

Scores are float64, one per channel, and the lowest go first. A criterion sees arrays alone, never a net
and never the graph; `prune.filters.group_data` reads them off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from slim.errors import UsageError

Array = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupData:
    """What is known of a group's channels; every array is float32 with one row per channel.

    Attributes:
        filters: channels x weights: the weights of every layer that makes the channel, side by side.
        norms: channels x BatchNorms: their scales (gamma); None where the group has no BatchNorm.
        readers: channels x weights: every weight that reads the channel.
        gradients: batches x channels x weights: the loss's gradient with respect to ``readers`` on each
            batch; None where none were measured.
    """

    filters: Array
    norms: Array | None = None
    readers: Array | None = None
    gradients: Array | None = None


@dataclass(frozen=True)
class Criterion:
    """A scoring function and the one field of `GroupData` that it reads."""

    needs: Literal["filters", "norms", "gradients"]
    score: Callable[[GroupData], Scores]

    def __call__(self, data: GroupData) -> Scores:
        """One score per channel; UsageError where the group lacks what is needed."""
        if getattr(data, self.needs) is None:
            raise UsageError(f"criterion {self.score.__name__} needs {self.needs}, which this group lacks")
        return self.score(data)


def fpgm(data: GroupData) -> Scores:
    """Sum of distances to all other filters: what lies near the geometric median is replaceable.

    Source: He et al. 2019, "Filter Pruning via Geometric Median", eq. 4 to 6.

    >>> fpgm(GroupData(np.array([[0.0], [1.0], [3.0]], "float32"))).tolist()
    [4.0, 3.0, 5.0]
    """
    rows = data.filters.astype(np.float64)
    return np.array([np.sqrt(np.square(rows - row).sum(axis=1)).sum() for row in rows])


def l1(data: GroupData) -> Scores:
    """Mean absolute weight (Li et al. 2017, "Pruning Filters for Efficient ConvNets").

    >>> l1(GroupData(np.array([[1.0, -3.0], [0.0, 0.5]], "float32"))).tolist()
    [2.0, 0.25]
    """
    return np.abs(data.filters.astype(np.float64)).mean(axis=1)


def l2(data: GroupData) -> Scores:
    """Euclidean norm of the weights.

    >>> l2(GroupData(np.array([[3.0, 4.0], [0.0, 1.0]], "float32"))).tolist()
    [5.0, 1.0]
    """
    return np.sqrt(np.square(data.filters.astype(np.float64)).sum(axis=1))


def bn_scale(data: GroupData) -> Scores:
    """Mean absolute scale of the channel's BatchNorms (Liu et al. 2017, "Network Slimming", section 3).

    >>> w = np.zeros((2, 1), "float32")
    >>> bn_scale(GroupData(w, norms=np.array([[1.0, -0.5], [0.25, 0.25]], "float32"))).tolist()
    [0.75, 0.25]
    """
    assert data.norms is not None
    return np.abs(data.norms.astype(np.float64)).mean(axis=1)


def taylor(data: GroupData) -> Scores:
    """First-order change of the loss when the channel is silenced, squared, mean over batches.

    Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", eq. 8 with a gate:
    (sum of gradient x weight)^2, over the weights that read the channel. By the chain rule that sum is
    the gradient of a gate of 1 on the channel, and zeroing these weights is how a channel is masked.
    It is squared batch by batch: at a trained optimum the mean gradient is near zero, its square is not.

    >>> w = np.array([[1.0, 2.0], [1.0, 0.0]], "float32")
    >>> g = np.array([[[3.0, 0.5], [1.0, 9.0]], [[-3.0, -0.5], [1.0, 9.0]]], "float32")
    >>> taylor(GroupData(w, readers=w, gradients=g)).tolist()
    [16.0, 1.0]
    """
    assert data.readers is not None and data.gradients is not None
    gates = np.einsum("bcw,cw->bc", data.gradients.astype(np.float64), data.readers.astype(np.float64))
    return np.square(gates).mean(axis=0)


CRITERIA: dict[str, Criterion] = {
    "fpgm": Criterion("filters", fpgm),
    "l1": Criterion("filters", l1),
    "l2": Criterion("filters", l2),
    "bn_scale": Criterion("norms", bn_scale),
    "taylor": Criterion("gradients", taylor),
}
"""Name in a config -> criterion; a new one is a function and a line here."""


def criterion(name: str) -> Criterion:
    """The criterion of that name; UsageError with the known ones.

    >>> criterion("l1").needs
    'filters'
    """
    if name not in CRITERIA:
        raise UsageError(f"criterion {name!r} is not known", remedy=f"use one of {', '.join(CRITERIA)}")
    return CRITERIA[name]

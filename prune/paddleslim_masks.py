"""Masks by PaddleSlim's own criteria, over our groups.

PaddleSlim's pruners build their dependency collections in the constructor, and those stop at an LSTM
(``Unsupported operator named rnn``: the CRNN's last conv has no collection) and at a concat (the
detector's pyramid). Their criteria, ``cal_mask``, need only a collection with the weights of its
master: so each is called on a collection made from a `prune.groups.Group`, the constructor left out.
The master's "weight" is the matrix of `prune.filters.filters`, so a residual sum is judged by all the
filters that make its channels, where PaddleSlim looks at the first conv alone.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from slim.errors import StageFailed, ToolMissing, UsageError

PRUNERS = {"fpgm": "FPGMFilterPruner", "l1": "L1NormFilterPruner", "l2": "L2NormFilterPruner"}
"""Criterion -> class in paddleslim.dygraph."""


class _Collection:
    """The four things ``cal_mask`` reads of a collection: channels on axis 0, no grouped conv."""

    master_name = "filters"
    master_axis = 0

    def __init__(self, filters: npt.NDArray[np.float32]) -> None:
        self.values = {self.master_name: filters}

    def all_pruning_details(self) -> Sequence[Any]:
        return ()


def keep(criterion: str, filters: npt.NDArray[np.float32], count: int) -> list[int]:
    """Channels that PaddleSlim's criterion keeps, rising.

    Args:
        criterion: "fpgm", "l1" or "l2".
        filters: float32, channels x weights.
        count: channels to keep, at least 1.
    Raises:
        ToolMissing: paddleslim is not installed.
        StageFailed: PaddleSlim answers with something that is not a mask of that many channels.
    """
    size = len(filters)
    if not 1 <= count <= size:
        raise UsageError(f"cannot keep {count} of {size} channels")
    if count == size:
        return list(range(size))
    pruner_class = _pruner(criterion)
    pruner = pruner_class.__new__(pruner_class)
    mask = np.asarray(pruner.cal_mask((size - count) / size, _Collection(filters)))
    _check(mask, size, count, PRUNERS[criterion])
    return [int(i) for i in np.flatnonzero(mask)]


def _check(mask: npt.NDArray[Any], size: int, count: int, name: str) -> None:
    binary = mask.dtype.kind in "iu" and bool(np.isin(mask, (0, 1)).all())
    if mask.shape != (size,) or not binary or int(mask.sum()) != count:
        raise StageFailed(
            f"paddleslim's {name} gave a mask of shape {mask.shape}, dtype {mask.dtype} that keeps "
            f"{int((mask != 0).sum())} channels, asked for {count} of {size}"
        )


def _pruner(criterion: str) -> Any:
    if criterion not in PRUNERS:
        raise UsageError(f"criterion {criterion!r} is not known", remedy=f"use one of {', '.join(PRUNERS)}")
    try:
        from paddleslim import dygraph
    except ImportError as error:
        raise ToolMissing(
            f"paddleslim cannot be imported ({error})", remedy="pip install paddleslim==2.6.0"
        ) from error
    _quiet()
    return getattr(dygraph, PRUNERS[criterion])


@cache
def _quiet() -> None:
    """Keep PaddleSlim's INFO lines off stderr: each of its modules brings a logger and a handler."""
    for name in [name for name in sys.modules if name.startswith("paddleslim")]:
        logging.getLogger(name).setLevel(logging.WARNING)

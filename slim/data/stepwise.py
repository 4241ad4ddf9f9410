"""What all training batches share: an endless row of shuffled numbers, and batches made ahead by a thread."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from slim.data.dataset import TrainingData
from slim.data.tolerance import Tolerance
from slim.distributed import World
from slim.errors import InputError

PREFETCH = 2
_T = TypeVar("_T")


@dataclass(frozen=True)
class Batch:
    """One training batch of N images.

    Attributes:
        image: float32, N x 3 x H x W.
        labels: rec: int64, N x L class numbers padded with 0 (the blank); cls: int64, N; det: float32,
            N x 4 x H x W, see `slim.data.page_maps`.
        lengths: int64, N; rec: characters of each text; cls: 1; det: regions of each page.
        refs: N image paths.
        step: the training step it belongs to.
    """

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64]
    refs: tuple[str, ...]
    step: int


class Stepwise(ABC):
    """Batches as a function of (seed, step); a subclass makes them.

    Raises:
        InputError: an empty set or a bad batch size.
    """

    def __init__(
        self, dataset: TrainingData, batch_size: int, seed: int, tolerance: Tolerance | None = None
    ) -> None:
        if batch_size < 1 or len(dataset) == 0:
            raise InputError(
                f"batches of {batch_size} from {len(dataset)} lines", remedy="both must be at least 1"
            )
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.tolerance = tolerance if tolerance is not None else Tolerance()
        self.tolerance.total = len(dataset)
        self._share = World(0, 1)
        self._permutation = lru_cache(maxsize=2)(self._make_permutation)  # a pure function of its argument

    def rows_of(self, share: World) -> None:
        """From now on make the rows of one of several processes only: ``rank``, ``rank + size``, ..."""
        self._share = share

    @property
    def own_places(self) -> range:
        """Places in a batch of the rows that are made here."""
        return range(self._share.rank, self.batch_size, self._share.size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show about every line once."""
        return math.ceil(len(self.dataset) / self.batch_size)

    def batch_at(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        if step < 0:
            raise InputError(f"step is {step}, must be at least 0")
        return self._batch(step)

    @abstractmethod
    def _batch(self, step: int) -> Batch:
        """The same, of a step that is at least 0."""

    def iterate(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Batches of the steps ``start_step`` .. ``stop_step - 1``, made ahead by one thread.

        An error in the thread is raised here; leaving the loop early ends the thread.
        """
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        pending: deque[Future[Batch]] = deque()
        try:
            for step in range(start_step, stop_step):
                pending.append(pool.submit(self.batch_at, step))
                if len(pending) > PREFETCH:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def number_at(self, position: int) -> int:
        """Number in the data set of the ``position``-th image of the endless row."""
        epoch, inside = divmod(position, len(self.dataset))
        return int(self._permutation(epoch)[inside])

    def _make_permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.dataset))


def fill_gaps(items: list[_T | None]) -> list[_T] | None:
    """Replace each None by the next item that is none, wrapping around; None when there is no item.

    >>> fill_gaps([None, 1, None, 2, None])
    [1, 1, 2, 2, 1]
    """
    following = next((item for item in items if item is not None), None)
    if following is None:
        return None
    filled = []
    for item in reversed(items):
        following = item if item is not None else following
        filled.append(following)
    return filled[::-1]


def filled(make: Callable[[int], _T | None], count: int, places: Iterable[int]) -> list[_T] | None:
    """The items of some places of a row of ``count``, gaps filled as by `fill_gaps`; None when all are gaps.

    An item of another place is made only where a gap needs it.

    >>> filled([None, 1, None, 2, None].__getitem__, 5, [0, 2, 4])
    [1, 2, 1]
    """
    made: dict[int, _T | None] = {}
    found = []
    for place in places:
        for other in ((place + k) % count for k in range(count)):
            if other not in made:
                made[other] = make(other)
            item = made[other]
            if item is not None:
                found.append(item)
                break
        else:
            return None
    return found

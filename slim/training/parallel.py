"""A training step shared by several processes: each has some rows of the batch, all make the same step.

Rank r of n trains on rows r, r + n, r + 2n, ... The gradient of the whole batch's mean loss is the mean of
the ranks' gradients weighted by their rows, so that n processes make the step of one, up to float32 rounding.
That holds for losses that are means over rows (CTC, cross entropy, distillation); a detector's loss weighs
its pixels within the rows of one process, and BatchNorm measures on those rows, as data parallel training
always does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from slim.data.stepwise import Stepwise
from slim.distributed import World, require_equal, sum_into, world
from slim.errors import UsageError
from slim.numerics import state_sha256
from slim.training.hooks import BatchSource, Described, TrainingBatch


@dataclass(frozen=True)
class Rows:
    """Some rows of a batch."""

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64]
    refs: tuple[str, ...]


def own_rows(batch: TrainingBatch, share: World) -> Rows:
    """The rows of one process.

    >>> import numpy as np
    >>> three = Rows(np.zeros((3, 1)), np.arange(3), np.ones(3), ("a", "b", "c"))
    >>> own_rows(three, World(0, 2)).refs, own_rows(three, World(1, 2)).refs
    (('a', 'c'), ('b',))
    """
    rows = slice(share.rank, None, share.size)
    return Rows(batch.image[rows], batch.labels[rows], batch.lengths[rows], batch.refs[rows])


class _Sliced:
    """Batches of a source that knows nothing of processes."""

    def __init__(self, source: BatchSource, share: World) -> None:
        self._source, self._share = source, share

    @property
    def dataset(self) -> Described:
        return self._source.dataset

    @property
    def steps_per_epoch(self) -> int:
        return self._source.steps_per_epoch

    def iterate(self, start_step: int, stop_step: int) -> Iterator[Rows]:
        for batch in self._source.iterate(start_step, stop_step):
            require_rows(len(batch.refs), self._share)
            yield own_rows(batch, self._share)


def shared(source: BatchSource) -> BatchSource:
    """The same batches, of which this process sees (and where it can be, decodes) its own rows only.

    Raises:
        UsageError: there are more processes than rows.
    """
    share = world()
    if share.size == 1:
        return source
    if isinstance(source, Stepwise):
        require_rows(source.batch_size, share)
        source.rows_of(share)
        return source
    return _Sliced(source, share)


def require_rows(rows: int, share: World) -> None:
    """Raise UsageError where a batch cannot give every process a row."""
    if rows < share.size:
        raise UsageError(
            f"batches of {rows} cannot be shared by {share.size} processes",
            remedy="raise the recipe's batch_size or start fewer processes",
        )


class Averager:
    """Makes gradients, running statistics and the loss of a step those of the whole batch.

    One float32 buffer a step crosses the processes: gradients, what the step moved the statistics by, loss
    and number of rows. Statistics (BatchNorm's, observers' of quantizers) are averaged as what they moved by,
    so that those nobody moved keep their bits.
    """

    def __init__(self, net: nn.Layer) -> None:
        self._trained = [p for p in net.parameters() if not p.stop_gradient]
        state = net.state_dict().values()
        self._statistics = [t for t in state if t.stop_gradient and t.dtype == paddle.float32]
        self._before: list[paddle.Tensor] = []

    def start(self) -> None:
        """Before the forward pass."""
        self._before = [t.clone() for t in self._statistics]

    def average(self, loss: float, rows: int) -> tuple[float, int]:
        """After the backward pass on ``rows`` rows with mean ``loss``: the whole batch's loss and rows."""
        moved = [now - then for now, then in zip(self._statistics, self._before, strict=True)]
        slopes = [paddle.zeros_like(p) if p.grad is None else p.grad for p in self._trained]
        parts = [*slopes, *moved, paddle.to_tensor([loss], dtype="float32")]
        weighted = paddle.concat([part.flatten() for part in parts]) * float(rows)
        buffer = paddle.concat([weighted, paddle.to_tensor([float(rows)])])
        sum_into(buffer)
        total = float(buffer[-1])
        whole = buffer[:-1] / total
        places = np.cumsum([0, *(part.size for part in parts)])
        means = [
            whole[start:stop].reshape(part.shape)
            for part, start, stop in zip(parts, places, places[1:], strict=False)
        ]
        for parameter, mean in zip(self._trained, means, strict=False):
            if parameter.grad is not None:
                parameter.grad.set_value(mean)
        for now, then, mean in zip(self._statistics, self._before, means[len(slopes) : -1], strict=True):
            now.set_value(then + mean)
        return float(means[-1]), round(total)


def require_same_weights(net: nn.Layer) -> None:
    """Raise StageFailed where the processes hold different weights; also waits for all of them."""
    if world().size > 1:
        digest = state_sha256({name: tensor.numpy() for name, tensor in net.state_dict().items()})
        require_equal(digest, "weights")

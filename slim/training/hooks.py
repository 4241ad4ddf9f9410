"""What goes into a training run and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from paddle import nn


class TrainingBatch(Protocol):
    """N images with their labels; see slim.data.stepwise.Batch."""

    @property
    def image(self) -> npt.NDArray[np.float32]:
        """float32, N x 3 x H x W."""

    @property
    def labels(self) -> npt.NDArray[Any]:
        """rec: int64, N x L class numbers padded with 0; cls: int64, N; det: float32, N x 4 x H x W maps."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64, N; rec: characters of each text; det: regions of each page."""

    @property
    def refs(self) -> tuple[str, ...]:
        """N names for messages."""


class Described(Protocol):
    """A data set that can say which one it is."""

    def describe(self) -> Mapping[str, Any]:
        """Path, count and sha256, plain data."""


class BatchSource(Protocol):
    """Batches that depend on nothing but the step, so that a resumed run sees the same ones."""

    @property
    def dataset(self) -> Described:
        """Where the lines come from; part of the identity of a run."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show about every line once."""

    def iterate(self, start_step: int, stop_step: int) -> Iterator[TrainingBatch]:
        """The batches of steps ``start_step`` .. ``stop_step - 1``, counted from 0."""


class Hook:
    """Things done around the steps; override what is needed.

    ``step`` is the number of the step being made or just made, counted from 1.
    """

    def on_start(self, net: nn.Layer) -> None:
        """Before the first step (after a checkpoint was loaded, when the run resumes)."""

    def before_step(self, step: int) -> None:
        """Before the forward pass."""

    def after_backward(self, net: nn.Layer, step: int) -> None:
        """Gradients are there, not yet clipped; a hook may change them."""

    def after_step(self, net: nn.Layer, step: int, loss: float) -> None:
        """Weights were updated; ``loss`` is that of the batch."""

    def on_eval(self, step: int, metrics: Mapping[str, float]) -> None:
        """After an evaluation."""


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        steps: optimizer steps made in all, those before a resume included.
        best_metric: the main indicator at its best; None without an evaluation.
        best_step: the step it was reached at; None without an evaluation.
        last_loss: loss of the last batch; None when no step was ever made.
        history: one entry a logged step ({"step", "loss", "lr"}) or evaluation ({"step", metrics...}).
        resumed_from: the step a checkpoint was taken up at, None for a fresh run.
        checkpoint: path of the weights that the net now holds, None when nothing was written.
    """

    steps: int
    best_metric: float | None
    best_step: int | None
    last_loss: float | None
    history: tuple[Mapping[str, Any], ...]
    resumed_from: int | None
    checkpoint: Path | None

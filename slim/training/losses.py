"""Losses by kind of model, and the distance to a teacher's outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle.nn import functional as F

from slim.errors import InputError, UnsupportedModel
from slim.training.db_loss import db

if TYPE_CHECKING:
    from slim.training.hooks import TrainingBatch

_TINY = 1e-8

Loss = Callable[[paddle.Tensor, "TrainingBatch"], paddle.Tensor]


def loss_of(kind: str, shrink_loss: str | None = None) -> Loss:
    """The task loss of a kind: logits (det: maps) and batch -> 0-D float32 tensor.

    Args:
        shrink_loss: det: "bce" (also None) or "dice", see `slim.training.db_loss.db`.
    Raises:
        UnsupportedModel: there is none for this kind.
    """
    if kind == "det":
        return partial(db, shrink_loss=shrink_loss or "bce")
    if kind not in _LOSSES:
        raise UnsupportedModel(
            f"there is no training loss for kind {kind!r}", remedy=f"train {', '.join(_LOSSES)} or det models"
        )
    return _LOSSES[kind]


def ctc(logits: paddle.Tensor, batch: TrainingBatch) -> paddle.Tensor:
    """Connectionist temporal classification, mean over the batch; class 0 is the blank.

    Source: Graves et al. 2006. The C code behind it answers an impossible label with loss 0 and a
    label without columns or outside the classes with a crash, so labels are judged here first.

    Args:
        logits: N x T x C, before softmax.
    Raises:
        InputError: a label is empty, has a class outside 1 .. C-1, or does not fit into T steps.
    """
    count, steps, classes = logits.shape
    _judge_labels(batch, steps, classes)
    losses = F.ctc_loss(
        logits.transpose([1, 0, 2]),
        paddle.to_tensor(batch.labels.astype(np.int32)),
        paddle.full([count], steps, dtype="int64"),
        paddle.to_tensor(batch.lengths.astype(np.int64)),
        blank=0,
        reduction="none",
    )
    return losses.mean()


def _judge_labels(batch: TrainingBatch, steps: int, classes: int) -> None:
    for ref, row, length in zip(batch.refs, batch.labels, batch.lengths, strict=True):
        text = row[:length]
        if length < 1 or text.size < length or text.min() < 1 or text.max() >= classes:
            raise InputError(
                f"label {text.tolist()} must hold classes from 1 to {classes - 1}",
                where=ref,
                remedy="use the dictionary of the net",
            )
        needed = int(length + np.count_nonzero(text[1:] == text[:-1]))
        if needed > steps:
            raise InputError(
                f"the text needs {needed} time steps, the net gives {steps}",
                where=ref,
                remedy="raise the training width or leave the line out",
            )


def cross_entropy(logits: paddle.Tensor, batch: TrainingBatch) -> paddle.Tensor:
    """Cross entropy of N x C logits and N class numbers, mean over the batch."""
    classes = logits.shape[1]
    if batch.labels.min() < 0 or batch.labels.max() >= classes:
        raise InputError(
            f"class numbers run to {batch.labels.max()}, the net has {classes} classes",
            where=batch.refs[0],
            remedy="use the label_list of the net",
        )
    return F.cross_entropy(logits, paddle.to_tensor(batch.labels.astype(np.int64)))


def distance_to_teacher(
    logits: paddle.Tensor, probabilities: paddle.Tensor, temperature: float
) -> paddle.Tensor:
    """T^2 KL(teacher || student) on outputs softened by temperature T, mean over rows (or time steps).

    Source: Hinton et al. 2015, section 2; T^2 keeps the size of the gradients independent of T. The
    teacher's softened outputs are softmax(log p / T), which needs no logits of it.

    Args:
        logits: the student's, ... x C.
        probabilities: the teacher's, same shape.
    Raises:
        UnsupportedModel: the shapes differ.
    """
    if logits.shape != probabilities.shape:
        raise UnsupportedModel(
            f"the teacher's outputs are {probabilities.shape}, the student's {logits.shape}",
            remedy="distill from a model with the same classes and time steps",
        )
    wanted = F.softmax(paddle.log(probabilities.clip(min=_TINY)) / temperature, axis=-1)
    found = F.log_softmax(logits / temperature, axis=-1)
    kl = (wanted * (paddle.log(wanted.clip(min=_TINY)) - found)).sum(axis=-1)
    return kl.mean() * (temperature * temperature)


def as_choice(maps: paddle.Tensor) -> paddle.Tensor:
    """Probabilities p of text, ... as the two of a choice, ... x 2: (1 - p, p)."""
    return paddle.stack([1 - maps, maps], axis=-1)


class TrainingLoss:
    """Task loss, mixed with the distance to a teacher: (1 - w) task + w distance.

    Args:
        teacher: a net whose eval mode gives probabilities; used when ``weight`` is above 0.
        weight: w, 0..1.
        temperature: softness of the outputs compared.
        shrink_loss: see `loss_of`.
    """

    def __init__(
        self,
        kind: str,
        teacher: Any | None,
        weight: float,
        temperature: float,
        shrink_loss: str | None = None,
    ) -> None:
        self._task, self._kind = loss_of(kind, shrink_loss), kind
        self._teacher, self._weight, self._temperature = teacher, weight, temperature
        if weight > 0 and teacher is None:
            raise InputError(
                f"the recipe distills with weight {weight:g}, but there is no teacher",
                remedy="set distill to 0 or give a teacher",
            )
        if teacher is not None:
            teacher.eval()

    def __call__(self, logits: paddle.Tensor, image: paddle.Tensor, batch: TrainingBatch) -> paddle.Tensor:
        """0-D float32 loss of one batch."""
        loss = self._task(logits, batch)
        if self._teacher is None or self._weight == 0:
            return loss
        with paddle.no_grad():
            probabilities = self._teacher(image)
        if self._kind == "det":  # of the shrink map, the only one a detector gives in inference
            logits = paddle.log(as_choice(logits[:, :1]).clip(min=_TINY))
            probabilities = as_choice(probabilities)
        distance = distance_to_teacher(logits, probabilities, self._temperature)
        return (1.0 - self._weight) * loss + self._weight * distance


_LOSSES: dict[str, Loss] = {"rec": ctc, "cls": cross_entropy}

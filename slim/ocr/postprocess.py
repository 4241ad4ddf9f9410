"""The net's output to predictions, chosen by the model's kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slim.errors import InputError, UnsupportedModel
from slim.ocr import ctc
from slim.spec import ModelSpec


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image: the text (or class label) and its score from 0 to 1."""

    text: str
    score: float


def decode(outputs: npt.NDArray[np.float32], spec: ModelSpec) -> list[Prediction]:
    """Predictions of a batch, in its order.

    Args:
        outputs: what the net gives in inference: rec N x T x C, cls N x C probabilities.
        spec: the model; its kind chooses the decoder, its labels name the classes.

    Raises:
        InputError: the shape does not fit the labels.
        UnsupportedModel: the kind gives boxes instead of one text per image (det).
    """
    if spec.kind not in _DECODERS:
        raise UnsupportedModel(
            f"kind {spec.kind} has no text output",
            where=spec.name,
            remedy=f"decode a model of kind {' or '.join(_DECODERS)}",
        )
    return _DECODERS[spec.kind](outputs, spec.labels)


def decode_cls(probs: npt.NDArray[np.float32], labels: Sequence[str]) -> list[Prediction]:
    """Best label of each row and its probability.

    >>> decode_cls(np.array([[0.25, 0.75]], np.float32), ("0", "180"))
    [Prediction(text='180', score=0.75)]
    """
    if probs.ndim != 2 or probs.shape[1] != len(labels):
        raise InputError(
            f"output of shape {probs.shape} does not fit the {len(labels)} labels {', '.join(labels)}",
            remedy="use the labels the model was trained with",
        )
    best = probs.argmax(axis=1)
    return [Prediction(labels[k], float(row[k])) for k, row in zip(best, probs, strict=True)]


def decode_rec(probs: npt.NDArray[np.float32], labels: Sequence[str]) -> list[Prediction]:
    """Greedy CTC text and mean confidence of each row, see `slim.ocr.ctc.decode`."""
    return [Prediction(text, score) for text, score in ctc.decode(probs, labels)]


_Decoder = Callable[[npt.NDArray[np.float32], Sequence[str]], list[Prediction]]
_DECODERS: Mapping[str, _Decoder] = {"cls": decode_cls, "rec": decode_rec}

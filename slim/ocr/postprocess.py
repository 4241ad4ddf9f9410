"""The net's output to predictions, chosen by the model's kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slim.errors import InputError
from slim.ocr import ctc
from slim.ocr.db import find_regions, regions_json
from slim.spec import ModelSpec


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image, and its score from 0 to 1.

    ``text`` is the text, the class label or (det) the regions as `slim.ocr.db.regions_json` writes them,
    whose mean score is ``score``.
    """

    text: str
    score: float


def decode(
    outputs: npt.NDArray[np.float32], spec: ModelSpec, sizes: Sequence[tuple[int, int]] = ()
) -> list[Prediction]:
    """Predictions of a batch, in its order.

    Args:
        outputs: what the net gives in inference: rec N x T x C, cls N x C, det N x 1 x H x W probabilities.
        spec: the model; its kind chooses the decoder, its labels name the classes.
        sizes: height and width of each image as it was before resizing; read for det only.

    Raises:
        InputError: the shape does not fit the labels or the sizes.
    """
    if spec.kind == "det":
        return decode_det(outputs, sizes, spec.post)
    return _DECODERS[spec.kind](outputs, spec.labels)


def decode_det(
    maps: npt.NDArray[np.float32], sizes: Sequence[tuple[int, int]], post: Mapping[str, Any]
) -> list[Prediction]:
    """Regions of each page, see `slim.ocr.db.find_regions`; the score of a page without any is 0."""
    if maps.ndim != 4 or maps.shape[:2] != (len(sizes), 1):
        raise InputError(
            f"output of shape {maps.shape} does not fit {len(sizes)} pages",
            remedy="a detector gives N x 1 x H x W",
        )
    found = []
    for prob, size in zip(maps[:, 0], sizes, strict=True):
        regions = find_regions(prob, size, post)
        mean = float(np.mean([region.score for region in regions])) if regions else 0.0
        found.append(Prediction(regions_json(regions), mean))
    return found


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

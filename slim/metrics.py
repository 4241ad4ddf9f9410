"""Metrics with PaddleOCR's definitions, as update / summary / reset objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from slim.errors import InputError, UnsupportedModel


class Metric(Protocol):
    """Collects predictions, then gives its values by name."""

    def update(self, predicted: Sequence[str], expected: Sequence[str]) -> list[bool]:
        """Add a batch; returns which predictions are right, in order."""

    def summary(self) -> dict[str, float]:
        """Values from 0 to 1; raises InputError when nothing was added."""

    def reset(self) -> None:
        """Forget everything added."""


def same_text(predicted: str, expected: str) -> bool:
    """PaddleOCR's comparison of lines: equal once spaces are removed, case and all else counting.

    >>> same_text("a b", "ab"), same_text("AB", "ab")
    (True, False)
    """
    return predicted.replace(" ", "") == expected.replace(" ", "")


class RecMetric:
    """Line accuracy and normalised edit distance of a recognizer.

    As PaddleOCR's RecMetric, spaces are removed from both texts before they are compared.
    ``acc`` is the share of equal texts; ``norm_edit_dis`` is 1 minus the mean of
    ``Levenshtein / max(length)`` (two empty texts: distance 0). PaddleOCR divides by n + 1e-3; here
    it is n, so that a perfect result is exactly 1.

    >>> metric = RecMetric()
    >>> metric.update(["a b", "abcd"], ["ab", "abce"])
    [True, False]
    >>> metric.summary()
    {'acc': 0.5, 'norm_edit_dis': 0.875}
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything added."""
        self._images = self._right = 0
        self._distance = 0.0

    def update(self, predicted: Sequence[str], expected: Sequence[str]) -> list[bool]:
        """Add a batch of texts; returns which are right."""
        from rapidfuzz.distance import Levenshtein

        _require_pairs(predicted, expected)
        right = []
        for ours, theirs in zip(predicted, expected, strict=True):
            ours, theirs = ours.replace(" ", ""), theirs.replace(" ", "")
            self._distance += Levenshtein.normalized_distance(ours, theirs)
            right.append(ours == theirs)
        self._images += len(right)
        self._right += sum(right)
        return right

    def summary(self) -> dict[str, float]:
        """``acc`` and ``norm_edit_dis``, from 0 to 1."""
        _require_some(self._images)
        return {
            "acc": self._right / self._images,
            "norm_edit_dis": 1.0 - self._distance / self._images,
        }


class ClsMetric:
    """Share of right labels.

    >>> metric = ClsMetric()
    >>> metric.update(["0", "180"], ["0", "0"]), metric.summary()
    ([True, False], {'acc': 0.5})
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything added."""
        self._images = self._right = 0

    def update(self, predicted: Sequence[str], expected: Sequence[str]) -> list[bool]:
        """Add a batch of labels; returns which are right."""
        _require_pairs(predicted, expected)
        right = [ours == theirs for ours, theirs in zip(predicted, expected, strict=True)]
        self._images += len(right)
        self._right += sum(right)
        return right

    def summary(self) -> dict[str, float]:
        """``acc``, from 0 to 1."""
        _require_some(self._images)
        return {"acc": self._right / self._images}


def metric_for(kind: str) -> Metric:
    """The metric of a model kind ("rec" or "cls"); UnsupportedModel for any other."""
    metrics: dict[str, type[RecMetric] | type[ClsMetric]] = {"rec": RecMetric, "cls": ClsMetric}
    if kind not in metrics:
        raise UnsupportedModel(f"kind {kind} has no text metric", remedy=f"use one of {', '.join(metrics)}")
    return metrics[kind]()


def _require_pairs(predicted: Sequence[str], expected: Sequence[str]) -> None:
    if len(predicted) != len(expected):
        raise InputError(f"{len(predicted)} predictions for {len(expected)} expected texts")


def _require_some(images: int) -> None:
    if images == 0:
        raise InputError("no image was scored", remedy="give at least one line in the label file")

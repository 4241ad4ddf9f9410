"""Metrics with PaddleOCR's definitions, as update / summary / reset objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from slim.data.labels import Box, parse_boxes
from slim.errors import InputError, UnsupportedModel
from slim.ocr.polygons import iou, overlap, polygon, signed_area
from slim.statistics import Counts, hmean

MIN_OVERLAP = 0.5


class Metric(Protocol):
    """Collects predictions, then gives its values by name."""

    def update(self, predicted: Sequence[str], expected: Sequence[str]) -> list[bool]:
        """Add a batch; returns which predictions are right, in order."""

    def summary(self) -> dict[str, float]:
        """Values from 0 to 1; raises InputError when nothing was added."""

    def reset(self) -> None:
        """Forget everything added."""


def same_regions(predicted: str, expected: str) -> bool:
    """Whether two lists of regions are one to one, each pair with an IoU above 0.5."""
    found, wanted = (parse_boxes(text, "prediction", least=0) for text in (predicted, expected))
    return len(set(match_regions(found, wanted))) == 1


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


class DetMetric:
    """Precision, recall and their harmonic mean over the regions of all pages, by ICDAR 2015's rules.

    A found region and a labelled one match where their IoU is above 0.5; each matches once, first come first
    served in the labels' order. Labels ``###`` and ``*`` are not counted, nor is what lies by more than half
    of its area in one of them. A page is right when nothing is missed and nothing found in excess.

    >>> metric = DetMetric()
    >>> page = '[{"transcription": "HI", "points": [[1,1],[9,1],[9,5],[1,5]]}]'
    >>> metric.update([page, "[]"], [page, page]), metric.summary()
    ([True, False], {'precision': 1.0, 'recall': 0.5, 'hmean': 0.6666666666666666})
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything added."""
        self.pages: list[Counts] = []

    def update(self, predicted: Sequence[str], expected: Sequence[str]) -> list[bool]:
        """Add pages, both sides as JSON lists of regions (`slim.data.labels`); returns which are right."""
        _require_pairs(predicted, expected)
        right = []
        for ours, theirs in zip(predicted, expected, strict=True):
            page = match_regions(parse_boxes(ours, "prediction", least=0), parse_boxes(theirs, "label"))
            self.pages.append(page)
            right.append(len(set(page)) == 1)
        return right

    def summary(self) -> dict[str, float]:
        """``precision``, ``recall`` and ``hmean``, from 0 to 1; 0 where nothing was found or wanted."""
        _require_some(len(self.pages))
        matched, found, wanted = map(sum, zip(*self.pages, strict=True))
        return {
            "precision": matched / found if found else 0.0,
            "recall": matched / wanted if wanted else 0.0,
            "hmean": hmean(matched, found, wanted),
        }


def match_regions(found: Sequence[Box], wanted: Sequence[Box]) -> Counts:
    """Of one page: matches, found regions that count, labelled regions that count."""
    ignored = [polygon(box.points) for box in wanted if box.ignored]
    targets = [polygon(box.points) for box in wanted if not box.ignored]
    counted = []
    for box in map(polygon, (box.points for box in found)):
        area = abs(signed_area(box))
        if not any(area > 0 and overlap(box, region) / area > MIN_OVERLAP for region in ignored):
            counted.append(box)
    free = list(counted)
    for target in targets:
        hit = next((k for k, box in enumerate(free) if iou(target, box) > MIN_OVERLAP), None)
        if hit is not None:
            del free[hit]
    return len(counted) - len(free), len(counted), len(targets)


MAIN_INDICATORS = {"rec": "acc", "cls": "acc", "det": "hmean"}
"""Kind -> the value of its metric that models are judged by."""


def metric_for(kind: str) -> Metric:
    """The metric of a model kind; UnsupportedModel for what is no kind."""
    metrics: dict[str, type[RecMetric] | type[ClsMetric] | type[DetMetric]] = {
        "rec": RecMetric,
        "cls": ClsMetric,
        "det": DetMetric,
    }
    if kind not in metrics:
        raise UnsupportedModel(f"kind {kind} has no metric", remedy=f"use one of {', '.join(metrics)}")
    return metrics[kind]()


def _require_pairs(predicted: Sequence[str], expected: Sequence[str]) -> None:
    if len(predicted) != len(expected):
        raise InputError(f"{len(predicted)} predictions for {len(expected)} expected texts")


def _require_some(images: int) -> None:
    if images == 0:
        raise InputError("no image was scored", remedy="give at least one line in the label file")

"""DB's probability map to text regions (Liao et al. 2020, section 3.5), as PaddleOCR's DBPostProcess.

Worked example: a map of 40 x 20 pixels whose text fills a rectangle of 20 x 4 gives area 80 and outline 48,
so with ``unclip_ratio`` 1.5 every side moves outwards by 80 * 1.5 / 48 = 2.5 pixels: 25 x 9.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slim.errors import InputError
from slim.ocr.polygons import Points, grown, perimeter, sides, signed_area, smallest_box

MIN_SIDE = 3.0
"""Pixels of the map: a region with a shorter side is noise; 2 more are asked for after unclipping."""


@dataclass(frozen=True)
class Region:
    """A text region found.

    Attributes:
        points: four corners (x, y) in pixels of the image, clockwise from the top left one.
        score: mean probability inside the region before it was enlarged, 0 to 1.
    """

    points: tuple[tuple[float, float], ...]
    score: float


def find_regions(
    prob: npt.NDArray[np.float32], size: tuple[int, int], post: Mapping[str, Any]
) -> list[Region]:
    """The regions of one page, in the order in which OpenCV finds their outlines (from the bottom up).

    Args:
        prob: H x W probabilities of text, the net's output for the resized page.
        size: height and width of the page itself, in which the corners are given.
        post: ``thresh``, ``box_thresh``, ``max_candidates``, ``unclip_ratio``; optional ``use_dilation`` and
            ``score_mode`` ("fast": the rectangle is scored, "slow": the outline).

    Raises:
        InputError: the map is not H x W.
    """
    import cv2

    if prob.ndim != 2:
        raise InputError(f"probability map has shape {prob.shape}, must be H x W")
    bitmap = (prob > post["thresh"]).astype(np.uint8)
    if post.get("use_dilation"):
        bitmap = cv2.dilate(bitmap, np.ones((2, 2), np.uint8))
    outlines, _ = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = [_region(prob, outline, size, post) for outline in outlines[: post["max_candidates"]]]
    return [region for region in found if region is not None]


def _region(
    prob: npt.NDArray[np.float32], outline: Any, size: tuple[int, int], post: Mapping[str, Any]
) -> Region | None:
    box = smallest_box(outline.reshape(-1, 2))
    if min(sides(box)) < MIN_SIDE:
        return None
    scored = outline.reshape(-1, 2) if post.get("score_mode") == "slow" else box
    score = mean_inside(prob, scored)
    if score < post["box_thresh"]:
        return None
    box = grown(box, abs(signed_area(box)) * post["unclip_ratio"] / perimeter(box))
    if min(sides(box)) < MIN_SIDE + 2:
        return None
    limits = np.array([size[1], size[0]], np.float64)
    scaled = np.clip(np.rint(box / np.array(prob.shape[::-1]) * limits), 0, limits)
    return Region(tuple((float(x), float(y)) for x, y in scaled), score)


def mean_inside(prob: npt.NDArray[np.float32], points: Points) -> float:
    """Mean of a map over the pixels that OpenCV fills for a polygon (corners cut to whole pixels)."""
    import cv2

    height, width = prob.shape
    low = np.clip(np.floor(points.min(axis=0)), 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, (width - 1, height - 1)).astype(int)
    mask = np.zeros((high[1] - low[1] + 1, high[0] - low[0] + 1), np.uint8)
    cv2.fillPoly(mask, [(points - low).astype(np.int32).reshape(-1, 1, 2)], 1)
    part = prob[low[1] : high[1] + 1, low[0] : high[0] + 1]
    return float(part[mask > 0].mean(dtype=np.float64)) if mask.any() else 0.0


def regions_json(regions: Sequence[Region]) -> str:
    """Regions as a det label holds them, with their scores; `slim.data.labels.parse_boxes` reads it.

    >>> regions_json([Region(((1.0, 1.0), (9.0, 1.0), (9.0, 5.0), (1.0, 5.0)), 0.75)])
    '[{"transcription": "", "points": [[1, 1], [9, 1], [9, 5], [1, 5]], "score": 0.75}]'
    """
    rows = [
        {"transcription": "", "points": [[round(x), round(y)] for x, y in r.points], "score": r.score}
        for r in regions
    ]
    return json.dumps(rows)

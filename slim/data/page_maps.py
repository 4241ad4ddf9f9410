"""The maps a DB detector learns from the corners of its regions (Liao et al. 2020, section 3.4).

A region of area A and outline L is shrunk and enlarged by the same offset, D = A (1 - r^2) / L with r = 0.4.
What is at least D inside its outline is text in the shrink map; the threshold map falls from 0.7 on the
outline to 0.3 at distance D on either side of it.

Worked example: a region of 40 x 10 pixels has D = 400 * 0.84 / 100 = 3.36; its text is 33.28 x 3.28 large.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slim.data.labels import Box
from slim.ocr.polygons import Points, inside, outline_distance, perimeter, polygon, signed_area

SHRINK_RATIO = 0.4
THRESHOLDS = (0.3, 0.7)
MIN_TEXT_SIZE = 8.0
"""Pixels: regions that are smaller in height or width are neither learned as text nor as ground."""
SHRINK, SHRINK_MASK, THRESHOLD, THRESHOLD_MASK = range(4)


def page_maps(boxes: Sequence[Box], height: int, width: int) -> npt.NDArray[np.float32]:
    """Maps of a page or a part of one; regions may reach beyond it.

    Args:
        boxes: regions with corners in pixels of the part.

    Returns:
        float32, 4 x height x width: shrink map (0 or 1), where it counts (0 or 1), threshold map
        (0.3 to 0.7), where it counts (0 or 1: within D of an outline or inside it).
    """
    maps = np.zeros((4, height, width), np.float32)
    maps[SHRINK_MASK] = 1.0
    for box in boxes:
        points = polygon(box.points)
        length = perimeter(points)
        offset = abs(signed_area(points)) * (1 - SHRINK_RATIO**2) / length if length else 0.0
        window = _window(points, offset, height, width)
        if window is not None:
            _draw(maps, points, offset, window, ignored=box.ignored)
    low, high = THRESHOLDS
    maps[THRESHOLD] = maps[THRESHOLD] * np.float32(high - low) + np.float32(low)
    return maps


def _window(points: Points, offset: float, height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns that the enlarged region can touch; None outside the page."""
    low = np.maximum(np.floor(points.min(axis=0) - offset), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + offset) + 1, (width, height)).astype(int)
    if (low >= high).any():
        return None
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _draw(
    maps: npt.NDArray[np.float32],
    points: Points,
    offset: float,
    window: tuple[slice, slice],
    *,
    ignored: bool,
) -> None:
    rows, columns = window
    moved = points - (columns.start, rows.start)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    within, distance = inside(moved, height, width), outline_distance(moved, height, width)
    shrink, shrink_mask, threshold, threshold_mask = (plane[window] for plane in maps)
    if ignored or min(np.ptp(points, axis=0)) < MIN_TEXT_SIZE or offset <= 0:
        shrink_mask[within] = 0.0
    else:
        shrink[within & (distance >= offset)] = 1.0
    if not ignored and offset > 0:
        near = within | (distance <= offset)
        threshold_mask[near] = 1.0
        height_of = np.clip(1.0 - distance / offset, 0.0, 1.0)
        np.maximum(threshold, height_of, out=threshold, where=near, casting="same_kind")

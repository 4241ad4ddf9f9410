"""Plane geometry of text regions: areas, overlaps, distances, the smallest rectangle around a region.

Polygons are N x 2 arrays of (x, y) in pixels, in either direction of turning, not closed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slim.errors import InputError

Points = npt.NDArray[np.float64]


def polygon(points: Sequence[Sequence[float]]) -> Points:
    """Any sequence of (x, y) as an N x 2 array."""
    return np.asarray(points, np.float64).reshape(-1, 2)


def signed_area(points: Points) -> float:
    """Area in square pixels; positive where the corners run clockwise on the screen (y points down).

    >>> signed_area(polygon([(0, 0), (4, 0), (4, 3), (0, 3)]))
    12.0
    """
    x, y = points[:, 0], points[:, 1]
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y))


def perimeter(points: Points) -> float:
    """Length of the closed outline in pixels.

    >>> perimeter(polygon([(0, 0), (4, 0), (4, 3), (0, 3)]))
    14.0
    """
    return float(np.hypot(*(np.roll(points, -1, axis=0) - points).T).sum())


def is_convex(points: Points) -> bool:
    """Whether the outline turns one way only; repeated corners and straight ones are allowed."""
    edges = np.roll(points, -1, axis=0) - points
    edges = edges[np.abs(edges).sum(axis=1) > 0]
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    return bool((turns >= 0).all() or (turns <= 0).all())


def overlap(a: Points, b: Points) -> float:
    """Area in square pixels that two simple polygons share; one of them must be convex.

    One is cut by the sides of the other (Sutherland and Hodgman 1974). Where that splits a concave polygon,
    the parts stay joined by a bridge without width, so the area is still exact.

    Raises:
        InputError: neither is convex.

    >>> square = polygon([(0, 0), (2, 0), (2, 2), (0, 2)])
    >>> overlap(square, square + 1)
    1.0
    """
    if not is_convex(b):
        a, b = b, a
        if not is_convex(b):
            raise InputError("overlap of two concave regions", remedy="one must be convex, such as a box")
    window = b if signed_area(b) > 0 else b[::-1]
    rest = a
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        rest = _cut(rest, start, end)
        if len(rest) < 3:
            return 0.0
    return abs(signed_area(rest))


def _cut(points: Points, start: Points, end: Points) -> Points:
    """The part of a polygon on the right hand of the line from ``start`` to ``end`` (inside of a window)."""
    (dx, dy), relative = end - start, points - start
    side = dx * relative[:, 1] - dy * relative[:, 0]
    kept: list[Points] = []
    for k in range(len(points)):
        following = (k + 1) % len(points)
        if side[k] >= 0:
            kept.append(points[k])
        if (side[k] >= 0) != (side[following] >= 0):
            share = side[k] / (side[k] - side[following])
            kept.append(points[k] + share * (points[following] - points[k]))
    return np.array(kept).reshape(-1, 2)


def iou(a: Points, b: Points) -> float:
    """Shared area over joint area, 0 to 1; 0 where both are without area.

    >>> square = polygon([(0, 0), (2, 0), (2, 2), (0, 2)])
    >>> round(iou(square, square + (1, 0)), 4)
    0.3333
    """
    shared = overlap(a, b)
    joint = abs(signed_area(a)) + abs(signed_area(b)) - shared
    return shared / joint if joint > 0 else 0.0


def smallest_box(points: npt.NDArray[np.generic]) -> Points:
    """The rectangle of least area around points, 4 x 2, in the order of `ordered`."""
    import cv2

    return ordered(polygon(cv2.boxPoints(cv2.minAreaRect(np.asarray(points, np.float32)))))


def ordered(box: Points) -> Points:
    """Corners of a quadrilateral as top left, top right, bottom right, bottom left.

    The two leftmost are the left side, as in PaddleOCR: text turned by over 45 degrees is read upwards
    or downwards by that rule.

    >>> ordered(polygon([(9, 5), (1, 5), (1, 1), (9, 1)])).tolist()
    [[1.0, 1.0], [9.0, 1.0], [9.0, 5.0], [1.0, 5.0]]
    """
    by_x = box[np.argsort(box[:, 0], kind="stable")]
    left, right = (side[np.argsort(side[:, 1], kind="stable")] for side in (by_x[:2], by_x[2:]))
    return np.array([left[0], right[0], right[1], left[1]])


def sides(box: Points) -> tuple[float, float]:
    """Width and height of an ordered rectangle in pixels (of other quadrilaterals: top and left side)."""
    return float(np.hypot(*(box[1] - box[0]))), float(np.hypot(*(box[3] - box[0])))


def grown(box: Points, distance: float) -> Points:
    """An ordered rectangle with each side moved outwards by ``distance`` pixels.

    That is the smallest rectangle around the outline that a round brush of this radius draws along the box
    (of all rectangles around that outline, the one along the box has the least area), which is what DB's
    unclipping by polygon offset and a second fit gives.

    >>> grown(polygon([(2, 2), (6, 2), (6, 4), (2, 4)]), 1.0).tolist()
    [[1.0, 1.0], [7.0, 1.0], [7.0, 5.0], [1.0, 5.0]]
    """
    width, height = sides(box)
    along = (box[1] - box[0]) / width if width else np.array([1.0, 0.0])
    down = (box[3] - box[0]) / height if height else np.array([-along[1], along[0]])
    moves = np.array([-along - down, along - down, along + down, down - along])
    return box + distance * moves


def outline_distance(points: Points, height: int, width: int) -> npt.NDArray[np.float64]:
    """Distance in pixels from each pixel centre (x, y whole numbers) to the outline: height x width.

    >>> outline_distance(polygon([(0, 0), (4, 0), (4, 4), (0, 4)]), 3, 3)[2].tolist()
    [0.0, 1.0, 2.0]
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    nearest = np.full((height, width), np.inf)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        share = ((x - ax) * dx + (y - ay) * dy) / length if length else np.zeros_like(x)
        share = np.clip(share, 0.0, 1.0)
        np.minimum(nearest, (x - ax - share * dx) ** 2 + (y - ay - share * dy) ** 2, out=nearest)
    return np.sqrt(nearest)


def inside(points: Points, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Whether each pixel centre lies inside (even-odd rule): height x width.

    >>> inside(polygon([(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)]), 4, 4).sum()
    4
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    odd = np.zeros((height, width), np.bool_)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if ay == by:
            continue
        crosses = (y < ay) != (y < by)
        odd ^= crosses & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return odd

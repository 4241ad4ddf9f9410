"""A whole page: find the lines, turn them upright, read them. The road of PaddleOCR's predict_system.

Worked example: two regions whose top left corners are (200, 52) and (10, 58) are one row, as they differ by
under 10 pixels in height, so the one at x = 10 is read first. A line of the angle classifier's label "180"
is turned when the probability is above 0.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slim.ocr.db import Region, find_regions
from slim.ocr.polygons import polygon
from slim.ocr.postprocess import Prediction, decode
from slim.ocr.preprocess import resized_width, to_tensor
from slim.spec import ModelSpec

Pixels = npt.NDArray[np.uint8]

ROW_PIXELS = 10
ANGLE_THRESHOLD = 0.9
UPRIGHT_RATIO = 1.5
"""A region this many times higher than wide holds a line that runs upwards or downwards."""
WIDTH_MULTIPLE, WIDEST = 32, 4096


@dataclass(frozen=True)
class Model:
    """One runnable model: its facts, and float32 N x 3 x H x W -> the net's inference output."""

    spec: ModelSpec
    run: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class PageLine:
    """One line of a page.

    Attributes:
        region: where it is.
        angle: label of the angle classifier and its probability, None without one.
        text: what was read and the mean probability of its characters.
    """

    region: Region
    angle: Prediction | None
    text: Prediction


def read_page(image: Pixels, det: Model, rec: Model, cls: Model | None = None) -> list[PageLine]:
    """The lines of a page in reading order.

    Args:
        image: H x W x 3, uint8, BGR.
        det, rec, cls: models of these kinds; without ``cls`` every line counts as upright.

    Raises:
        InputError: an output does not fit the model's facts.
    """
    lines = []
    for region in reading_order(find_page_regions(image, det)):
        cut = crop(image, region)
        angle = None
        if cls is not None:
            angle = decode(cls.run(to_tensor(cut, cls.spec.input)[None]), cls.spec)[0]
            if upside_down(angle):
                cut = np.ascontiguousarray(cut[::-1, ::-1])
        tensor = to_tensor(cut, rec.spec.input, _width(cut, rec.spec))
        lines.append(PageLine(region, angle, decode(rec.run(tensor[None]), rec.spec)[0]))
    return lines


def upside_down(angle: Prediction | None) -> bool:
    """Whether the angle classifier is sure enough that a line must be turned.

    >>> upside_down(Prediction("180", 0.95)), upside_down(Prediction("180", 0.9)), upside_down(None)
    (True, False, False)
    """
    return angle is not None and angle.text == "180" and angle.score > ANGLE_THRESHOLD


def find_page_regions(image: Pixels, det: Model) -> list[Region]:
    """Regions of a page in its own pixels; see `slim.ocr.db.find_regions`."""
    maps = det.run(to_tensor(image, det.spec.input)[None])
    return find_regions(np.asarray(maps)[0, 0], (image.shape[0], image.shape[1]), det.spec.post)


def reading_order(regions: Sequence[Region]) -> list[Region]:
    """From top to bottom; those that follow each other within 10 pixels of height from left to right."""
    done: list[Region] = []
    for region in sorted(regions, key=lambda r: (r.points[0][1], r.points[0][0])):
        place = len(done)
        while place and _comes_before(region, done[place - 1]):
            place -= 1
        done.insert(place, region)
    return done


def _comes_before(lower: Region, upper: Region) -> bool:
    """Whether a region that begins lower is in the same row and further to the left."""
    (x, y), (other_x, other_y) = lower.points[0], upper.points[0]
    return abs(y - other_y) < ROW_PIXELS and x < other_x


def crop(image: Pixels, region: Region) -> Pixels:
    """The region as a level rectangle, by perspective, and turned by 90 degrees if far higher than wide.

    Returns:
        H x W x 3, uint8: the longer of each pair of opposite sides, at least one pixel.
    """
    import cv2

    corners = polygon(region.points).astype(np.float32)
    lengths = np.hypot(*(np.roll(corners, -1, axis=0) - corners).T)
    width, height = max(1, int(max(lengths[0], lengths[2]))), max(1, int(max(lengths[1], lengths[3])))
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    cut = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    if height >= UPRIGHT_RATIO * width:
        cut = np.rot90(cut)
    return np.ascontiguousarray(cut, np.uint8)


def _width(cut: Pixels, spec: ModelSpec) -> int:
    """The model's width, or as much more in multiples of 32 as a long line needs where the file allows it."""
    if not spec.input.dynamic_width:
        return spec.input.width
    needed = resized_width(cut.shape[0], cut.shape[1], spec.input.height, WIDEST)
    return max(spec.input.width, math.ceil(needed / WIDTH_MULTIPLE) * WIDTH_MULTIPLE)


def drawn(image: Pixels, lines: Sequence[PageLine]) -> Pixels:
    """A copy of the page with the outline of each line and its number, counted from 1.

    Green: read; red: nothing was read. The side where the text begins is thicker.
    """
    import cv2

    picture = image.copy()
    for number, line in enumerate(lines, 1):
        corners = np.rint(polygon(line.region.points)).astype(np.int32)
        colour = (0, 160, 0) if line.text.text else (0, 0, 220)
        cv2.polylines(picture, [corners.reshape(-1, 1, 2)], True, colour, 1, cv2.LINE_AA)
        start, end = (1, 2) if upside_down(line.angle) else (0, 3)
        cv2.line(picture, tuple(map(int, corners[start])), tuple(map(int, corners[end])), colour, 3)
        place = (int(corners[0][0]), max(9, int(corners[0][1]) - 3))
        cv2.putText(picture, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    return picture

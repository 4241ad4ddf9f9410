"""A square part of a page for training: flipped, turned, scaled and coloured at random, labels with it.

What PaddleOCR's IaaAugment and EastRandomCropData are for, as one affine map: pixels are sampled once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slim.data.augment import blur, brightness, hue, noise, reverse
from slim.data.labels import Box
from slim.ocr.polygons import polygon

Pixels = npt.NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]

FLIP = 0.5
TURN = 10.0
"""Degrees to either side."""
SCALE = (0.6, 1.7)
"""Of the page's pixels; PaddleOCR's 0.5 to 3 is for photos of far larger sides."""
AIM = 0.9
"""Share of parts that are laid around a region; the others lie anywhere."""
COLOURS: tuple[tuple[Change, float], ...] = (
    (blur, 0.15),
    (brightness, 0.4),
    (hue, 0.3),
    (noise, 0.2),
    (reverse, 0.15),
)


@dataclass(frozen=True)
class PageCrop:
    """Cuts a part of ``side`` x ``side`` pixels; without ``change`` as the page is."""

    side: int
    change: bool = True

    def __call__(
        self, image: Pixels, boxes: Sequence[Box], rng: np.random.Generator
    ) -> tuple[Pixels, list[Box]]:
        """Part and regions in its pixels; those that lie outside it are left out, others may reach beyond.

        What lies outside the page has its mean colour.
        """
        import cv2

        size = (self.side, self.side)
        matrix = self._matrix(image.shape[0], image.shape[1], boxes, rng)
        ground = [float(value) for value in image.mean(axis=(0, 1))]
        part = np.asarray(
            cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=ground), np.uint8
        )
        if self.change:
            for (colour, probability), chance in zip(COLOURS, rng.random(len(COLOURS)), strict=True):
                part = colour(part, rng) if chance < probability else part
        moved = [_moved(box, matrix) for box in boxes]
        return part, [box for box in moved if self._touches(box)]

    def _matrix(
        self, height: int, width: int, boxes: Sequence[Box], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """2 x 3: page (x, y) to part. The same numbers are drawn whatever is done with them."""
        flip, turn, scale, aim, *free = rng.random(6)
        angle = math.radians((2 * turn - 1) * TURN) if self.change else 0.0
        factor = SCALE[0] * (SCALE[1] / SCALE[0]) ** scale if self.change else 1.0
        linear = factor * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        if self.change and flip < FLIP:
            linear[:, 0] *= -1
        targets = [box for box in boxes if not box.ignored]
        chosen = targets[int(rng.integers(len(targets)))] if targets else None
        shift = (np.array(free) - 0.5) * self.side
        if chosen is not None and aim < AIM:
            centre = polygon(chosen.points).mean(axis=0)
            shift *= 0.8
        else:
            centre = np.array([free[0] * width, free[1] * height])
            shift *= 0.0
        offset = np.full(2, self.side / 2) + shift - linear @ centre
        return np.concatenate([linear, offset[:, None]], axis=1)

    def _touches(self, box: Box) -> bool:
        points = polygon(box.points)
        return bool((points.max(axis=0) > 0).all() and (points.min(axis=0) < self.side).all())


def _moved(box: Box, matrix: npt.NDArray[np.float64]) -> Box:
    points = polygon(box.points) @ matrix[:, :2].T + matrix[:, 2]
    return replace(box, points=tuple((float(x), float(y)) for x, y in points))

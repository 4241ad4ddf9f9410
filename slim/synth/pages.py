"""One page as a picture: lines of several sizes, level or turned a little, that do not touch each other.

The corners of each line are known by construction: those of the box its text was drawn in, turned with it.
Rules and bars, which are no text, lie between the lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slim.synth.render import Difficulty, background, blended, ink_colour, noise, picture, text_mask
from slim.synth.texts import Split, draw_text

if TYPE_CHECKING:
    from PIL import Image

    from slim.synth.fonts import Face

Corners = tuple[tuple[int, int], ...]
Span = tuple[int, int, int, int]

HEIGHTS, WIDTHS = (384, 513), (384, 641)
LINES = (4, 13)
MOST_RULES = 3
TALLEST = 45
"""Pixels; the least is ``Difficulty.low``."""
STEEP = 0.3
"""Rise per pixel of the few lines (one in six) that are not parallel to the others."""
_ROOM = 4
_TRIES = 12


@dataclass(frozen=True)
class Region:
    """A line on a page.

    Attributes:
        corners: four (x, y) in pixels, clockwise from the top left one of the text as it is read.
    """

    text: str
    font: str
    corners: Corners


def render_page(
    split: Split, family: tuple[Face, ...], rng: np.random.Generator, background_seed: int, hard: Difficulty
) -> tuple[Image.Image, list[Region]]:
    """An RGB page of 384 to 640 x 384 to 512 pixels with 1 to 12 lines of texts of ``split``.

    The page's size, colours and texture depend on ``background_seed`` alone. A line that finds no room in
    12 tries is left out; the first one always does.
    """
    paper = np.random.default_rng([background_seed, 7])
    height, width = int(paper.integers(*HEIGHTS)), int(paper.integers(*WIDTHS))
    ground = background(height, width, paper, hard)
    taken: list[Span] = []
    level = float(rng.random() * 2 - 1) * hard.slope
    regions = []
    for _ in range(int(rng.integers(*LINES))):
        face = family[int(rng.integers(len(family)))]
        text = draw_text(rng, split, face.characters)
        slope = float(rng.random() * 2 - 1) * STEEP if rng.random() < 1 / 6 else level
        mask, corners = _turned(_line(text, face, rng, hard, width), slope, rng, hard)
        place = _free(mask.size, (width, height), taken, rng)
        if place is not None:
            _put(ground, np.asarray(mask), place, ink_colour(_mean(ground), rng, hard))
            moved = tuple((x + place[0], y + place[1]) for x, y in corners)
            regions.append(Region(text, face.name, moved))
    for _ in range(int(rng.integers(0, MOST_RULES + 1))):
        _rule(ground, taken, rng, hard)
    return picture(ground, noise(ground.shape, rng, hard)), regions


def _line(text: str, face: Face, rng: np.random.Generator, hard: Difficulty, width: int) -> Image.Image:
    """The text in white on black, ``hard.low`` to 44 pixels high, at most 0.8 of the page wide."""
    from PIL import Image

    mask = text_mask(text, face, rng, hard)
    high = int(rng.integers(hard.low, TALLEST))
    scale = min(high / mask.height, 0.8 * width / mask.width)
    size = (max(4, round(mask.width * scale)), max(4, round(mask.height * scale)))
    return mask.resize(size, Image.Resampling.BILINEAR)


def _turned(
    mask: Image.Image, slope: float, rng: np.random.Generator, hard: Difficulty
) -> tuple[Image.Image, Corners]:
    """The line turned so that it falls by ``slope`` pixels per pixel, on a canvas that holds all of it."""
    from PIL import Image, ImageFilter

    # Cosine and sine by a square root, which every machine rounds alike.
    cos = 1.0 / float(np.sqrt(1.0 + slope * slope))
    sin = slope * cos
    half = np.array([mask.width / 2, mask.height / 2])
    ends = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
    turned = np.stack([ends[:, 0] * cos - ends[:, 1] * sin, ends[:, 0] * sin + ends[:, 1] * cos], axis=1)
    size = np.ceil(turned.max(axis=0)).astype(int) * 2 + 2
    cx, cy = (float(value) for value in size / 2)
    back = (cos, sin, half[0] - cos * cx - sin * cy, -sin, cos, half[1] + sin * cx - cos * cy)
    done = mask.transform(
        (int(size[0]), int(size[1])), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR
    )
    radius = float(rng.random() ** 2 * hard.blur)
    if radius > 0.2:
        done = done.filter(ImageFilter.GaussianBlur(radius))
    corners = np.rint(turned + size / 2).astype(int)
    return done, tuple((int(x), int(y)) for x, y in corners)


def _free(
    size: tuple[int, int], page: tuple[int, int], taken: list[Span], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Left and top of a place that no other thing needs, which is then taken; None after some tries."""
    spare = [whole - part for whole, part in zip(page, size, strict=True)]
    if min(spare) < 0:
        return None
    for _ in range(_TRIES):
        x, y = (int(rng.integers(0, room + 1)) for room in spare)
        span = (x, y, x + size[0], y + size[1])
        if not any(_touch(span, other) for other in taken):
            taken.append(span)
            return x, y
    return None


def _touch(a: Span, b: Span) -> bool:
    apart = a[2] + _ROOM <= b[0] or b[2] + _ROOM <= a[0] or a[3] + _ROOM <= b[1] or b[3] + _ROOM <= a[1]
    return not apart


def _put(
    ground: npt.NDArray[np.int32],
    ink: npt.NDArray[np.uint8],
    place: tuple[int, int],
    colour: npt.NDArray[np.int32],
) -> None:
    rows, columns = slice(place[1], place[1] + ink.shape[0]), slice(place[0], place[0] + ink.shape[1])
    ground[rows, columns] = blended(ground[rows, columns], ink, colour)


def _rule(
    ground: npt.NDArray[np.int32], taken: list[Span], rng: np.random.Generator, hard: Difficulty
) -> None:
    """A level or upright bar, 1 to 12 pixels thick."""
    height, width = ground.shape[:2]
    thick, long = int(rng.integers(1, 13)), int(rng.integers(20, width // 2))
    size = (long, thick) if rng.random() < 0.6 else (thick, min(long, height // 2))
    place = _free(size, (width, height), taken, rng)
    if place is not None:
        _put(ground, np.full(size[::-1], 255, np.uint8), place, ink_colour(_mean(ground), rng, hard))


def _mean(ground: npt.NDArray[np.int32]) -> int:
    return int(ground.mean(dtype=np.float64))

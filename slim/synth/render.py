"""One text line as a picture: colours, perspective, blur, noise, compression; `pages` uses its parts too.

Everything random comes from the generator that is passed in. Geometry and blur are Pillow's plain C
loops and blending is integer arithmetic: no vector unit changes a byte, so a set's hash holds on another
machine with the same locked packages.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slim.synth.scripts import needs_shaping

if TYPE_CHECKING:
    from PIL import Image, ImageFont

    from slim.synth.fonts import Face

_Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Difficulty:
    """Upper ends of the disturbances, each drawn anew for every line.

    Attributes:
        slope: rise of the base line per pixel of length.
        shear: lean of the letters.
        perspective: relative change of scale from one end to the other.
        blur: Gaussian radius in pixels of the final image.
        noise: standard deviation in grey levels.
        contrast: least difference in brightness between text and background, in grey levels.
        texture: amplitude of the background in grey levels.
        quality: lowest JPEG quality.
        low: lowest height in pixels that a line is reduced to before it is enlarged again.
        margin: room left and right of the text in font sizes (half of it above and below).
        colour: distance of each channel from grey, in grey levels.
    """

    slope: float
    shear: float
    perspective: float
    blur: float
    noise: float
    contrast: int
    texture: int
    quality: int
    low: int
    margin: float
    colour: int


def render_line(
    text: str, face: Face, rng: np.random.Generator, background_seed: int, hard: Difficulty
) -> Image.Image:
    """An RGB picture of ``text``, 32 to 64 pixels high.

    The background's colours and texture depend on ``background_seed`` alone.
    """
    from PIL import ImageFilter

    mask = _warp(text_mask(text, face, rng, hard), rng, hard)
    mask = _resize(mask, rng, hard)
    radius = float(rng.random() ** 2 * hard.blur)
    if radius > 0.2:
        mask = mask.filter(ImageFilter.GaussianBlur(radius))
    ink = np.asarray(mask)
    ground = background(ink.shape[0], ink.shape[1], np.random.default_rng([background_seed, 7]), hard)
    colour = ink_colour(int(ground.mean(dtype=np.float64)), rng, hard)
    return picture(blended(ground, ink, colour), noise(ground.shape, rng, hard))


def encode(image: Image.Image, rng: np.random.Generator, hard: Difficulty) -> bytes:
    """JPEG bytes of a seeded quality between ``hard.quality`` and 95."""
    buffer = io.BytesIO()
    quality = int(rng.integers(hard.quality, 96))
    image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality > 80 else 2)
    return buffer.getvalue()


@lru_cache(maxsize=512)
def _font(path: str, size: int, shaped: bool = False) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    # BASIC where it will do: the other layout engine depends on a library that may or may not be here.
    engine = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
    return ImageFont.truetype(path, size, layout_engine=engine)


@lru_cache(maxsize=1024)
def _extent(path: str, size: int, tall: str) -> tuple[int, int]:
    """Upper and lower end of ``Face.tall``."""
    _, top, _, bottom = _font(path, size).getbbox(tall)
    return int(top), int(bottom)


def text_mask(text: str, face: Face, rng: np.random.Generator, hard: Difficulty) -> Image.Image:
    """The text in white on black with random margins; ``face`` must draw all of its characters."""
    from PIL import Image, ImageDraw

    size = int(rng.integers(30, 49))
    font = _font(str(face.path), size, needs_shaping(text))
    left, top, right, bottom = (int(value) for value in font.getbbox(text))
    if face.tall:
        highest, lowest = _extent(str(face.path), size, face.tall)
        top, bottom = min(top, highest), max(bottom, lowest)
    limits = (hard.margin * size, hard.margin * size / 2) * 2
    margin = [1 + int(rng.random() * limit) for limit in limits]
    width, height = right - left + margin[0] + margin[2], bottom - top + margin[1] + margin[3]
    image = Image.new("L", (width, height), 0)
    ImageDraw.Draw(image).text((margin[0] - left, margin[1] - top), text, 255, font)
    return image


def _warp(mask: Image.Image, rng: np.random.Generator, hard: Difficulty) -> Image.Image:
    """Slight rotation, shear and perspective around the middle; the canvas grows so nothing is cut."""
    from PIL import Image

    slope, shear, tilt_x, tilt_y = ((rng.random(4) * 2 - 1) * (hard.slope, hard.shear, 1, 1)).tolist()
    width, height = mask.size
    rise = int(abs(slope) * width / 2 + abs(shear) * height / 4) + 1
    lean = int(abs(shear) * height) + int(hard.perspective * width / 4) + 1
    new_width, new_height = width + lean, height + rise
    g, h = tilt_x * hard.perspective / new_width, tilt_y * hard.perspective / new_height / 2
    # Output pixel (x, y) takes input ((a x + b y + c) / (g x + h y + 1), ...), both measured from the middle.
    cx, cy, mx, my = new_width / 2, new_height / 2, width / 2, height / 2
    k = 1 - g * cx - h * cy
    rows = ((1.0, shear, mx), (slope, 1.0, my))
    data = []
    for a, b, middle in rows:
        data += [a + middle * g, b + middle * h, -a * cx - b * cy + middle * k]
    coefficients = [value / k for value in (*data, g, h)]
    return mask.transform(
        (new_width, new_height), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )


def _resize(mask: Image.Image, rng: np.random.Generator, hard: Difficulty) -> Image.Image:
    """Final height 32 to 64; one line in four was small before (as cut from a far photo)."""
    from PIL import Image

    height = int(rng.integers(32, 65))
    if rng.random() < 0.25:
        low = int(rng.integers(hard.low, 32))
        mask = mask.resize((max(4, mask.width * low // mask.height), low), Image.Resampling.BILINEAR)
    width = max(8, round(mask.width * height / mask.height))
    return mask.resize((width, height), Image.Resampling.BILINEAR)


def background(height: int, width: int, rng: np.random.Generator, hard: Difficulty) -> npt.NDArray[np.int32]:
    """H x W x 3: a colour, a gradient, and a smooth random texture."""
    from PIL import Image

    level = 255 - rng.integers(0, 90) if rng.random() < 0.8 else rng.integers(0, 90)
    base = level + rng.integers(-hard.colour, hard.colour + 1, 3)
    amplitude = int(rng.integers(0, hard.texture + 1))
    grid = rng.integers(0, 256, (int(rng.integers(2, 6)), int(rng.integers(2, 12))), dtype=np.uint8)
    smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    texture = (np.asarray(smooth, np.int32) - 128) * amplitude // 128
    slope = int(rng.integers(-hard.texture, hard.texture + 1))
    gradient = np.arange(width, dtype=np.int32) * slope // width
    return np.clip(base.astype(np.int32) + (texture + gradient)[:, :, None], 0, 255)


def ink_colour(ground: int, rng: np.random.Generator, hard: Difficulty) -> npt.NDArray[np.int32]:
    """A colour whose brightness differs from the ground's by ``hard.contrast`` at least."""
    room = [side for side in (ground - hard.contrast, 255 - hard.contrast - ground) if side >= 0]
    darker = ground >= hard.contrast and (len(room) == 1 or bool(rng.random() < ground / 255))
    span = ground - hard.contrast if darker else 255 - hard.contrast - ground
    distance = hard.contrast + int(rng.integers(0, max(1, span + 1)))
    level = ground - distance if darker else ground + distance
    tint = rng.integers(-hard.colour, hard.colour + 1, 3)
    tint -= int(tint.sum()) // 3  # keeps the brightness
    return np.clip(level + tint, 0, 255).astype(np.int32)


def noise(shape: tuple[int, ...], rng: np.random.Generator, hard: Difficulty) -> npt.NDArray[np.int32]:
    """Sum of two uniform integers, scaled to the wanted deviation (105 is that of the sum of two bytes)."""
    level = int(rng.random() ** 2 * hard.noise * 256 / 105)
    pair = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    total = pair[0].astype(np.int32) + pair[1] - 255
    return total * level >> 8


def blended(
    ground: npt.NDArray[np.int32], ink: _Pixels, colour: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Ground of H x W x 3 where ``ink`` (H x W) is 0, ``colour`` where it is 255."""
    cover = ink.astype(np.int32)[:, :, None]
    return (ground * (255 - cover) + colour * cover + 127) // 255


def picture(mixed: npt.NDArray[np.int32], grain: npt.NDArray[np.int32]) -> Image.Image:
    """An RGB picture of colours and noise, H x W x 3 each."""
    from PIL import Image

    return Image.fromarray(np.clip(mixed + grain, 0, 255).astype(np.uint8))

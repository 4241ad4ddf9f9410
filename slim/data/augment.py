"""Augmentation of training lines: what PaddleOCR's RecAug, BaseDataAugmentation and RandAugment are for.

Each change is drawn with its own probability; none can change a label: nothing is mirrored, nothing is
turned by more than a few degrees, at most a few pixels are cut at the rim.

Example: ``Augment()(image, np.random.default_rng([seed, step, place]))`` gives the same pixels every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slim.errors import UnsupportedModel

Pixels = npt.NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]

MAX_SHIFT = 0.06
"""Perspective: how far a corner moves, as a share of the image's height."""
MAX_CUT = 0.06
"""Crop: how much is cut or added above and below, as a share of the height."""


@dataclass(frozen=True)
class Augment:
    """Applies each change in turn, each with its own probability times ``strength``.

    Args:
        strength: 0 changes nothing, 1 is the usual amount (PaddleOCR's probability is 0.4 per change).
    """

    strength: float = 1.0

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """A changed copy: H' x W' x 3, uint8, BGR; ``image`` itself is left as it is."""
        chances = rng.random(len(CHANGES))
        for (change, probability), chance in zip(CHANGES, chances, strict=True):
            if chance < probability * self.strength:
                image = change(image, rng)
        return image


def augmentation(kind: str, strength: float = 1.0) -> Augment:
    """The augmentation of a model kind; no change can alter a text or an angle, so rec and cls share it.

    Raises:
        UnsupportedModel: a kind whose labels lie in the image (det): changing the image would move them.
    """
    if kind not in ("rec", "cls"):
        raise UnsupportedModel(f"kind {kind} has no line augmentation", remedy="use rec or cls")
    return Augment(strength)


def perspective(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Move the four corners by up to 6% of the height; the rim is repeated, so no black wedge appears."""
    import cv2

    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + ((rng.random((4, 2)) * 2 - 1) * MAX_SHIFT * height).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    return np.asarray(
        cv2.warpPerspective(image, matrix, (width, height), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def stretch(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Widen or narrow thirds of the line by up to 15% each (TIA's stretch)."""
    import cv2

    height, width = image.shape[:2]
    if width < 12:
        return image
    edges = np.linspace(0, width, 4).round().astype(int)
    parts = []
    for left, right, factor in zip(edges[:-1], edges[1:], 0.85 + 0.3 * rng.random(3), strict=True):
        size = (max(1, round(float((right - left) * factor))), height)
        parts.append(cv2.resize(image[:, left:right], size, interpolation=cv2.INTER_LINEAR))
    return np.concatenate(parts, axis=1)


def crop(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut or add up to 6% of the height above and below, and add up to 10% of it at the sides."""
    import cv2

    height = image.shape[0]
    top, bottom = (int(v) for v in np.rint((rng.random(2) * 2 - 1) * MAX_CUT * height))
    left, right = (int(v) for v in np.rint(rng.random(2) * 0.1 * height))
    image = image[max(0, -top) : height - max(0, -bottom)]
    return np.asarray(
        cv2.copyMakeBorder(image, max(0, top), max(0, bottom), left, right, cv2.BORDER_REPLICATE)
    )


def blur(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Gaussian blur whose deviation grows with the height (1 px at most at 32 px)."""
    import cv2

    sigma = float(rng.uniform(0.2, 1.0)) * image.shape[0] / 32
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))


def brightness(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Contrast times 0.7 to 1.3 around the mean, brightness plus or minus 25 grey levels."""
    factor, shift = float(rng.uniform(0.7, 1.3)), float(rng.uniform(-25, 25))
    mean = float(image.mean())
    table = np.clip((np.arange(256) - mean) * factor + mean + shift, 0, 255).astype(np.uint8)
    return table[image]


def hue(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Turn the hue by up to 10 degrees, change saturation and value by up to 15%."""
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int32)
    turn = int(rng.integers(-5, 6))  # OpenCV counts hue in steps of two degrees
    saturation, value = (int(v) for v in rng.integers(-38, 39, 2))
    hsv[..., 0] = (hsv[..., 0] + turn) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * (256 + saturation) // 256, 0, 255)
    hsv[..., 2] = np.clip(hsv[..., 2] * (256 + value) // 256, 0, 255)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR))


def noise(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Add normal noise of up to 12 grey levels of deviation."""
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 12))
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def reverse(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Negative colours: dark text on light becomes light on dark."""
    return np.asarray(255 - image, np.uint8)


CHANGES: tuple[tuple[Change, float], ...] = (
    (perspective, 0.3),
    (stretch, 0.2),
    (crop, 0.4),
    (blur, 0.25),
    (brightness, 0.4),
    (hue, 0.3),
    (noise, 0.3),
    (reverse, 0.15),
)

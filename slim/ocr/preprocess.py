"""Image to tensor, as PaddleOCR's RecResizeImg, ClsResizeImg and DetResizeForTest do it.

Worked example: a 48 x 100 line for a recognizer of height 32 keeps its ratio, so its new width is
``ceil(32 * 100 / 48) = 67``; columns 67..319 of the 320 wide tensor are 0. A pixel of 255 becomes
``(255/255 - 0.5) / 0.5 = 1``, a pixel of 0 becomes -1.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from slim.errors import InputError
from slim.spec import InputSpec

DET_MULTIPLE = 32
DET_MAX_PIXELS = 64_000_000


def resized_width(height: int, width: int, target_height: int, limit: int) -> int:
    """Width in pixels of a ``height`` x ``width`` image at ``target_height``, at most ``limit``.

    The ratio is computed as PaddleOCR does (float64 ``w / h``, then ``ceil``), so that borderline
    images get the same width.

    >>> resized_width(48, 100, 32, 320), resized_width(10, 1000, 32, 320)
    (67, 320)
    """
    return max(1, min(limit, math.ceil(target_height * (width / float(height)))))


def to_tensor(
    image: npt.NDArray[np.uint8], spec: InputSpec, width: int | None = None
) -> npt.NDArray[np.float32]:
    """One image as the net reads it.

    Args:
        image: H x W x 3, uint8, BGR.
        spec: input facts of the model.
        width: width of the tensor in pixels; None takes ``spec.width``. Ignored for det (both sides
            dynamic), see `det_size`.

    Returns:
        float32, 3 x H x W, padded on the right with zeros after the normalisation.

    Raises:
        InputError: the image is not H x W x 3 uint8, or the width is below 1, or the page too large.
    """
    import cv2

    _require_image(image, spec)
    if spec.dynamic_height:
        height, used = det_size(image.shape[0], image.shape[1], spec.limit_side, spec.limit_type)
        total = used
    else:
        height, total = spec.height, spec.width if width is None else width
        if total < 1:
            raise InputError(f"tensor width is {total}, must be at least 1", remedy="use a multiple of 32")
        used = resized_width(image.shape[0], image.shape[1], height, total)
    small = cv2.resize(image, (used, height), interpolation=cv2.INTER_LINEAR)
    tensor = np.zeros((spec.channels, height, total), np.float32)
    tensor[:, :, :used] = normalised(small, spec)
    return tensor


def normalised(image: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
    """H x W x 3 pixels, BGR, as 3 x H x W values in the model's channel order."""
    if spec.order == "RGB":
        image = image[:, :, ::-1]
    pixels = image.astype(np.float32).transpose(2, 0, 1)
    return np.asarray((pixels * np.float32(spec.scale) - _column(spec.mean)) / _column(spec.std), np.float32)


def det_size(height: int, width: int, limit: int = 960, kind: str = "max") -> tuple[int, int]:
    """New height and width of a page, both rounded to multiples of 32.

    Args:
        limit: pixels: of the longest side, which is shrunk to it (``kind`` "max", as PaddleOCR's inference
            does), or of the shortest, which is enlarged to it ("min", as its evaluation does).
    Raises:
        InputError: over 64 megapixels would come out.

    >>> det_size(1080, 1920), det_size(20, 100), det_size(368, 500, 736, "min")
    ((544, 960), (32, 96), (736, 992))
    """
    ratio = min(1.0, limit / max(height, width)) if kind == "max" else max(1.0, limit / min(height, width))
    new_height, new_width = _multiple(height * ratio), _multiple(width * ratio)
    if new_height * new_width > DET_MAX_PIXELS:
        raise InputError(
            f"a page of {width} x {height} becomes {new_width} x {new_height}, limit {DET_MAX_PIXELS} pixels",
            remedy="use limit_type max",
        )
    return new_height, new_width


def _multiple(side: float) -> int:
    return max(DET_MULTIPLE, int(round(int(side) / DET_MULTIPLE) * DET_MULTIPLE))


def _column(values: tuple[float, ...]) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def _require_image(image: npt.NDArray[np.uint8], spec: InputSpec) -> None:
    if spec.channels != 3 or spec.order not in ("BGR", "RGB"):
        raise InputError(
            f"input of {spec.channels} channels in order {spec.order} is not supported",
            remedy="models read 3 channels, BGR or RGB",
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"image is {image.dtype} {image.shape}, must be uint8 H x W x 3 and not empty")

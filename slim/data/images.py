"""Image bytes to pixels, with limits: a label file may name anything."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slim.errors import InputError

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_PNG = b"\x89PNG\r\n\x1a\n"


class UnreadableImage(InputError):
    """An image that is missing, damaged, of an unknown format or too large."""


def read_bytes(path: Path, where: str) -> bytes:
    """The bytes of a regular file of at most 256 MiB; ``where`` names it in errors.

    Raises:
        UnreadableImage: missing, not a regular file (a pipe would block for ever), too large.
    """
    try:
        with open(path, "rb", opener=_nonblocking) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableImage(f"{path} is not a regular file", where=where)
            if found.st_size > MAX_FILE_BYTES:
                raise UnreadableImage(
                    f"{path} has {found.st_size} bytes, limit {MAX_FILE_BYTES}", where=where
                )
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableImage(
            f"cannot read image {path} ({reason})", where=where, remedy="check the path and the data folder"
        ) from error


def _nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def image_size(data: bytes, where: str) -> tuple[int, int]:
    """Height and width in pixels from the header alone, checked against the limit of 64 megapixels.

    Raises:
        UnreadableImage: no known image format, or too many pixels.
    """
    if data[:8] == _PNG and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
    else:
        width, height = _pillow_size(data, where)
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise UnreadableImage(f"image is {width} x {height} pixels, limit {MAX_PIXELS} in all", where=where)
    return height, width


def _pillow_size(data: bytes, where: str) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs are refused below, odd EXIF does not matter
            with Image.open(io.BytesIO(data), formats=FORMATS) as header:
                return header.size
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        SyntaxError,
        struct.error,
        EOFError,
        KeyError,
        IndexError,
    ) as error:  # what Pillow's readers raise on damaged headers
        raise UnreadableImage(
            f"not a readable image of {len(data)} bytes ({type(error).__name__})",
            where=where,
            remedy=f"use one of {', '.join(FORMATS)}",
        ) from error


def decode_image(data: bytes, where: str) -> npt.NDArray[np.uint8]:
    """Pixels of an encoded image: H x W x 3, uint8, BGR (as PaddleOCR's DecodeImage).

    Raises:
        UnreadableImage: unknown format, over 64 megapixels, or cut off before its end.
    """
    import cv2

    image_size(data, where)
    if _is_cut_off(data):
        raise UnreadableImage(
            f"image ends too early ({len(data)} bytes)", where=where, remedy="copy it again"
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UnreadableImage(f"OpenCV cannot decode the image ({error})", where=where) from error
    if image is None or image.size == 0:
        raise UnreadableImage(f"OpenCV cannot decode the image ({len(data)} bytes)", where=where)
    return np.asarray(image, np.uint8)


def encoded(image: npt.NDArray[np.uint8], ending: str) -> bytes:
    """Bytes of a picture file of the format that ``ending`` (".png", ".jpg", ...) names; BGR in."""
    import cv2

    return bytes(cv2.imencode(ending, image)[1])


def _is_cut_off(data: bytes) -> bool:
    """True for a PNG or JPEG without its end marker: OpenCV fills the rest grey and says nothing."""
    if data[:8] == _PNG:
        return b"IEND" not in data[-4096:]
    if data[:2] == b"\xff\xd8":
        return b"\xff\xd9" not in data[-65536:]
    return False

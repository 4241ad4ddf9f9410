"""Image bytes: limits are checked before anything is decoded."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from slim.data.images import UnreadableImage, decode_image, image_size, read_bytes

IMAGE = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)


def _encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, IMAGE)[1].tobytes()


def _bomb(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"IEND"


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_lossless_formats_come_back(suffix: str) -> None:
    data = _encoded(suffix)
    assert image_size(data, "x") == (20, 30)
    np.testing.assert_array_equal(decode_image(data, "x"), IMAGE)


def test_jpeg_comes_back() -> None:
    data = _encoded(".jpg")
    assert image_size(data, "x") == (20, 30)
    assert decode_image(data, "x").shape == (20, 30, 3)


def test_grey_image_gets_three_channels() -> None:
    data = cv2.imencode(".png", IMAGE[:, :, 0])[1].tobytes()
    assert decode_image(data, "x").shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (64_000_001, 1), (0, 5), (2**32 - 1, 2**32 - 1)]
)
def test_pixel_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(UnreadableImage, match=f"x.png: image is {width} x {height} pixels, limit 64000000"):
        decode_image(_bomb(width, height), "x.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_off_image_is_refused(suffix: str) -> None:
    data = _encoded(suffix)
    with pytest.raises(UnreadableImage, match="ends too early"):
        decode_image(data[: len(data) * 3 // 4], "x")


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\xff\xd8\xff", b"GIF89a", b"BM" + bytes(60), b"II*\0" + b"\xff" * 40]
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableImage, match="^x: "):
        decode_image(data, "x")


def test_png_with_damaged_pixels_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="OpenCV cannot decode"):
        decode_image(_bomb(20, 30), "x")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in [
        (pipe, "not a regular file"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
    ]:
        with pytest.raises(UnreadableImage, match=reason):
            read_bytes(path, "x")
    with pytest.raises(UnreadableImage, match="null"):
        read_bytes(Path("a\0b"), "x")


def test_symlinks_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"data")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    assert read_bytes(tmp_path / "link.png", "x") == b"data"

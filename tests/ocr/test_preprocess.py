"""Tensors beside a plain transcription of PaddleOCR's RecResizeImg."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from slim.errors import InputError
from slim.ocr.preprocess import det_size, to_tensor
from slim.spec import InputSpec

REC = InputSpec(32, 320, dynamic_width=True)


def _paddleocr_resize_norm(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """tools of PaddleOCR 2.x: resize_norm_img, line by line."""
    ratio = image.shape[1] / float(image.shape[0])
    used = width if math.ceil(height * ratio) > width else int(math.ceil(height * ratio))
    resized = cv2.resize(image, (used, height)).astype("float32").transpose((2, 0, 1)) / 255
    resized -= 0.5
    resized /= 0.5
    padded = np.zeros((3, height, width), dtype=np.float32)
    padded[:, :, 0:used] = resized
    return padded


@pytest.mark.parametrize("shape", [(32, 100), (48, 100), (20, 300), (64, 1000), (1, 1), (500, 2), (31, 310)])
@pytest.mark.parametrize("spec", [REC, InputSpec(48, 192)])
def test_equals_paddleocr(shape: tuple[int, int], spec: InputSpec) -> None:
    """Unit: normalised pixel, range -1..1. 5e-7 is four float32 roundings (x * (1/255) against x / 255)."""
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    ours = to_tensor(image, spec)
    theirs = _paddleocr_resize_norm(image, spec.height, spec.width)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-7)
    shifted = np.roll(ours, 1, axis=2)  # one pixel off must not pass
    assert np.abs(shifted - theirs).max() > 5e-7


def test_width_of_the_tensor_can_be_given() -> None:
    image = np.full((32, 50, 3), 255, np.uint8)
    tensor = to_tensor(image, REC, 64)
    assert tensor.shape == (3, 32, 64)
    assert (tensor[:, :, :50] == 1).all()
    assert (tensor[:, :, 50:] == 0).all()


def test_channel_order_mean_and_std() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 255  # blue
    spec = InputSpec(32, 32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125), order="RGB")
    np.testing.assert_allclose(to_tensor(image, spec)[:, 0, 0], [-0.2, -0.8, 5.6], atol=1e-6)


def test_det_keeps_both_sides_dynamic() -> None:
    spec = InputSpec(640, 640, dynamic_width=True, dynamic_height=True)
    assert to_tensor(np.zeros((70, 100, 3), np.uint8), spec).shape == (3, 64, 96)
    assert det_size(4000, 3000) == (960, 704)


def test_det_limits() -> None:
    """480 x 640 with its shortest side at 736: ratio 1.533, 736 x int(981.3), rounded to 31 * 32."""
    spec = InputSpec(640, 640, dynamic_width=True, dynamic_height=True, limit_side=736, limit_type="min")
    assert to_tensor(np.zeros((480, 640, 3), np.uint8), spec).shape == (3, 736, 992)
    assert det_size(1000, 800, 736, "min") == (992, 800)  # never shrunk
    assert det_size(480, 640, 320) == (256, 320)  # 240 is 7.5 multiples, rounded to the even one
    with pytest.raises(InputError, match="a page of 9000 x 10 becomes 662400 x 736, limit 64000000 pixels"):
        det_size(10, 9000, 736, "min")


@pytest.mark.parametrize(
    "image",
    [np.zeros((32, 32), np.uint8), np.zeros((0, 5, 3), np.uint8), np.zeros((32, 32, 3), np.float32)],
)
def test_what_is_no_image(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="must be uint8 H x W x 3"):
        to_tensor(image, REC)


def test_bad_width_and_channels() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="tensor width is 0"):
        to_tensor(image, REC, 0)
    with pytest.raises(InputError, match="input of 1 channels"):
        to_tensor(image, InputSpec(32, 320, channels=1))

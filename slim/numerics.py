"""Small numeric facts shared by every stage: hashes, distances between outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 20
# An LSTM matrix stays float where int8 would lose more than this part of its size (root mean square).
MATRIX_MAX_ERROR = 0.05


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def state_sha256(state: Mapping[str, npt.NDArray[np.generic]]) -> str:
    """Hex sha256 of named arrays: names, shapes, dtypes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def max_abs(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Largest absolute difference; NaN anywhere gives NaN, so a bound on it fails.

    >>> max_abs(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    0.5
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    return float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)))) if a.size else 0.0


def cosine(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Cosine of the angle between two arrays seen as vectors; 1.0 for two zero vectors.

    >>> cosine(np.array([1.0, 0.0]), np.array([0.0, 2.0]))
    0.0
    """
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    if norm == 0.0:
        return 1.0 if not x.any() and not y.any() else 0.0
    return float(x @ y / norm)


def quantize_matrix(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], np.float32]:
    """int8 values in [-127, 127] and their scale, so that values * scale is close to ``weight``.

    >>> quantize_matrix(np.array([[1.27, -0.64]], np.float32))[0].tolist()
    [[127, -64]]
    """
    largest = np.abs(weight).max(initial=0)
    scale = np.float32(largest / np.float32(127)) if largest > 0 else np.float32(1)
    ratio = weight.astype(np.float64) / scale
    rounded = np.trunc(ratio + np.copysign(0.5, ratio))
    return np.clip(rounded, -127, 127).astype(np.int8), scale


def matrix_error(weight: npt.NDArray[np.float32]) -> float:
    """What ``quantize_matrix`` loses: root mean square of the error over that of the weights.

    >>> round(matrix_error(np.array([[127.0, 0.5]], np.float32)), 4)
    0.0039
    """
    integers, scale = quantize_matrix(weight)
    size = float(np.sqrt(np.mean(np.square(weight, dtype=np.float64))))
    lost = float(np.sqrt(np.mean(np.square(integers * np.float64(scale) - weight))))
    return lost / size if size else 0.0

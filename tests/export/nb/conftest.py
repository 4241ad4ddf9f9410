"""The golden files: what opt wrote, and what the real ARM kernels computed from it."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "nb"


@dataclass(frozen=True)
class Golden:
    """A file and its runs: ``runs`` holds (inputs N x C x H x W, outputs N x M)."""

    name: str
    path: Path
    runs: list[tuple[np.ndarray, np.ndarray]]
    tol: float

    def worst(self, run: Callable[[np.ndarray], np.ndarray]) -> float:
        """The largest absolute difference of any output to the device's."""
        return max(float(np.abs(run(x).reshape(y.shape) - y).max()) for x, y in self.runs)


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Golden]:
    """Opens a golden by name; the file is unpacked once per session."""
    folder = tmp_path_factory.mktemp("golden")
    known: dict[str, Golden] = {}

    def open_one(name: str) -> Golden:
        if name not in known:
            path = folder / f"{name}.nb"
            path.write_bytes(lzma.decompress((FOLDER / f"{name}.nb.xz").read_bytes()))
            with np.load(FOLDER / f"{name}.npz") as arrays, np.load(FOLDER / "inputs.npz") as inputs:
                keys = [key for key in arrays if key.startswith("y_")]
                images = [inputs[key.removeprefix("y_")] for key in keys]
                runs = [(x, arrays[k].reshape(len(x), -1)) for x, k in zip(images, keys, strict=True)]
                known[name] = Golden(name, path, runs, float(arrays["tol"]))
        return known[name]

    return open_one

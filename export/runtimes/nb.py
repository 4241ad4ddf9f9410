"""The executor of ARM files: what a phone computes, here."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from export.nb import executor


class NbExecutor:
    """See `load`."""

    name = "nb"

    def __init__(self, path: Path) -> None:
        self._runtime = executor.load(path)
        self.last_seconds = 0.0

    def run(self, x: np.ndarray) -> np.ndarray:
        """Float32 N x C x H x W in, what the file's fetch holds."""
        start = time.perf_counter()
        out = self._runtime.run(np.ascontiguousarray(x, np.float32))
        self.last_seconds = time.perf_counter() - start
        return out

    def profile(self, x: np.ndarray) -> list[tuple[str, str, float]]:
        """Operator type, precision and seconds of each step of one run."""
        found = self._runtime.profile(np.ascontiguousarray(x, np.float32))
        return [(op.type, op.kernel.precision if op.kernel else "none", spent) for op, spent in found]

    def close(self) -> None:
        """Nothing to give back."""


def load(path: Path) -> NbExecutor:
    """An ARM nb file, float or int8; the errors are those of `export.nb.executor.load`."""
    return NbExecutor(Path(path))

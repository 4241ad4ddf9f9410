"""Small data sets written on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

Writer = Callable[..., Path]


@pytest.fixture
def write_set(tmp_path: Path) -> Writer:
    """``write_set(texts, widths)``: random images of height 32 and a label file; returns that file."""

    def write(texts: Sequence[str], widths: Sequence[int] | None = None, name: str = "labels.txt") -> Path:
        rng = np.random.default_rng(7)
        lines = []
        for number, text in enumerate(texts):
            width = 100 if widths is None else widths[number]
            image = rng.integers(0, 256, (32, width, 3), np.uint8)
            cv2.imwrite(str(tmp_path / f"{number}.png"), image)
            lines.append(f"{number}.png\t{text}\n")
        path = tmp_path / name
        path.write_text("".join(lines), encoding="utf-8")
        return path

    return write

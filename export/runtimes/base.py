"""The interface every runtime has, and the choice of one by a file's content."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from export.nb.reader import read_nb
from export.nb.targets import target_of


class Runtime(Protocol):
    """Something that maps float32 N x 3 x H x W to the model's inference output.

    Attributes:
        name: "paddle", "lite-x86" or "nb".
        last_seconds: time the last ``run`` spent in the engine, without the way there and back.
    """

    name: str
    last_seconds: float

    def run(self, x: np.ndarray) -> np.ndarray:
        """Float32 N x C x H x W in, float32 N x ... out, row by row."""

    def close(self) -> None:
        """Give back memory and child processes; later calls of ``run`` fail."""


def open_runtime(path: Path, *, threads: int = 1) -> Runtime:
    """The runtime that can truly execute ``path``, chosen by content, never by name.

    An nb with x86 kernels goes to the real Paddle-Lite, one with ARM kernels to the executor, a folder with
    .pdmodel and .pdiparams to Paddle's Predictor.

    Raises:
        InputError: no model there.
        NbFormatError: the file is damaged.
        UnsupportedModel: nothing here can run its kernels.
    """
    from export.runtimes import lite_x86, nb, paddle

    if path.is_dir() or not path.is_file():
        return paddle.load(path, threads=threads)
    if target_of(read_nb(path)) == "x86":
        return lite_x86.load(path, threads=threads)
    return nb.load(path)

"""Runs inside a child process, as a script: the real Paddle-Lite runtime behind a pipe.

A file that is damaged, or made for other kernels, can abort the process it is loaded in; here that is only
this one. Usage: ``python -I lite_worker.py MODEL.nb``. Protocol, little-endian, on stdin and the original
stdout: request: u32 rank, rank x u32 dims, float32 values; answer: f64 seconds of the run, then rank, dims
and values alike. The first answer, before any request, is rank 0: the model is loaded. End of input ends it.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
import time
from typing import Any, BinaryIO

import numpy as np

NOT_IMPORTABLE = 86
# The x86 kernels keep sizes of their first run: after another width a CRNN corrupts the heap, and a
# detector's output is off by 0.03 without a word. So every input shape gets a predictor of its own; this many
# are kept.
MAX_SHAPES = 8


def read_array(stream: BinaryIO) -> np.ndarray | None:
    """One array of the protocol; None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    (rank,) = struct.unpack("<I", head)
    shape = struct.unpack(f"<{rank}I", stream.read(4 * rank))
    values = np.empty(shape, np.float32)
    view = values.reshape(-1).view(np.uint8).data
    got = 0
    while got < len(view):
        n = stream.readinto(view[got:])  # type: ignore[attr-defined]
        if not n:
            return None
        got += n
    return values


def write_array(stream: BinaryIO, array: np.ndarray) -> None:
    """Write one array of the protocol; the caller flushes."""
    stream.write(struct.pack(f"<{1 + array.ndim}I", array.ndim, *array.shape))
    stream.write(np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint8).data)


def main(model: str) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the library prints must not mix with the answers
    try:
        from paddlelite import lite
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_IMPORTABLE
    config = lite.MobileConfig()
    config.set_model_from_file(model)
    spare = [lite.create_paddle_predictor(config)]
    by_shape: dict[tuple[int, ...], Any] = {}
    answers.write(struct.pack("<dI", 0.0, 0))
    answers.flush()
    while (x := read_array(sys.stdin.buffer)) is not None:
        if x.shape not in by_shape:
            if len(by_shape) == MAX_SHAPES:
                del by_shape[next(iter(by_shape))]
            by_shape[x.shape] = spare.pop() if spare else lite.create_paddle_predictor(config)
        predictor = by_shape[x.shape]
        holder = predictor.get_input(0)
        holder.resize(list(x.shape))
        start = time.perf_counter()
        holder.from_numpy(x)
        predictor.run()
        y = np.asarray(predictor.get_output(0).numpy())
        seconds = time.perf_counter() - start
        answers.write(struct.pack("<d", seconds))
        write_array(answers, y)
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

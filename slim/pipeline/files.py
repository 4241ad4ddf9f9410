"""Work on single .nb files: compaction, execution."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from slim.errors import InputError


def compact_file(source: Path, dest: Path, lstm_weights: str) -> dict[str, Any]:
    """Shrink a .nb file; the new file is executed beside the old one before it is kept."""
    from export.nb.compact import compact, verify_equal
    from export.nb.reader import read_nb
    from export.nb.writer import write_nb

    before = read_nb(source)
    after, report = compact(before, lstm_weights=lstm_weights)
    check = verify_equal(before, after, report)
    try:
        write_nb(after, dest)
    except OSError as error:
        raise InputError(f"cannot write ({error.strerror})", where=dest) from error
    return {
        "source": str(source),
        "out": str(dest),
        "before": source.stat().st_size,
        "after": dest.stat().st_size,
        **check,
    }


def run_file(nb: Path, source: Path, dest: Path) -> dict[str, Any]:
    """Execute an ARM .nb file on an array and save the output as float32 .npy.

    Raises:
        InputError: the array cannot be read, or is not float32 N x C x H x W.
    """
    from export.nb.executor import load

    try:
        x = np.load(source, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"is not a readable .npy array ({error})", where=source) from error
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim != 4:
        shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
        raise InputError(f"is {dtype} {shape}, must be float32 N x C x H x W", where=source)
    runtime = load(nb)
    start = time.perf_counter()
    y = runtime.run(x)
    seconds = time.perf_counter() - start
    aside = dest.with_name(f".{dest.name}.tmp-{os.getpid()}")
    try:
        with aside.open("wb") as stream:
            np.save(stream, y.astype(np.float32, copy=False))
        os.replace(aside, dest)
    except OSError as error:
        raise InputError(f"cannot write ({error.strerror})", where=dest) from error
    finally:
        aside.unlink(missing_ok=True)
    return {"nb": str(nb), "out": str(dest), "shape": list(y.shape), "ms_per_image": 1e3 * seconds / len(x)}

"""One file of ``slim bench`` in a process of its own: its memory is its own, and a crash ends only it."""

from __future__ import annotations

import math
import os
import signal
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slim.errors import InputError, SlimError, StageFailed

if TYPE_CHECKING:
    from export.runtimes.base import Runtime

PROFILED = 10
"""Passes a per-op time is the median of."""


def work(
    answers: Connection,
    path: str,
    shape: tuple[int, ...],
    threads: int,
    seed: int,
    per_op: bool,
    asked: bool = False,
) -> None:
    """Load a file, then answer ``("run", n)`` with the seconds of n runs, and ``("end", 0)`` with the facts.

    A SlimError is sent as what it says; the parent raises it again.

    Args:
        asked: the shape is the user's wish and no size of the model: that it cannot be run is no crash.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process
    os.dup2(2, 1)  # stdout is the command's result
    try:
        try:
            _serve(answers, Path(path), shape, threads, seed, per_op, asked)
        except SlimError as error:
            _send(answers, error)
        except MemoryError:
            megabytes = 4 * math.prod(shape) / 1e6
            what = f"no memory to run an input of {_times(shape)} ({megabytes:,.0f} MB)"
            _send(answers, InputError(what, where=path, remedy="give a smaller --shape"))
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 (of a native library: one line, as of its crash)
            _send(answers, StageFailed(f"cannot be run ({type(error).__name__}: {error})", where=path))
    except (EOFError, ConnectionError):
        return  # the parent is gone


def _send(answers: Connection, error: SlimError) -> None:
    answers.send((type(error), error.what, error.where, error.remedy))


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _serve(
    answers: Connection,
    path: Path,
    shape: tuple[int, ...],
    threads: int,
    seed: int,
    per_op: bool,
    asked: bool,
) -> None:
    from export.program import random_input
    from export.runtimes.base import open_runtime

    x = random_input(shape, seed)
    if not path.is_file():
        from paddle import inference  # noqa: F401 (the library's weight is not the model's)
    idle = memory_mb("VmRSS")
    runtime = open_runtime(path, threads=threads)
    _first(runtime, x, path, asked)
    answers.send(("ready", runtime.name))
    while True:
        wish, count = answers.recv()
        if wish == "end":
            break
        seconds = []
        for _ in range(count):
            runtime.run(x)
            seconds.append(runtime.last_seconds)
        answers.send(("ran", seconds))
    facts: dict[str, Any] = {"peak_mb": memory_mb("VmHWM", getattr(runtime, "pid", None))}
    # The x86 runtime is a process of its own: what it weighed before the model was loaded is not known here.
    facts["model_mb"] = facts["peak_mb"] - idle if getattr(runtime, "pid", None) is None else None
    facts["threads"] = getattr(runtime, "threads", threads)
    if per_op and hasattr(runtime, "profile"):
        facts["ops"] = by_op([runtime.profile(x) for _ in range(PROFILED)])
    facts |= _cost(path, shape)
    runtime.close()
    answers.send(("facts", facts))


def _first(runtime: Runtime, x: np.ndarray, path: Path, asked: bool) -> None:
    try:
        runtime.run(x)
    except SlimError as error:
        if not asked:
            raise
        raise InputError(
            f"cannot read an input of {_times(x.shape)} ({error.what})",
            where=error.where or path,
            remedy="give a --shape it was made for; a detector's sides are multiples of 32",
        ) from error


def memory_mb(name: str, pid: int | None = None) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (at most, since the program started) of a process, in MB of 1000 kB.

    The kernel's own count: ``ru_maxrss`` would start with the size of the process this one was forked from.
    """
    path = Path(f"/proc/{pid if pid is not None else 'self'}/status")
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6


def by_op(passes: list[list[tuple[str, str, float]]]) -> list[dict[str, Any]]:
    """Median milliseconds by operator type and precision over passes of (type, precision, seconds).

    >>> by_op([[("conv2d", "int8", 0.001), ("conv2d", "int8", 0.003), ("softmax", "float", 0.001)]])[0]
    {'type': 'conv2d', 'precision': 'int8', 'count': 2, 'ms': 4.0, 'share': 0.8}
    """
    sums: dict[tuple[str, str], list[float]] = {}
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for number, steps in enumerate(passes):
        for kind, precision, seconds in steps:
            spent = sums.setdefault((kind, precision), [0.0] * len(passes))
            spent[number] += seconds
            counts[kind, precision] += number == 0
    medians = {key: 1e3 * float(np.median(spent)) for key, spent in sums.items()}
    total = sum(medians.values()) or 1.0
    rows = [
        {"type": t, "precision": p, "count": counts[t, p], "ms": ms, "share": ms / total}
        for (t, p), ms in medians.items()
    ]
    return sorted(rows, key=lambda row: -row["ms"])


def _cost(path: Path, shape: tuple[int, ...]) -> dict[str, Any]:
    """Multiply-adds at this input and the share of them in int8; None where they cannot be counted."""
    from export import proto
    from export.nb.inspect import macs_by_op
    from export.nb.reader import read_nb
    from export.program_cost import program_macs

    if not path.is_file():
        return {"macs": program_macs(proto.inference_prefix(path), shape), "int8_share": 0.0}
    model = read_nb(path)
    macs, _, why = macs_by_op(model, np.zeros(shape, np.float32))
    if why is not None or not sum(macs):
        return {"macs": None, "int8_share": None}
    pairs = zip(model.ops, macs, strict=True)
    int8 = sum(work for op, work in pairs if op.kernel is not None and op.kernel.precision == "int8")
    return {"macs": sum(macs), "int8_share": int8 / sum(macs)}

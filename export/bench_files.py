"""``slim bench``: several model files side by side, each in its own process, taking turns."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from export import bench_worker, proto
from export.bench import EXECUTOR, NOT_A_PHONE, RUNS, WARM_UP, take_turns
from export.check_report import nominal_shape
from export.child import quiet_environment
from export.nb.reader import read_nb
from export.stage import INFERENCE, NB_FILES, program_bytes, read_spec
from slim.errors import InputError, SlimError, StageFailed
from slim.progress import Reporter, Silent

_LOAD_SECONDS = 120.0
_BURST_SECONDS = 600.0


@dataclass
class Worker:
    """One file and the process that runs it."""

    path: Path
    shape: tuple[int, ...]
    process: Any
    pipe: Connection
    runtime: str = ""

    def burst(self, count: int) -> list[float]:
        """Seconds of ``count`` runs in a row."""
        seconds: list[float] = self.answer(_BURST_SECONDS, ("run", count))
        return seconds

    def answer(self, limit: float, ask: tuple[str, int] | None = None) -> Any:
        """What the process says next, or to ``ask``.

        Raises:
            SlimError: what it raised. StageFailed: it died or did not answer in time.
        """
        try:
            if ask is not None:
                self.pipe.send(ask)
            if not self.pipe.poll(limit):
                raise StageFailed(f"did not answer within {limit:.0f} s", where=self.path)
            said = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            self.process.join(5)
            raise StageFailed(
                f"the process that ran it died (exit code {self.process.exitcode})", where=self.path
            ) from error
        if isinstance(said[0], type) and issubclass(said[0], SlimError):
            raise said[0](said[1], where=said[2] or self.path, remedy=said[3])
        return said[1]


def bench(
    paths: Sequence[Path],
    *,
    shape: tuple[int, ...] | None = None,
    threads: int = 1,
    warm_up: int = WARM_UP,
    runs: int = RUNS,
    per_op: bool = False,
    seed: int = 0,
    progress: Reporter | None = None,
) -> dict[str, Any]:
    """Time files in one run.

    Args:
        paths: .nb files, inference programs (folder, .pdmodel or prefix), folders of ``slim export-nb``.
        shape: of the input, 1 x C x H x W; None: that of the folder's spec.json, else what the file declares.
        threads: of each engine that has a choice: Paddle-Lite x86 always uses one, and of the executor the
            matrix products use them.
        per_op: also time each operator, where the runtime allows it (the executor of ARM files does).

    Returns:
        ``files`` (``file``, ``runtime``, ``shape``, ``bytes``, ``p50_ms``, ``p90_ms``, ``runs``, ``best_ms``,
        ``ratio`` of the medians to the first file's, ``peak_mb`` of the process, ``model_mb`` of it above
        the idle process, ``threads`` it ran on, ``macs``, ``int8_share``, ``ops``), ``warm_up``, ``notes``.
    Raises:
        InputError: no model, no shape known or one that a file cannot read, more threads than processors.
        UnsupportedModel: nothing here can run a file. StageFailed: an engine died.
    """
    _require_processors(threads)
    files = [file for path in paths for file in expand(path)]
    shapes = [input_shape(file) if shape is None else _fitting(shape, file) for file in files]
    asked = shape is not None
    with workers(files, shapes, threads=threads, seed=seed, per_op=per_op, asked=asked) as found:
        with (progress or Silent()).task("bench", runs * len(found)) as task:
            timed = take_turns([w.burst for w in found], warm_up=warm_up, runs=runs, advance=task.advance)
        rows = []
        for worker, latency in zip(found, timed, strict=True):
            facts = worker.answer(_BURST_SECONDS, ("end", 0))
            rows.append(_row(worker, latency.to_json(), latency.p50_ms / timed[0].p50_ms, facts))
    return {"files": rows, "warm_up": warm_up, "notes": _notes(rows, threads, per_op)}


def _require_processors(threads: int) -> None:
    """More threads than processors would be claimed, and not be there: BLAS libraries cut them in silence."""
    here = len(os.sched_getaffinity(0))
    if threads > here:
        what = f"--threads is {threads}, this process may use {here} processors"
        raise InputError(what, remedy=f"give --threads {here} or less")


def _row(worker: Worker, latency: dict[str, Any], ratio: float, facts: dict[str, Any]) -> dict[str, Any]:
    if worker.path.is_file():
        size = worker.path.stat().st_size
    else:
        size = program_bytes(proto.inference_prefix(worker.path))
    head = {"file": str(worker.path), "runtime": worker.runtime, "shape": list(worker.shape), "bytes": size}
    return {**head, **latency, "ratio": ratio, **facts}


def _notes(rows: Sequence[dict[str, Any]], threads: int, per_op: bool) -> list[str]:
    notes = [NOT_A_PHONE]
    if any(row["runtime"] == "nb" for row in rows):
        notes.append(EXECUTOR)
    if len({tuple(row["shape"]) for row in rows}) > 1:
        notes.append("the files read inputs of different sizes: their times are not of the same work")
    fewer = [row["file"] for row in rows if row["threads"] < threads]
    if fewer:
        notes.append(f"{', '.join(fewer)}: on one thread, Paddle-Lite x86 has no choice of more")
    silent = [row["file"] for row in rows if "ops" not in row]
    if per_op and silent:
        notes.append(f"no time by operator: the runtime of {', '.join(silent)} does not tell")
    return notes


def expand(path: Path) -> list[Path]:
    """The models of a folder that slim export-nb wrote, or ``path`` itself."""
    if path.suffix == ".nb" and not path.exists():
        raise InputError("no such file", where=path, remedy="give .nb files, or folders of slim export-nb")
    if path.suffix == proto.MODEL:
        return [proto.inference_prefix(path)]
    if not path.is_dir():
        return [path]
    found = [path / name for name in NB_FILES.values() if (path / name).is_file()]
    program = path / INFERENCE
    return ([program] if program.is_dir() and found else []) + found or [path]


def input_shape(path: Path) -> tuple[int, ...]:
    """1 x C x H x W that the file states; sizes it leaves open from the spec.json beside it, if that fits.

    Raises:
        InputError: neither says it. ArtifactError: the spec.json that is needed is damaged.
    """
    declared = _declared(path)[1:]
    if len(declared) == 3 and min(declared) >= 1:
        return (1, *declared)
    folder = path if path.is_dir() else path.parent
    above = [folder.parent] if folder.name == INFERENCE else []
    for place in (folder, *above):
        spec = read_spec(place)
        if spec is not None:
            found = nominal_shape(spec)
            if len(declared) == 3 and all(a in (b, -1) for a, b in zip(declared, found[1:], strict=True)):
                return found
    raise InputError(
        f"reads {(1, *declared)}, of no fixed size, and no spec.json beside it fits",
        where=path,
        remedy="give --shape 1,3,32,320",
    )


def _fitting(shape: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """The shape; refuse one that no engine can read. Other sizes than the declared one may run."""
    declared = _declared(path)
    if len(declared) == 4 and 0 < declared[1] != shape[1]:
        raise InputError(
            f"reads {declared[1]} channels, --shape has {shape[1]}",
            where=path,
            remedy=f"give --shape 1,{declared[1]},H,W",
        )
    return shape


def _declared(path: Path) -> tuple[int, ...]:
    if path.is_file():
        model = read_nb(path)
        feeds = {n for op in model.ops if op.type == "feed" for names in op.outputs.values() for n in names}
        found = [v.dims for block in model.program.blocks for v in block.vars if v.name in feeds and v.dims]
        return tuple(found[0]) if found else ()
    program = proto.read_program(proto.model_path(proto.inference_prefix(path)))
    return proto.dims(proto.var(program, proto.feed_name(program)))


def _end(found: Sequence[Worker]) -> None:
    """By their own will within a second, else killed; never by SIGTERM, whose handler in Paddle may hang."""
    for worker in found:
        worker.pipe.close()  # which ends it, once it has finished what it was asked
    end = time.monotonic() + 1.0
    try:
        for worker in found:
            worker.process.join(max(0.0, end - time.monotonic()))
    finally:  # a second Ctrl-C too
        for worker in found:
            worker.process.kill()
            worker.process.join()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back a Ctrl-C: processes started here never see one, not even before their first own line."""
    resource_tracker.ensure_running()  # its start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def workers(
    files: Sequence[Path],
    shapes: Sequence[tuple[int, ...]],
    *,
    threads: int,
    seed: int,
    per_op: bool,
    asked: bool,
) -> Iterator[list[Worker]]:
    """Processes that have loaded their file; ended when the block ends, however it ends."""
    context = multiprocessing.get_context("spawn")
    found: list[Worker] = []
    before = dict(os.environ)
    try:
        os.environ.update(quiet_environment(threads))  # native libraries read it when they are loaded
        with _uninterrupted():
            for path, shape in zip(files, shapes, strict=True):
                here, there = context.Pipe()
                told = (there, str(path), shape, threads, seed, per_op, asked)
                process = context.Process(target=bench_worker.work, args=told, daemon=True)
                process.start()
                there.close()
                found.append(Worker(path, shape, process, here))
        for worker in found:
            worker.runtime = worker.answer(_LOAD_SECONDS)
        yield found
    finally:
        os.environ.clear()
        os.environ.update(before)
        _end(found)

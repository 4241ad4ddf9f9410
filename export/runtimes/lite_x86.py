"""The real Paddle-Lite x86 runtime of the ``paddlelite`` wheel, in a worker process of its own.

The wheel aborts the process on a file it dislikes, and "runs" files with ARM kernels to garbage with return
code 0: so the kernels' target is read from the file first, and a crash of the worker is an error here, not an
end.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO

import numpy as np

from export import child
from export.nb.model import NbModel
from export.nb.reader import read_nb
from export.nb.targets import target_of
from export.runtimes.lite_worker import NOT_IMPORTABLE
from slim.errors import InputError, StageFailed, ToolMissing, UnsupportedModel

SCRIPT = Path(__file__).with_name("lite_worker.py")
_LOAD_SECONDS = 60.0
_RUN_SECONDS = 300.0
_MAX_RANK = 9
_MAX_VALUES = 1 << 30
_MAX_SHOWN = 300


class LiteX86Runtime:
    """See `load`."""

    name = "lite-x86"
    threads = 1
    """What the engine computes with: the wheel has no switch for more, and reads no variable."""

    def __init__(self, path: Path, model: NbModel, *, threads: int) -> None:
        self._path = path
        self._input = _declared_input(model)
        self._one_by_one = self._input[:1] == (1,) or _fixed_state(model)
        self.last_seconds = 0.0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-I", str(SCRIPT), str(path.resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=child.quiet_environment(threads),
                start_new_session=True,
            )
        except OSError as error:
            raise StageFailed(f"cannot start the runtime ({error.strerror})", where=path) from error
        self._finalizer = weakref.finalize(self, _end, self._child, self._log)
        self._answer(_LOAD_SECONDS)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Float32 N x C x H x W in, the file's one output. A file made for one image gets them one by one.

        Raises:
            InputError: the shape is not the file's: the library would return garbage without a word.
            StageFailed: the runtime died or did not answer; the line holds what it said.
        """
        x = np.ascontiguousarray(x, np.float32)
        self._require_shape(x.shape)
        if not self._one_by_one or len(x) == 1:
            return self._once(x)
        parts, seconds = [], 0.0
        for image in x:
            parts.append(self._once(image[None]))
            seconds += self.last_seconds
        self.last_seconds = seconds
        return np.concatenate(parts)

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        wanted = self._input
        fits = len(shape) == len(wanted) and all(
            want <= 0 or have == want for have, want in zip(shape[1:], wanted[1:], strict=True)
        )
        batch = not wanted or wanted[0] <= 0 or self._one_by_one or shape[:1] == wanted[:1]
        if 0 in shape or (wanted and not (fits and batch)):
            raise InputError(f"input has shape {shape}, the file reads {wanted}", where=self._path)

    def _once(self, x: np.ndarray) -> np.ndarray:
        if not self._finalizer.alive:
            raise StageFailed("the runtime was closed", where=self._path)
        stdin = self._child.stdin
        assert stdin is not None
        try:
            stdin.write(struct.pack(f"<{1 + x.ndim}I", x.ndim, *x.shape))
            stdin.write(x.reshape(-1).view(np.uint8).data)
            stdin.flush()
        except BrokenPipeError as error:
            died = self._died(f"input {x.shape}")
            self.close()
            raise died from error
        return self._answer(_RUN_SECONDS, f"input {x.shape}")

    def _answer(self, limit: float, doing: str = "load") -> np.ndarray:
        deadline = time.monotonic() + limit
        try:
            self.last_seconds, rank = struct.unpack("<dI", self._read(12, deadline, doing))
            if rank > _MAX_RANK:
                raise self._died(f"{doing}: answer of rank {rank}")
            shape = struct.unpack(f"<{rank}I", self._read(4 * rank, deadline, doing))
            count = int(np.prod(shape, dtype=np.int64)) if rank else 0
            if count > _MAX_VALUES:
                raise self._died(f"{doing}: answer of shape {shape}")
            return np.frombuffer(self._read(4 * count, deadline, doing), np.float32).reshape(shape or (0,))
        except BaseException:
            self.close()  # the stream is no longer in step
            raise

    def _read(self, size: int, deadline: float, doing: str) -> bytearray:
        stdout = self._child.stdout
        assert stdout is not None
        data, got = bytearray(size), 0
        while got < size:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise StageFailed(f"the runtime did not answer in time ({doing})", where=self._path)
            part = os.readv(stdout.fileno(), [memoryview(data)[got:]])
            if part == 0:
                raise self._died(doing)
            got += part
        return data

    def _died(self, doing: str) -> StageFailed | ToolMissing:
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill_group(self._child)
            code = self._child.wait()
        self._log.seek(0)
        said = " ".join(self._log.read()[-4 * _MAX_SHOWN :].decode("utf-8", "replace").split())[-_MAX_SHOWN:]
        if code == NOT_IMPORTABLE:
            return ToolMissing(
                f"paddlelite cannot be loaded ({said})", remedy="pip install paddlelite==2.13rc0"
            )
        ended = child.Ended(code, "", said, timed_out=False)
        return StageFailed(
            f"the Paddle-Lite runtime died at {doing} ({ended.died_of}): {said or 'it said nothing'}",
            where=self._path,
        )

    @property
    def pid(self) -> int:
        """Number of the process the engine runs in: its memory is not this process's."""
        return self._child.pid

    def close(self) -> None:
        """End the worker."""
        self._finalizer()


def load(path: Path, *, threads: int = 1) -> LiteX86Runtime:
    """Start a worker with an x86 file.

    Args:
        threads: of numpy in the worker; the engine itself always uses one.
    Raises:
        InputError, NbFormatError: the file cannot be read.
        UnsupportedModel: its kernels are for another processor, or int8, which the wheel computes wrongly.
        StageFailed: the runtime died while loading.
        ToolMissing: paddlelite is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", where=path, remedy="give an .nb file")
    model = read_nb(path)
    target = target_of(model)
    if target not in ("x86", "host"):
        raise UnsupportedModel(
            f"its kernels are for {target}: the x86 runtime would return garbage", where=path,
            remedy="run it with the executor (slim run-nb), or export with target x86",
        )  # fmt: skip
    int8 = [op.type for op in model.ops if op.kernel is not None and op.kernel.precision == "int8"]
    if int8:
        raise UnsupportedModel(
            f"has {len(int8)} int8 kernels ({', '.join(sorted(set(int8)))}): Paddle-Lite's are wrong on x86",
            where=path,
            remedy="judge the int8 model by its ARM file",
        )
    return LiteX86Runtime(path, model, threads=threads)


def _declared_input(model: NbModel) -> tuple[int, ...]:
    """Shape the file says it reads, -1 where dynamic; () where it does not say."""
    feeds = {name for op in model.ops if op.type == "feed" for names in op.outputs.values() for name in names}
    found = [v.dims for b in model.program.blocks for v in b.vars if v.name in feeds and v.dims]
    return found[0] if found else ()


def _fixed_state(model: NbModel) -> bool:
    """Whether an LSTM's initial state has a constant batch: another batch corrupts the runtime's heap."""
    makers = {name: op for op in model.ops for names in op.outputs.values() for name in names}
    states = [name for op in model.ops if op.type == "rnn" for name in op.inputs.get("PreState", ())]
    return any(name not in makers or not makers[name].inputs.get("ShapeTensorList") for name in states)


def _end(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # the worker is gone already; there is nobody to tell
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        child.kill_group(process)
        process.wait()
    log.close()

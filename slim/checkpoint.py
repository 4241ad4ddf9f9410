"""Reading and writing .pdparams / .pdopt / .states without trusting them.

They are pickles of numpy arrays. A pickle can run code, and can ask for memory its own size does not
justify; here only the globals such files need exist, and every array is bounded by the file's size.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from slim.errors import CheckpointError

State = dict[str, npt.NDArray[Any]]

_PADDLE_EXTRA = "StructuredToParameterName@@"
_MAX_BYTES = 1 << 31
_MAX_ENTRIES = 200_000
_FORBIDDEN_OPS = frozenset(
    {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX", "NEXT_BUFFER"}
)


def read_pdparams(path: Path) -> State:
    """Named arrays of a .pdparams file.

    Raises:
        CheckpointError: the file is missing, truncated, larger than 2 GiB, or holds anything but
            plain arrays by name.
    """
    data = read_pickle(path)
    if not isinstance(data, dict):
        raise CheckpointError(f"holds a {type(data).__name__}, not named tensors", where=path)
    state: State = {}
    for name, value in data.items():
        if name == _PADDLE_EXTRA:
            continue
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise CheckpointError(f"entry {name!r} is a {type(value).__name__}, not a tensor", where=path)
        state[name] = value
    if not state:
        raise CheckpointError("holds no tensors", where=path)
    return state


def read_pickle(path: Path) -> Any:
    """Any plain data and arrays of a Paddle pickle, by the restricted unpickler."""
    data = _read_bytes(path)
    _scan(data, path)
    unpickler = _Unpickler(data, path)
    try:
        return _plain(unpickler.load())
    except CheckpointError:
        raise
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
        MemoryError, OverflowError, UnicodeError,
    ) as error:  # fmt: skip
        raise _damaged(path, str(error)) from error


def write_pickle(data: Any, path: Path) -> None:
    """Pickle ``data`` (protocol 2, which every Paddle version reads) aside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with aside.open("wb") as stream:
            pickle.dump(data, stream, protocol=2)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_pdparams(state: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    """Write named arrays as PaddleOCR reads them (``paddle.load``)."""
    write_pickle({name: np.ascontiguousarray(value) for name, value in state.items()}, path)


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size == 0:
            raise CheckpointError("is empty", where=path)
        if size > _MAX_BYTES:
            raise CheckpointError(f"has {size} bytes, the limit is {_MAX_BYTES}", where=path)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError("no such file", where=path) from error
    except (IsADirectoryError, PermissionError) as error:
        raise CheckpointError(error.strerror or str(error), where=path) from error


def _scan(data: bytes, path: Path) -> None:
    """Walk the opcodes without running them: all there, all harmless, memo no larger than the file."""
    try:
        for op, arg, _ in pickletools.genops(data):
            if op.name in _FORBIDDEN_OPS:
                raise CheckpointError(
                    f"uses the pickle opcode {op.name}, which a checkpoint never needs", where=path
                )
            if op.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(arg or 0) > len(data):
                raise _damaged(path, f"memo index {arg} is larger than the file")
    except (ValueError, IndexError, UnicodeError, OverflowError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, detail: str) -> CheckpointError:
    return CheckpointError(
        f"is truncated, damaged or not a Paddle checkpoint ({detail[:120]})",
        where=path,
        remedy="download or train it again",
    )


class _Array(np.ndarray):
    """An array being unpickled; its bytes are charged to the file's budget."""

    budget: list[int]

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, raw = state
        size = (
            int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize if shape else dtype.itemsize
        )
        if not isinstance(raw, bytes) or size != len(raw):
            raise ValueError(f"array of shape {shape} needs {size} bytes")
        self.budget[0] -= size
        if self.budget[0] < 0:
            raise ValueError("its arrays are larger than the file")
        super().__setstate__((version, shape, dtype, fortran, raw))


class _Unpickler(pickle.Unpickler):
    """Knows only what .pdparams, .pdopt and .states hold."""

    def __init__(self, data: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._path = path
        self._budget = [2 * len(data) + 4096]
        self._known = {
            ("multiarray", "_reconstruct"): self._reconstruct,
            ("multiarray", "scalar"): self._scalar,
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): self._dtype,
            ("_codecs", "encode"): _encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        short = module
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            short = "multiarray"
        if (short, name) not in self._known:
            raise CheckpointError(
                f"wants to import {module}.{name}, which a checkpoint never needs: not opened",
                where=self._path,
                remedy="do not trust this file",
            )
        return self._known[(short, name)]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise CheckpointError("refers to data outside the file", where=self._path)

    def _reconstruct(self, kind: Any, shape: Any, code: Any) -> Any:
        if kind is not _Array or tuple(shape) != (0,):
            raise ValueError("array header is not one numpy writes")
        array = _Array((0,), np.int8)
        array.budget = self._budget
        return array

    def _dtype(self, code: Any, align: Any = False, copy: Any = False) -> np.dtype[Any]:
        dtype = np.dtype(str(code))
        if dtype.kind not in "fiub" or dtype.itemsize > 8:
            raise ValueError(f"dtype {code!r} is not plain numbers")
        return dtype

    def _scalar(self, dtype: Any, raw: Any = b"") -> Any:
        if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes) or len(raw) != dtype.itemsize:
            raise ValueError("scalar is damaged")
        return np.frombuffer(raw, dtype)[0]


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise ValueError("bytes are coded in a way numpy never writes")
    return text.encode("latin1")


def _plain(value: Any, depth: int = 0, seen: list[int] | None = None) -> Any:
    """Turn the working arrays into ordinary ones; shared references may not multiply without end."""
    seen = [0] if seen is None else seen
    seen[0] += 1
    if depth > 20 or seen[0] > _MAX_ENTRIES:
        raise ValueError(f"is nested more than 20 levels deep or holds over {_MAX_ENTRIES} entries")
    if isinstance(value, _Array):
        return np.array(value, subok=False)
    if isinstance(value, dict):
        return {_plain(k, depth + 1, seen): _plain(v, depth + 1, seen) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v, depth + 1, seen) for v in value)
    if value is None or isinstance(value, (str, bytes, bool, int, float, np.generic)):
        return value
    raise ValueError(f"holds a {type(value).__name__}")

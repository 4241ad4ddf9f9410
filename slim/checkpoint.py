"""Reading and writing .pdparams / .pdopt / .states without trusting them.

They are pickles of numpy arrays. A pickle can run code, and can ask for memory its own size does not
justify; here only the globals such files need exist, and every array is bounded by the file's size.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from slim.errors import CheckpointError, InputError

State = dict[str, npt.NDArray[Any]]

_PADDLE_EXTRA = "StructuredToParameterName@@"
_MAX_BYTES = 1 << 31
_MAX_ENTRIES = 200_000
_MAX_OPS = 4_000_000
_FORBIDDEN_OPS = frozenset(
    {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER"}
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


def read_pickle(path: Path, records: frozenset[tuple[str, str]] = frozenset()) -> Any:
    """Any plain data and arrays of a Paddle pickle, by the restricted unpickler.

    Args:
        records: (module, name) of classes that may occur; no such class is imported, an object of one is
            given back as the dict of its attributes.
    """
    data = _read_bytes(path)
    _scan(data, path, _FORBIDDEN_OPS - {"NEWOBJ"} if records else _FORBIDDEN_OPS)
    unpickler = _Unpickler(data, path, records)
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
    """Pickle ``data`` (protocol 2, which every Paddle version reads) aside, then rename.

    Raises:
        InputError: the folder cannot be written.
    """
    aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as stream:
                pickle.dump(data, stream, protocol=2)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write ({error.strerror or error})", where=path, remedy="choose another --out"
        ) from error


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
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        detail = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"cannot be read ({detail})", where=path) from error


def _scan(data: bytes, path: Path, forbidden: frozenset[str]) -> None:
    """Walk the opcodes without running them: all there, all harmless, memo no larger than the file."""
    if data[:1] != b"\x80":  # every protocol that Paddle writes begins so; text can look like opcodes
        raise _damaged(path, "it does not begin as a pickle does")
    try:
        for count, (op, arg, _) in enumerate(pickletools.genops(data)):
            if count > _MAX_OPS:
                raise _damaged(path, f"holds over {_MAX_OPS} pickle opcodes")
            if op.name in forbidden:
                raise CheckpointError(
                    f"uses the pickle opcode {op.name}, which a checkpoint never needs",
                    where=path,
                    remedy="give a .pdparams file from a source you trust",
                )
            if op.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(arg or 0) > len(data):
                raise _damaged(path, f"memo index {arg} is larger than the file")
    except (ValueError, IndexError, UnicodeError, OverflowError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, detail: str) -> CheckpointError:
    return CheckpointError(
        f"is truncated, damaged or not a Paddle checkpoint ({detail[:120]})",
        where=path,
        remedy="get it again: download it, or make it anew",
    )


class _Budget:
    """Bytes a file may ask for, in proportion to its size: a shared text may not become many arrays."""

    def __init__(self, size: int) -> None:
        self.left = 2 * size + 4096

    def charge(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError("its contents are larger than the file")


class _Ndarray:
    """Stands for the class numpy.ndarray: a mark for ``_reconstruct``, nothing that can be called."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> NoReturn:
        raise ValueError("the array class has no state")


class _Function:
    """A function the file may call; unlike a plain one, its attributes cannot be set by the file."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> NoReturn:
        raise ValueError("a function has no state")


class _Dtype:
    """A dtype being unpickled: plain little-endian numbers of at most 8 bytes."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        self.real = np.dtype(str(code))
        if self.real.kind not in "fiub" or self.real.itemsize > 8:
            raise ValueError(f"dtype {code!r} is not plain numbers")

    def __setstate__(self, state: Any) -> None:
        _version, order, *fields = state
        if order not in ("<", "|", "=") or any(value not in (None, -1, 0) for value in fields):
            raise ValueError(f"dtype state {state!r} is not that of little-endian numbers")


class _Array:
    """An array being unpickled; its bytes are charged to the file's budget."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self.real: npt.NDArray[Any] = np.zeros(0, np.int8)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        shape = tuple(int(n) for n in shape)
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or any(n < 0 for n in shape):
            raise ValueError("array state is not one numpy writes")
        if math.prod(shape) * dtype.real.itemsize != len(raw):
            raise ValueError(f"array of shape {shape} and dtype {dtype.real} has {len(raw)} bytes")
        self._budget.charge(len(raw))
        flat = np.frombuffer(raw, dtype.real)
        self.real = flat.reshape(shape, order="F" if fortran else "C").copy()


class _Record:
    """Stands for a class that is never imported: keeps the attributes of an object, and nothing else."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError("an object's state is no dict")
        self.fields = state


class _Unpickler(pickle.Unpickler):
    """Knows only what .pdparams, .pdopt and .states hold, and the records a caller names."""

    def __init__(self, data: bytes, path: Path, records: frozenset[tuple[str, str]] = frozenset()) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._path = path
        self._arrays, self._texts = _Budget(len(data)), _Budget(len(data))
        self._known: dict[tuple[str, str], Any] = {
            ("multiarray", "_reconstruct"): _Function(self._reconstruct),
            ("multiarray", "scalar"): _Function(self._scalar),
            ("numpy", "ndarray"): _Ndarray(),
            ("numpy", "dtype"): _Function(_Dtype),
            ("_codecs", "encode"): _Function(self._encode),
            # Protocol 2 writes the bytes of an empty array as bytes().
            ("__builtin__", "bytes"): _Function(_no_bytes),
            **dict.fromkeys(records, _Record),
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

    def _reconstruct(self, kind: Any, shape: Any, code: Any) -> _Array:
        if not isinstance(kind, _Ndarray) or tuple(shape) != (0,):
            raise ValueError("array header is not one numpy writes")
        return _Array(self._arrays)

    def _scalar(self, dtype: Any, raw: Any = b"") -> Any:
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or len(raw) != dtype.real.itemsize:
            raise ValueError("scalar is damaged")
        return np.frombuffer(raw, dtype.real)[0]

    def _encode(self, text: Any, codec: Any = "latin1") -> bytes:
        if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
            raise ValueError("bytes are coded in a way numpy never writes")
        self._texts.charge(len(text))
        return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _plain(value: Any, depth: int = 0, seen: list[int] | None = None) -> Any:
    """Turn the working arrays into ordinary ones; shared references may not multiply without end."""
    seen = [0] if seen is None else seen
    seen[0] += 1
    if depth > 20 or seen[0] > _MAX_ENTRIES:
        raise ValueError(f"is nested more than 20 levels deep or holds over {_MAX_ENTRIES} entries")
    if isinstance(value, _Array):
        return value.real
    if isinstance(value, _Record):
        return _plain(getattr(value, "fields", {}), depth + 1, seen)
    if isinstance(value, dict):
        return {_plain(k, depth + 1, seen): _plain(v, depth + 1, seen) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v, depth + 1, seen) for v in value)
    if value is None or isinstance(value, (str, bytes, bool, int, float, np.generic)):
        return value
    raise ValueError(f"holds a {type(value).__name__}")

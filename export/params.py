"""The combined parameter file (`.pdiparams`): read with every length checked, written by the same rules.

Format (``paddle/fluid/framework/lod_tensor.cc`` SerializeToStream, ``tensor_util.cc`` TensorToStream),
little-endian, per tensor: u32 version 0, u64 number of LoD levels (0), u32 version 0, i32 size of a
TensorDesc message, the message (data type, dims), then the values. Tensors are in the order of their names.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slim.errors import InputError, StageFailed

_HEAD = struct.Struct("<IQIi")
_MAX_DESC = 1 << 10
_MAX_RANK = 9
_MAX_BYTES = 2 << 30
# VarType.Type of framework.proto.
_DTYPES = {
    0: np.dtype("?"), 1: np.dtype("<i2"), 2: np.dtype("<i4"), 3: np.dtype("<i8"), 4: np.dtype("<f2"),
    5: np.dtype("<f4"), 6: np.dtype("<f8"), 20: np.dtype("u1"), 21: np.dtype("i1"),
}  # fmt: skip


def read_params(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a combined parameter file.

    Args:
        names: of the program's parameters, in the order of the file (sorted).
    Raises:
        InputError: the file is missing, truncated, longer than its tensors, or holds another number of them.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"is larger than {_MAX_BYTES} bytes", where=path)
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read ({error.strerror})", where=path) from error
    at, found = 0, {}
    for number, name in enumerate(names):
        if at == len(data):
            raise InputError(
                f"holds {number} tensors, the program needs {len(names)} (next is {name!r})", where=path,
                remedy="take .pdmodel and .pdiparams from the same export",
            )  # fmt: skip
        found[name], at = _tensor(data, at, name, path)
    if at != len(data):
        raise InputError(
            f"holds {len(data) - at} bytes more than the program's {len(names)} parameters", where=path,
            remedy="take .pdmodel and .pdiparams from the same export",
        )  # fmt: skip
    return found


def _tensor(data: bytes, at: int, name: str, path: Path) -> tuple[np.ndarray, int]:
    from google.protobuf.message import DecodeError
    from paddle.base.proto import framework_pb2

    if at + _HEAD.size > len(data):
        raise _damaged(path, name, f"its header needs {_HEAD.size} bytes, {len(data) - at} are left")
    version, levels, tensor_version, size = _HEAD.unpack_from(data, at)
    if (version, levels, tensor_version) != (0, 0, 0) or not 0 < size <= _MAX_DESC:
        raise _damaged(path, name, "its header is not that of a tensor")
    at += _HEAD.size
    desc = framework_pb2.VarType.TensorDesc()
    try:
        desc.ParseFromString(data[at : at + size])
    except DecodeError as error:
        raise _damaged(path, name, "its description is not readable") from error
    at += size
    dtype, shape = _DTYPES.get(desc.data_type), tuple(desc.dims)
    if dtype is None or len(shape) > _MAX_RANK or any(not 0 <= d < 1 << 31 for d in shape):
        raise _damaged(path, name, f"data type {desc.data_type}, shape {shape}")
    count = 1
    for d in shape:
        count *= d
    if at + count * dtype.itemsize > len(data):
        raise _damaged(path, name, f"shape {shape} needs more than the {len(data) - at} bytes left")
    array = np.frombuffer(data, dtype, count, at).reshape(shape)
    return array, at + count * dtype.itemsize


def _damaged(path: Path, name: str, what: str) -> InputError:
    return InputError(
        f"is truncated or damaged at {name!r}: {what}", where=path, remedy="export the model again"
    )


def write_params(params: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays in the order of their names, aside first."""
    aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        aside.write_bytes(b"".join(_encoded(params[name]) for name in sorted(params)))
        os.replace(aside, path)
    except OSError as error:
        raise StageFailed(f"cannot write ({error.strerror})", where=path) from error
    finally:
        aside.unlink(missing_ok=True)


def _encoded(array: np.ndarray) -> bytes:
    from paddle.base.proto import framework_pb2

    number: Any = next(k for k, dtype in _DTYPES.items() if dtype == array.dtype)
    desc = framework_pb2.VarType.TensorDesc(data_type=number, dims=array.shape).SerializeToString()
    return _HEAD.pack(0, 0, 0, len(desc)) + desc + np.ascontiguousarray(array).tobytes()

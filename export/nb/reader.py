"""Reads a Paddle-Lite ``.nb`` file (meta version 2, and 1) without trusting a byte of it.

Layout as written by ``lite/model_parser/model_parser.cc`` (SaveModelFbs / LoadModelFbsFromFile) and
``lite/model_parser/flatbuffers/io.cc`` (ParamSerializer). All numbers are little-endian, sections follow each
other without padding; see docs/NB_FORMAT.md.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import number_types as n

from export.nb.flat import FlatBuffer, Table
from export.nb.model import DTYPES, Attr, AttrType, AttrValue, Block, NbModel, Op, Program, Var, VarKind
from slim.errors import InputError, NbFormatError

HEADER = struct.Struct("<H16sQ")
MAX_FILE_BYTES = 1 << 30
MAX_RANK = 16

_SCALARS: dict[AttrType, tuple[int, Any, type]] = {
    AttrType.INT: (2, n.Int32Flags, int),
    AttrType.FLOAT: (3, n.Float32Flags, float),
    AttrType.BOOLEAN: (8, n.BoolFlags, bool),
    AttrType.BLOCK: (10, n.Int32Flags, int),
    AttrType.LONG: (11, n.Int64Flags, int),
    AttrType.FLOAT64: (14, n.Float64Flags, float),
}
_LISTS: dict[AttrType, tuple[int, Any]] = {
    AttrType.INTS: (5, n.Int32Flags),
    AttrType.FLOATS: (6, n.Float32Flags),
    AttrType.BOOLEANS: (9, n.BoolFlags),
    AttrType.BLOCKS: (12, n.Int32Flags),
    AttrType.LONGS: (13, n.Int64Flags),
    AttrType.FLOAT64S: (15, n.Float64Flags),
}


def read_nb(path: str | Path) -> NbModel:
    """Read a file.

    Args:
        path: a file of meta version 2 or 1, at most 1 GiB.

    Raises:
        InputError: there is no such file.
        NbFormatError: the file is truncated, damaged, of another version or no nb file.
    """
    path = Path(path)
    if not path.is_file():
        fact = "is a folder" if path.is_dir() else "no such file"
        raise InputError(fact, where=path, remedy="give the path of a .nb file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise NbFormatError(f"{size} bytes, more than the {MAX_FILE_BYTES} read at most", where=path)
    return parse_nb(path.read_bytes(), where=str(path))


def parse_nb(data: bytes, *, where: str = "nb file") -> NbModel:
    """Read the bytes of a file; ``where`` names it in error lines.

    Raises:
        NbFormatError: see :func:`read_nb`.
    """
    if len(data) < HEADER.size:
        raise NbFormatError(f"{len(data)} bytes, less than the {HEADER.size} of the header", where=where)
    meta, version_bytes, topo_size = HEADER.unpack_from(data)
    if meta not in (1, 2):
        raise NbFormatError(
            f"is no nb file, or of a version not known (meta version {meta}, only 1 and 2 are read)",
            where=where, remedy="give a .nb file that opt 2.7 or newer wrote",
        )  # fmt: skip
    if topo_size > len(data) - HEADER.size:
        raise NbFormatError(
            f"topology claims {topo_size} bytes, {len(data) - HEADER.size} follow the header", where=where,
            remedy="the file is truncated or damaged",
        )  # fmt: skip
    view = memoryview(data)
    end = HEADER.size + topo_size
    program = _program(FlatBuffer(view[HEADER.size : end], f"{where}: topology"))
    read_params = _params_v2 if meta == 2 else _params_v1
    return NbModel(
        _version(version_bytes, where), program, read_params(view[end:], where), meta, topo_size, len(data)
    )


def _version(raw: bytes, where: str) -> str:
    try:
        return raw.split(b"\0", 1)[0].decode("ascii")
    except UnicodeDecodeError:
        raise NbFormatError("the opt version is not text", where=where, remedy="this is no nb file") from None


def _program(buffer: FlatBuffer) -> Program:
    root = buffer.root()
    version = root.table(1)
    op_versions = root.table(2)
    blocks = [_block(Table(buffer, at)) for at in root.offsets(0)]
    if not blocks:
        raise buffer.fail("there is no block of operators")
    return Program(
        blocks,
        None if version is None else int(version.number(0, n.Int64Flags)),
        None if op_versions is None else _op_versions(op_versions),
    )


def _op_versions(table: Table) -> dict[str, int]:
    found: dict[str, int] = {}
    for at in table.offsets(0):
        pair = Table(table.buffer, at)
        version = pair.table(1)
        found[pair.text(0, required=True)] = 0 if version is None else int(version.number(0, n.Int32Flags))
    return found


def _block(table: Table) -> Block:
    buffer = table.buffer
    return Block(
        vars=[_var(Table(buffer, at)) for at in table.offsets(2)],
        ops=[_op(Table(buffer, at)) for at in table.offsets(3)],
        idx=int(table.number(0, n.Int32Flags)),
        parent_idx=int(table.number(1, n.Int32Flags)),
        forward_block_idx=int(table.number(4, n.Int32Flags, -1)),
    )


def _var(table: Table) -> Var:
    name = table.text(0, required=True)
    kind_table = table.table(1)
    if kind_table is None:
        raise table.buffer.fail(f"variable {name!r} has no type")
    kind = _kind(table, int(kind_table.number(0, n.Int32Flags)))
    holder = kind_table.table(2) or kind_table.table(3)
    tensor = holder.table(0) if holder else None
    dims = tensor.numbers(1, n.Int64Flags) if tensor else None
    if dims is not None:
        table.buffer.charge(8 * len(dims))
    return Var(
        name, kind,
        _kind(table, int(tensor.number(0, n.Int32Flags))) if tensor else None,
        tuple(int(d) for d in dims) if dims is not None else (() if tensor else None),
        int(holder.number(1, n.Int32Flags)) if holder else 0,
        bool(table.number(2, n.BoolFlags, False)),
        bool(table.number(3, n.BoolFlags, False)),
    )  # fmt: skip


def _kind(table: Table, number: int) -> VarKind:
    try:
        return VarKind(number)
    except ValueError:
        raise table.buffer.fail(f"variable type {number} is unknown") from None


def _op(table: Table) -> Op:
    attrs = dict(_named_attr(table.buffer, at) for at in table.offsets(3))
    return Op(
        table.text(0, required=True), _arguments(table, 1), _arguments(table, 2), attrs,
        bool(table.number(4, n.BoolFlags, False)),
    )  # fmt: skip


def _arguments(table: Table, slot: int) -> dict[str, tuple[str, ...]]:
    return dict(_named_arguments(table.buffer, at) for at in table.offsets(slot))


def _named_arguments(buffer: FlatBuffer, at: int) -> tuple[str, tuple[str, ...]]:
    known = buffer.memo.get(("args", at))
    if known is None:
        table = Table(buffer, at)
        known = table.text(0, required=True), tuple(buffer.text(a) for a in table.offsets(1))
        buffer.memo["args", at] = known
    return known


def _named_attr(buffer: FlatBuffer, at: int) -> tuple[str, Attr]:
    known = buffer.memo.get(("attr", at))
    if known is None:
        table = Table(buffer, at)
        number = int(table.number(1, n.Int32Flags))
        try:
            kind = AttrType(number)
        except ValueError:
            raise buffer.fail(f"attribute type {number} is unknown") from None
        known = table.text(0, required=True), Attr(kind, _value(table, kind))
        buffer.memo["attr", at] = known
    return known


def _value(table: Table, kind: AttrType) -> AttrValue:
    if kind in _SCALARS:
        slot, flags, cast = _SCALARS[kind]
        return cast(table.number(slot, flags))
    if kind is AttrType.STRING:
        return table.text(4)
    if kind is AttrType.STRINGS:
        return tuple(table.buffer.text(at) for at in table.offsets(7))
    if kind in _LISTS:
        slot, flags = _LISTS[kind]
        values = table.numbers(slot, flags)
        if values is None:
            return ()
        table.buffer.charge(values.nbytes)
        return tuple((values != 0).tolist() if kind is AttrType.BOOLEANS else values.tolist())
    raise table.buffer.fail(f"attribute type {kind.name} is not used in nb files")


def _params_v2(data: memoryview, where: str) -> dict[str, np.ndarray]:
    at = 0

    def take(layout: str) -> tuple[int, ...]:
        nonlocal at
        size = struct.calcsize(layout)
        if at + size > len(data):
            raise NbFormatError(
                f"parameters end after {len(data)} bytes, {at + size} needed", where=where,
                remedy="the file is truncated",
            )  # fmt: skip
        values = struct.unpack_from(layout, data, at)
        at += size
        return values

    version, meta_size = take("<HH")
    if version != 0:
        raise NbFormatError(f"parameter version {version}, only 0 is known", where=where)
    at += meta_size
    (header_size,) = take("<H")
    count, largest = take("<HI")
    at += header_size - 6
    if header_size < 6:
        raise NbFormatError(f"parameter header of {header_size} bytes, 6 at least", where=where)
    params: dict[str, np.ndarray] = {}
    for index in range(count):
        total, offset = take("<II")
        if offset < 4 or total < offset or at + total - 4 > len(data):
            raise NbFormatError(
                f"parameter {index} of {count} claims {total} bytes, {len(data) - at} are left",
                where=where, remedy="the file is truncated or damaged",
            )  # fmt: skip
        record = FlatBuffer(data[at + offset - 4 : at + total - 4], f"{where}: parameter {index}")
        _add(params, _param(record.root()), largest, where)
        at += total - 4
    if at != len(data):
        raise NbFormatError(
            f"{len(data) - at} bytes follow the last parameter", where=where,
            remedy="the file is damaged: convert the model again",
        )  # fmt: skip
    return params


def _params_v1(data: memoryview, where: str) -> dict[str, np.ndarray]:
    buffer = FlatBuffer(data, f"{where}: parameters")
    params: dict[str, np.ndarray] = {}
    for at in buffer.root().offsets(0):
        _add(params, _param(Table(buffer, at)), len(data), where)
    return params


def _add(params: dict[str, np.ndarray], entry: tuple[str, np.ndarray], largest: int, where: str) -> None:
    name, array = entry
    if name in params:
        raise NbFormatError(f"parameter {name!r} is stored twice", where=where)
    if array.nbytes > largest:
        # The runtime reserves `largest` bytes once and reads every record into it.
        raise NbFormatError(
            f"parameter {name!r} has {array.nbytes} bytes, the header allows {largest}", where=where
        )
    params[name] = array


def _param(table: Table) -> tuple[str, np.ndarray]:
    buffer = table.buffer
    name = table.text(1, required=True)
    if table.number(2, n.Uint8Flags) != 1:
        raise buffer.fail(f"{name!r} is not a tensor")
    tensor = table.table(3)
    raw = tensor.numbers(4, n.Int8Flags) if tensor else None
    if tensor is None or raw is None:
        raise buffer.fail(f"{name!r} has no data")
    buffer.charge(raw.nbytes)
    kind = _kind(table, int(tensor.number(3, n.Int32Flags)))
    if kind not in DTYPES:
        raise buffer.fail(f"{name!r} has data type {kind.name}, which no tensor can have")
    dims_view = tensor.numbers(2, n.Int64Flags)
    dims = [] if dims_view is None else [int(d) for d in dims_view[: MAX_RANK + 1]]
    elements = 1
    for dim in dims:
        elements *= dim if dim >= 0 else -1 << 80
    if len(dims) > MAX_RANK or elements < 0 or elements * DTYPES[kind].itemsize != raw.nbytes:
        raise buffer.fail(
            f"{name!r} of shape {dims} and type {kind.name} does not fit its {raw.nbytes} bytes"
        )
    array = np.frombuffer(raw.tobytes(), DTYPES[kind]).reshape(dims)
    array.flags.writeable = False
    return name, array

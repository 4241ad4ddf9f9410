"""Writes meta version 2 ``.nb`` files: compact, and the same bytes for the same model every time.

``opt`` writes each attribute with an empty value of every other type; here only the field that an
attribute's type needs is written (what ``GetAttr`` in ``lite/model_parser/flatbuffers/op_desc.cc`` reads),
equal texts, lists, attributes and arguments are stored once, and names are sorted bytewise, because the
runtime finds them by binary search (``LookupByKey``; an unsorted list crashes it).
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import Builder

from export.nb.model import KINDS, Attr, AttrType, NbModel, Op, Program, Var, VarKind
from export.nb.reader import HEADER
from slim.errors import NbFormatError

VERSION_BYTES = 16
MAX_PARAMS = 0xFFFF


def write_nb(model: NbModel, path: str | Path) -> int:
    """Write a file (beside its place first, then renamed).

    Returns:
        The number of bytes written.

    Raises:
        NbFormatError: the model holds something the format cannot.
    """
    path = Path(path)
    data = encode_nb(model)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return len(data)


def encode_nb(model: NbModel) -> bytes:
    """The bytes of a file; the version's 16 bytes are filled with zeros behind the text.

    Raises:
        NbFormatError: see :func:`write_nb`.
    """
    version = model.opt_version.encode("ascii", "replace")
    if len(version) >= VERSION_BYTES:
        raise NbFormatError(f"opt version {model.opt_version!r} is longer than {VERSION_BYTES - 1} bytes")
    topology = encode_program(model.program)
    return HEADER.pack(2, version, len(topology)) + topology + _encode_params(model.params)


def _encode_params(params: dict[str, np.ndarray]) -> bytes:
    """All parameters, sorted by name, each record a flatbuffer behind its size (ParamSerializer, io.cc)."""
    if len(params) > MAX_PARAMS:
        raise NbFormatError(f"{len(params)} parameters, {MAX_PARAMS} at most")
    largest = max((array.nbytes for array in params.values()), default=0)
    parts = [struct.pack("<HHHHI", 0, 0, 6, len(params), largest)]
    for name in sorted(params, key=str.encode):
        record = encode_param(name, params[name])
        parts += [struct.pack("<II", len(record) + 4, 4), record]
    return b"".join(parts)


def encode_param(name: str, array: np.ndarray) -> bytes:
    """One ParamDesc flatbuffer (``lite/model_parser/flatbuffers/param.fbs``)."""
    kind = KINDS.get(array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype)
    if kind is None:
        raise NbFormatError(f"parameter {name!r} has type {array.dtype}, which the format has not")
    builder = Builder(array.nbytes + 256)
    data = builder.CreateByteVector(np.ascontiguousarray(array).tobytes())
    dims = _vector(builder, array.shape, 8, builder.PrependInt64)
    text = builder.CreateString(name)
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(4, data, 0)
    builder.PrependUOffsetTRelativeSlot(2, dims, 0)
    builder.PrependInt32Slot(3, int(kind), 0)
    tensor = builder.EndObject()
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(3, tensor, 0)
    builder.PrependUOffsetTRelativeSlot(1, text, 0)
    builder.PrependUint8Slot(2, 1, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def encode_program(program: Program) -> bytes:
    """The topology as one ProgramDesc flatbuffer (``framework.fbs``)."""
    return _ProgramWriter().encode(program)


def _vector(builder: Builder, values: Iterable[Any], width: int, prepend: Callable[[Any], None]) -> int:
    items = list(values)
    builder.StartVector(width, len(items), width)
    for value in reversed(items):
        prepend(value)
    return int(builder.EndVector())


class _ProgramWriter:
    """One topology; everything that may be shared is written once, found by its content."""

    def __init__(self) -> None:
        self.builder = Builder(1 << 16)
        self._shared: dict[object, int] = {}

    def encode(self, program: Program) -> bytes:
        b = self.builder
        blocks = [
            self._block(block.vars, block.ops, (block.idx, block.parent_idx, block.forward_block_idx))
            for block in program.blocks
        ]
        blocks_at = self._offsets(blocks)
        versions = None if program.op_versions is None else self._op_versions(program.op_versions)
        version = None
        if program.version is not None:
            b.StartObject(1)
            b.PrependInt64Slot(0, program.version, 0)
            version = b.EndObject()
        b.StartObject(3)
        b.PrependUOffsetTRelativeSlot(0, blocks_at, 0)
        if version is not None:
            b.PrependUOffsetTRelativeSlot(1, version, 0)
        if versions is not None:
            b.PrependUOffsetTRelativeSlot(2, versions, 0)
        b.Finish(b.EndObject())
        return bytes(b.Output())

    def _once(self, key: object, write: Callable[[], int]) -> int:
        if key not in self._shared:
            self._shared[key] = write()
        return self._shared[key]

    def _text(self, text: str) -> int:
        return self._once(("text", text), lambda: int(self.builder.CreateString(text)))

    def _offsets(self, offsets: list[int]) -> int:
        return self._once(
            ("offsets", tuple(offsets)),
            lambda: _vector(self.builder, offsets, 4, self.builder.PrependUOffsetTRelative),
        )

    def _numbers(self, kind: str, values: tuple[Any, ...]) -> int:
        b = self.builder
        width, prepend = {
            "int": (4, b.PrependInt32), "float": (4, b.PrependFloat32), "bool": (1, b.PrependBool),
            "long": (8, b.PrependInt64), "double": (8, b.PrependFloat64),
        }[kind]  # fmt: skip
        packed = struct.pack(
            f"<{len(values)}{'ifbqd'[('int', 'float', 'bool', 'long', 'double').index(kind)]}", *values
        )
        return self._once(("numbers", width, packed), lambda: _vector(b, values, width, prepend))

    def _block(self, variables: list[Var], ops: list[Op], numbers: tuple[int, int, int]) -> int:
        b = self.builder
        vars_at = self._offsets([self._var(var) for var in variables])
        ops_at = self._offsets([self._op(op) for op in ops])
        b.StartObject(5)
        b.PrependUOffsetTRelativeSlot(2, vars_at, 0)
        b.PrependUOffsetTRelativeSlot(3, ops_at, 0)
        b.PrependInt32Slot(0, numbers[0], 0)
        b.PrependInt32Slot(1, numbers[1], 0)
        b.PrependInt32Slot(4, numbers[2], -1)
        return int(b.EndObject())

    def _var(self, var: Var) -> int:
        """A VarDesc. Only tensors carry a TensorDesc (``VarDescView::GetShape`` reads it without a check)."""
        b = self.builder
        kind = self._once(
            ("type", var.kind, var.data_type, var.dims, var.lod_level), lambda: self._var_type(var)
        )
        name = self._text(var.name)
        b.StartObject(4)
        b.PrependUOffsetTRelativeSlot(0, name, 0)
        b.PrependUOffsetTRelativeSlot(1, kind, 0)
        b.PrependBoolSlot(2, var.persistable, False)
        b.PrependBoolSlot(3, var.need_check_feed, False)
        return int(b.EndObject())

    def _var_type(self, var: Var) -> int:
        b = self.builder
        holder = 0
        if var.data_type is not None:
            dims = self._numbers("long", var.dims or ())
            b.StartObject(2)
            b.PrependUOffsetTRelativeSlot(1, dims, 0)
            b.PrependInt32Slot(0, int(var.data_type), 0)
            tensor = b.EndObject()
            b.StartObject(2)
            b.PrependUOffsetTRelativeSlot(0, tensor, 0)
            b.PrependInt32Slot(1, var.lod_level, 0)
            holder = b.EndObject()
        b.StartObject(6)
        b.PrependInt32Slot(0, int(var.kind), 0)
        if holder:
            b.PrependUOffsetTRelativeSlot(3 if var.kind is VarKind.LOD_TENSOR_ARRAY else 2, holder, 0)
        return int(b.EndObject())

    def _op(self, op: Op) -> int:
        b = self.builder
        inputs, outputs = self._arguments(op.inputs), self._arguments(op.outputs)
        attrs = self._offsets([self._attr(name, op.attrs[name]) for name in sorted(op.attrs, key=str.encode)])
        kind = self._text(op.type)
        b.StartObject(5)
        b.PrependUOffsetTRelativeSlot(0, kind, 0)
        b.PrependUOffsetTRelativeSlot(1, inputs, 0)
        b.PrependUOffsetTRelativeSlot(2, outputs, 0)
        b.PrependUOffsetTRelativeSlot(3, attrs, 0)
        b.PrependBoolSlot(4, op.is_target, False)
        return int(b.EndObject())

    def _arguments(self, arguments: dict[str, tuple[str, ...]]) -> int:
        return self._offsets(
            [self._argument(name, arguments[name]) for name in sorted(arguments, key=str.encode)]
        )

    def _argument(self, name: str, values: tuple[str, ...]) -> int:
        return self._once(("argument", name, values), lambda: self._new_argument(name, values))

    def _new_argument(self, name: str, values: tuple[str, ...]) -> int:
        b = self.builder
        listed = self._offsets([self._text(value) for value in values])
        text = self._text(name)
        b.StartObject(2)
        b.PrependUOffsetTRelativeSlot(0, text, 0)
        b.PrependUOffsetTRelativeSlot(1, listed, 0)
        return int(b.EndObject())

    def _attr(self, name: str, attr: Attr) -> int:
        # repr tells -0.0 from 0.0, and True from 1, which compare equal.
        return self._once(("attr", name, attr.type, repr(attr.value)), lambda: self._new_attr(name, attr))

    def _new_attr(self, name: str, attr: Attr) -> int:
        b = self.builder
        slot, kind = _FIELDS[attr.type]
        text = self._text(name)
        value: Any = attr.value
        if kind == "text":
            value = self._text(value)
        elif kind == "texts":
            value = self._offsets([self._text(item) for item in value])
        elif isinstance(value, tuple):
            value = self._numbers(kind, value)
        b.StartObject(16)
        b.PrependUOffsetTRelativeSlot(0, text, 0)
        b.PrependInt32Slot(1, int(attr.type), 0)
        if kind in ("text", "texts") or isinstance(attr.value, tuple):
            b.PrependUOffsetTRelativeSlot(slot, value, 0)
        else:
            _scalar(b, slot, kind, value)
        return int(b.EndObject())

    def _op_versions(self, versions: dict[str, int]) -> int:
        b = self.builder
        pairs = []
        for name in sorted(versions, key=str.encode):
            text = self._text(name)
            b.StartObject(1)
            b.PrependInt32Slot(0, versions[name], 0)
            version = b.EndObject()
            b.StartObject(2)
            b.PrependUOffsetTRelativeSlot(0, text, 0)
            b.PrependUOffsetTRelativeSlot(1, version, 0)
            pairs.append(int(b.EndObject()))
        listed = self._offsets(pairs)
        b.StartObject(1)
        b.PrependUOffsetTRelativeSlot(0, listed, 0)
        return int(b.EndObject())


def _scalar(b: Builder, slot: int, kind: str, value: Any) -> None:
    """A number; one whose bits are all zero is what an absent field reads as, and is left out."""
    if kind == "bool":
        b.PrependBoolSlot(slot, bool(value), False)
    elif kind == "int":
        b.PrependInt32Slot(slot, value, 0)
    elif kind == "long":
        b.PrependInt64Slot(slot, value, 0)
    elif struct.pack("<d", value) != bytes(8):
        (b.PrependFloat32 if kind == "float" else b.PrependFloat64)(value)
        b.Slot(slot)


_FIELDS: dict[AttrType, tuple[int, str]] = {
    AttrType.INT: (2, "int"), AttrType.FLOAT: (3, "float"), AttrType.STRING: (4, "text"),
    AttrType.INTS: (5, "int"), AttrType.FLOATS: (6, "float"), AttrType.STRINGS: (7, "texts"),
    AttrType.BOOLEAN: (8, "bool"), AttrType.BOOLEANS: (9, "bool"), AttrType.BLOCK: (10, "int"),
    AttrType.LONG: (11, "long"), AttrType.BLOCKS: (12, "int"), AttrType.LONGS: (13, "long"),
    AttrType.FLOAT64: (14, "double"), AttrType.FLOAT64S: (15, "double"),
}  # fmt: skip

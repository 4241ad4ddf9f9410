"""Bounds-checked access to a flatbuffer whose bytes nobody vouches for.

The layout rules are those of the flatbuffers format (https://flatbuffers.dev/internals): a table starts with
a signed 32-bit distance back to its vtable, a vtable gives a 16-bit offset per slot, vectors and strings
start with a 32-bit count. The `flatbuffers` library decodes the numbers; every position is compared with the
buffer first.

Work is bounded as well as memory: flatbuffers may share parts, so a small hostile file can describe a huge
tree. Whatever is decoded is charged against the length of the buffer, and parts that may be shared (strings,
scalar lists, attributes) are decoded once and remembered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flatbuffers import encode, number_types, packer

from slim.errors import NbFormatError

_DTYPES: dict[Any, np.dtype] = {
    number_types.BoolFlags: np.dtype("u1"),
    number_types.Int8Flags: np.dtype("i1"),
    number_types.Int32Flags: np.dtype("<i4"),
    number_types.Int64Flags: np.dtype("<i8"),
    number_types.Float32Flags: np.dtype("<f4"),
    number_types.Float64Flags: np.dtype("<f8"),
}
_PACKERS: dict[Any, Any] = {
    number_types.BoolFlags: packer.boolean,
    number_types.Uint8Flags: packer.uint8,
    number_types.Int32Flags: packer.int32,
    number_types.Int64Flags: packer.int64,
    number_types.Float32Flags: packer.float32,
    number_types.Float64Flags: packer.float64,
}


class FlatBuffer:
    """A buffer with its budget of decoding work, in bytes.

    Args:
        data: the flatbuffer alone, from its first byte to its last.
        where: what the buffer is, for error lines.
    """

    def __init__(self, data: memoryview, where: str) -> None:
        self.data = data
        self.where = where
        self._left = 4 * len(data) + 1024
        self.memo: dict[tuple[object, int], Any] = {}

    def fail(self, what: str) -> NbFormatError:
        return NbFormatError(what, where=self.where, remedy="the file is damaged or is no nb file")

    def charge(self, count: int) -> None:
        """Pay for ``count`` decoded bytes.

        Raises:
            NbFormatError: more was decoded than a file of this size can hold.
        """
        self._left -= count
        if self._left < 0:
            raise self.fail(f"{len(self.data)} bytes describe more than they can hold")

    def number(self, flags: Any, at: int) -> Any:
        """One number of type ``flags`` at position ``at``."""
        if at < 0 or at + flags.bytewidth > len(self.data):
            raise self.fail(f"position {at} lies outside of {len(self.data)} bytes")
        return encode.Get(_PACKERS[flags], self.data, at)

    def uint32(self, at: int) -> int:
        if at < 0 or at + 4 > len(self.data):
            raise self.fail(f"position {at} lies outside of {len(self.data)} bytes")
        return int(encode.Get(packer.uint32, self.data, at))

    def follow(self, at: int) -> int:
        """The position that the 32-bit offset at ``at`` points to."""
        target = at + self.uint32(at)
        if target <= at or target + 4 > len(self.data):
            raise self.fail(f"offset at {at} points to {target}, outside of {len(self.data)} bytes")
        return target

    def root(self) -> Table:
        """The root table."""
        return Table(self, self.follow(0))

    def span(self, at: int, width: int) -> tuple[int, int]:
        """First byte and count of the vector at ``at`` with ``width`` bytes per element."""
        count = self.uint32(at)
        if at + 4 + count * width > len(self.data):
            raise self.fail(f"list at {at} claims {count} elements of {width} bytes, past the end")
        return at + 4, count

    def text(self, at: int) -> str:
        """The string at ``at``, decoded once."""
        known = self.memo.get((str, at))
        if known is not None:
            return str(known)
        start, count = self.span(at, 1)
        self.charge(count + 4)
        try:
            text = bytes(self.data[start : start + count]).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"text at {at} is not UTF-8") from None
        self.memo[str, at] = text
        return text


class Table:
    """One table of a FlatBuffer; a slot that is absent reads as its default."""

    def __init__(self, buffer: FlatBuffer, at: int) -> None:
        self.buffer = buffer
        self.at = at
        buffer.charge(4)
        self._vtable = at - int(buffer.number(number_types.Int32Flags, at))
        self._vtable_size = self._uint16(self._vtable)
        size = self._uint16(self._vtable + 2)
        if (
            self._vtable_size < 4
            or self._vtable_size % 2
            or self._vtable + self._vtable_size > len(buffer.data)
        ):
            raise buffer.fail(f"table at {at} has a field list of {self._vtable_size} bytes")
        if size < 4 or at + size > len(buffer.data):
            raise buffer.fail(f"table at {at} claims {size} bytes, past the end")
        self._size = size

    def _uint16(self, at: int) -> int:
        if at < 0 or at + 2 > len(self.buffer.data):
            raise self.buffer.fail(f"table at {self.at} has its field list outside of the file, at {at}")
        return int(encode.Get(packer.uint16, self.buffer.data, at))

    def _slot(self, slot: int, width: int) -> int:
        """Position of a slot's value; 0 where the slot is absent."""
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return 0
        offset = self._uint16(self._vtable + entry)
        if offset == 0:
            return 0
        if offset < 4 or offset + width > self._size:
            raise self.buffer.fail(f"field {slot} of the table at {self.at} lies outside of its table")
        return self.at + offset

    def number(self, slot: int, flags: Any, default: Any = 0) -> Any:
        """A scalar field."""
        at = self._slot(slot, flags.bytewidth)
        if not at:
            return default
        self.buffer.charge(flags.bytewidth)
        return self.buffer.number(flags, at)

    def target(self, slot: int) -> int:
        """Position that an offset field points to; 0 where absent."""
        at = self._slot(slot, 4)
        return self.buffer.follow(at) if at else 0

    def text(self, slot: int, *, required: bool = False) -> str:
        """A string field; absent reads as empty unless ``required``."""
        at = self.target(slot)
        if not at:
            if required:
                raise self.buffer.fail(f"table at {self.at} lacks its required text field {slot}")
            return ""
        return self.buffer.text(at)

    def table(self, slot: int) -> Table | None:
        """A table field; None where absent."""
        at = self.target(slot)
        return Table(self.buffer, at) if at else None

    def numbers(self, slot: int, flags: Any) -> np.ndarray | None:
        """A list of scalars, as a view into the buffer; None where absent."""
        at = self.target(slot)
        if not at:
            return None
        start, count = self.buffer.span(at, flags.bytewidth)
        return np.frombuffer(self.buffer.data, _DTYPES[flags], count, start)

    def offsets(self, slot: int) -> list[int]:
        """The positions a list of tables or strings points to; empty where absent."""
        at = self.target(slot)
        if not at:
            return []
        start, count = self.buffer.span(at, 4)
        self.buffer.charge(4 * count)
        return [self.buffer.follow(start + 4 * i) for i in range(count)]

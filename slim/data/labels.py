"""Label files, ``path<TAB>text`` by line, of any length: an index of line starts, nothing more in memory.

Worked example of a file::

    img/1.png<TAB>HELLO        rec: the text
    img/2.png<TAB>180          cls: "0" or "180"
    img/3.jpg<TAB>[{"transcription": "HI", "points": [[1,1],[9,1],[9,5],[1,5]]}]     det
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from slim.errors import InputError

MAX_LINE_BYTES = 4 * 1024 * 1024
IGNORED = ("###", "*")
_CHUNK = 1024 * 1024
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Entry:
    """One line of a label file: the image path as written there, and the text."""

    ref: str
    text: str


@dataclass(frozen=True)
class Box:
    """A text region of a det label: its corners in pixels (x, y), four or more, and its text."""

    points: tuple[tuple[float, float], ...]
    text: str

    @property
    def ignored(self) -> bool:
        """True for the regions that PaddleOCR neither trains on nor scores (text ``###`` or ``*``)."""
        return self.text in IGNORED


class LabelFile:
    """Random access to the lines of a label file by an index of 12 bytes per line.

    Args:
        path: UTF-8, with or without byte order mark; LF or CRLF; blank lines are skipped.

    Raises:
        InputError: missing, not a regular file, empty, or with a line above 4 MiB.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        self.sha256, self._starts, self._lengths = _index(self._file, path)
        if len(self._starts) == 0:
            self._file.close()
            raise InputError(
                "label file is empty", where=path, remedy="write one line per image: path<TAB>text"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Entry:
        """The ``number``-th line that is not blank; InputError with file:line when it is malformed."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        start, length = int(self._starts[number]), int(self._lengths[number])
        raw = os.pread(self._file.fileno(), length, start)
        try:
            line = raw.rstrip(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"line is not UTF-8 (byte {error.start} is {raw[error.start]:#04x})",
                where=self.where(number),
                remedy="save the label file as UTF-8",
            ) from error
        ref, tab, text = line.partition("\t")
        if not tab or not ref.strip():
            missing = "path before the tab" if tab else "tab"
            raise InputError(
                f"line has no {missing}: {line[:60]!r}",
                where=self.where(number),
                remedy="write path<TAB>text",
            )
        return Entry(ref, text)

    def where(self, number: int) -> str:
        """ "file:line" of an entry, 1-based. The lines before it are counted on demand: only errors ask."""
        line, position, target = 1, 0, int(self._starts[number])
        while position < target:
            chunk = os.pread(self._file.fileno(), min(_CHUNK, target - position), position)
            if not chunk:
                break
            line += chunk.count(b"\n")
            position += len(chunk)
        return f"{self.path}:{line}"

    def close(self) -> None:
        """Close the file; later reads fail."""
        self._file.close()


def parse_boxes(text: str, where: str, *, least: int = 1) -> list[Box]:
    """The regions of a det label, or (``least`` 0) what a detector found, which may be none.

    Raises:
        InputError: not a JSON list of objects with ``transcription`` and at least four finite points, or
            fewer than ``least`` of them.

    >>> parse_boxes('[{"transcription": "HI", "points": [[1,1],[9,1],[9,5],[1,5]]}]', "labels.txt:1")[0].text
    'HI'
    """
    try:
        boxes = [_box(item) for item in json.loads(text)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"det label is malformed ({type(error).__name__}: {error})",
            where=where,
            remedy='write [{"transcription": "text", "points": [[x,y], [x,y], [x,y], [x,y]]}]',
        ) from error
    if len(boxes) < least:
        raise InputError("det label holds no region", where=where)
    return boxes


def _box(item: dict[str, Any]) -> Box:
    points = tuple((float(x), float(y)) for x, y in item["points"])
    if len(points) < 4 or not all(math.isfinite(value) for point in points for value in point):
        raise ValueError(f"{len(points)} finite points, at least 4 needed")
    return Box(points, str(item["transcription"]))


def _open(path: Path) -> BinaryIO:
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read label file ({reason})", where=path, remedy="check the path") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError("label file is not a regular file", where=path)
    return file


def _index(file: BinaryIO, path: Path) -> tuple[str, _Int64, _UInt32]:
    """sha256, and start and length in bytes (without the line feed) of the lines that are not blank."""
    digest, starts, lengths = hashlib.sha256(), [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
    line_start, position = 0, 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        if position == 0 and chunk.startswith(_BOM):
            line_start = len(_BOM)
        feeds = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10).astype(np.int64) + position
        position += len(chunk)
        if len(feeds):
            begin = np.concatenate(([line_start], feeds[:-1] + 1))
            _append(starts, lengths, begin, feeds - begin, path)
            line_start = int(feeds[-1]) + 1
        if position - line_start > MAX_LINE_BYTES:
            _too_long(path, line_start)
    if position > line_start:
        _append(starts, lengths, np.array([line_start]), np.array([position - line_start]), path)
    start, length = np.concatenate(starts), np.concatenate(lengths)
    kept = _not_blank(file, start, length)
    return digest.hexdigest(), start[kept], length[kept]


def _append(starts: list[_Int64], lengths: list[_UInt32], begin: _Int64, length: _Int64, path: Path) -> None:
    if length.max() > MAX_LINE_BYTES:
        _too_long(path, int(begin[length.argmax()]))
    kept = length > 0
    starts.append(begin[kept])
    lengths.append(length[kept].astype(np.uint32))


def _not_blank(file: BinaryIO, starts: _Int64, lengths: _UInt32) -> npt.NDArray[np.bool_]:
    """False for lines of one byte that is a carriage return (blank lines of a CRLF file) or a space."""
    kept = np.ones(len(starts), np.bool_)
    for number in np.flatnonzero(lengths == 1):
        kept[number] = os.pread(file.fileno(), 1, int(starts[number])) not in (b"\r", b" ")
    return kept


def _too_long(path: Path, start: int) -> NoReturn:
    raise InputError(
        f"line starting at byte {start} is longer than {MAX_LINE_BYTES} bytes",
        where=path,
        remedy="is this a label file? write path<TAB>text, one image per line",
    )


_Int64 = npt.NDArray[np.int64]
_UInt32 = npt.NDArray[np.uint32]

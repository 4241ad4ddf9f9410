"""PaddleOCR's LMDB data sets: keys ``num-samples``, ``image-%09d``, ``label-%09d``, counted from 1."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.data.dataset import Line, check_text
from slim.data.images import MAX_FILE_BYTES, UnreadableImage, decode_image, image_size
from slim.data.labels import Entry
from slim.errors import InputError, ToolMissing

if TYPE_CHECKING:
    import lmdb

PROBE_SECONDS = 600
# Every page that was read stays mapped and counts as memory of the process until the file is closed: 440 MB
# after 200,000 small images. The kernel maps up to 64 KiB around a page it has cached, for the branch, the
# leaf and the value, so this many reads stay below 48 MB.
READS_MAPPED = 256
# A damaged page makes the LMDB library abort or touch memory outside the file: the whole process dies.
# So another process walks the tree first. Its answer is one JSON line.
_PROBE = """
import hashlib, json, os, sys
import lmdb
env = lmdb.open(sys.argv[1], readonly=True, lock=False, readahead=False, create=False)
needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
size = os.path.getsize(os.path.join(sys.argv[1], "data.mdb"))
if size < needed:
    sys.exit(f"data.mdb has {size} bytes, its pages need {needed}")
digest, keys = hashlib.sha256(), 0
with env.begin(buffers=True) as txn:
    found = txn.get(b"num-samples")
    count = None if found is None else bytes(found[:32]).decode()
    for key, value in txn.cursor():
        keys += 1
        if bytes(key[:6]) == b"label-":
            digest.update(bytes(key) + b"\\0" + bytes(value) + b"\\n")
        else:
            len(value)
print(json.dumps({"count": count, "keys": keys, "sha256": digest.hexdigest()}))
"""


class LmdbData:
    """Images of one LMDB folder, opened read-only, without locks, when first read.

    Args:
        path: folder holding ``data.mdb``.
        kind: "rec", "cls" or "det".

    Raises:
        InputError: not an LMDB, damaged (a child process walks it once), or no ``num-samples``.
        ToolMissing: the lmdb package is not installed.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        facts = _probe(path)
        self._count, self._sha256 = int(facts["count"]), str(facts["sha256"])
        self._env: lmdb.Environment | None = None
        self._pid = self._reads = 0
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def describe(self) -> dict[str, Any]:
        """Path, count, and the sha256 over all label keys and values."""
        return {"path": str(self.path), "count": self._count, "sha256": self._sha256, "kind": self.kind}

    def where(self, number: int) -> str:
        """The folder and the label's key."""
        return f"{self.path}#label-{number + 1:09d}"

    def entry(self, number: int) -> Entry:
        """Key of the image and its text."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        try:
            text = self._get(f"label-{number + 1:09d}").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError("label is not UTF-8", where=self.where(number)) from error
        check_text(text, self.kind, lambda: self.where(number))
        return Entry(f"{self.path}#image-{number + 1:09d}", text)

    def size(self, number: int) -> tuple[int, int]:
        """Height and width in pixels, from the header."""
        return image_size(self._image(number), f"{self.path}#image-{number + 1:09d}")

    def __getitem__(self, number: int) -> Line:
        entry = self.entry(number)
        return Line(entry.ref, decode_image(self._image(number), entry.ref), entry.text)

    def _image(self, number: int) -> bytes:
        data = self._get(f"image-{number + 1:09d}")
        if len(data) > MAX_FILE_BYTES:
            raise UnreadableImage(
                f"image has {len(data)} bytes, limit {MAX_FILE_BYTES}",
                where=f"{self.path}#image-{number + 1:09d}",
            )
        return data

    def _get(self, key: str) -> bytes:
        import lmdb

        with self._guard:  # one thread may not close what another reads from
            self._reads += 1
            if self._env is not None and self._reads % READS_MAPPED == 0:
                self._env.close()
                self._env = None
            if self._env is None or self._pid != os.getpid():  # an environment must not cross a fork
                self._env = lmdb.open(
                    str(self.path), readonly=True, lock=False, readahead=False, meminit=False, create=False
                )
                self._pid = os.getpid()
            with self._env.begin() as txn:
                value = txn.get(key.encode())
        if value is None:
            kind = UnreadableImage if key.startswith("image") else InputError
            raise kind(f"key {key} is missing", where=self.path, remedy="write the LMDB again")
        return bytes(value)


class JoinedLmdb:
    """Several LMDB folders as one data set, in the order of their paths."""

    def __init__(self, parts: Sequence[LmdbData]) -> None:
        self._parts = list(parts)
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def _locate(self, number: int) -> tuple[LmdbData, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        part = bisect.bisect_right(self._ends, number)
        return self._parts[part], number - (self._ends[part - 1] if part else 0)

    def __getitem__(self, number: int) -> Line:
        part, inside = self._locate(number)
        return part[inside]

    def entry(self, number: int) -> Entry:
        """Key of the image and its text."""
        part, inside = self._locate(number)
        return part.entry(inside)

    def size(self, number: int) -> tuple[int, int]:
        """Height and width in pixels, from the header."""
        part, inside = self._locate(number)
        return part.size(inside)

    def where(self, number: int) -> str:
        """The folder and the label's key."""
        part, inside = self._locate(number)
        return part.where(inside)

    def describe(self) -> dict[str, Any]:
        """Paths, count, a hash over the parts' hashes, and the parts."""
        parts = [part.describe() for part in self._parts]
        joined = hashlib.sha256("\n".join(str(part["sha256"]) for part in parts).encode()).hexdigest()
        path = ", ".join(str(part["path"]) for part in parts)
        return {"path": path, "count": len(self), "sha256": joined, "kind": parts[0]["kind"], "files": parts}


def open_lmdb(data_dir: Path, kind: str) -> LmdbData | JoinedLmdb:
    """Open the LMDB in ``data_dir``, or all that lie in folders below it, as PaddleOCR's LMDBDataSet does.

    Raises:
        InputError: no data.mdb at or below the folder, or one that is damaged.
    """
    folders = sorted(path.parent for path in data_dir.rglob("data.mdb")) if data_dir.is_dir() else []
    if not folders:
        raise InputError(
            "no LMDB (data.mdb) at or below this folder", where=data_dir, remedy="check data_dir"
        )
    parts = [LmdbData(folder, kind) for folder in folders]
    return parts[0] if len(parts) == 1 else JoinedLmdb(parts)


def _probe(path: Path) -> dict[str, Any]:
    if not (path / "data.mdb").is_file():
        raise InputError(
            "no data.mdb in the LMDB folder", where=path, remedy="give the folder that holds data.mdb"
        )
    command = [sys.executable, "-I", "-c", _PROBE, str(path)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"LMDB not walked within {PROBE_SECONDS} s", where=path) from error
    if "No module named 'lmdb'" in child.stderr:
        raise ToolMissing("the lmdb package is not installed", remedy="pip install lmdb")
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or [f"process ended by {child.returncode}"])[-1]
        raise InputError(f"LMDB is damaged ({last})", where=path, remedy="write the LMDB again")
    facts: dict[str, Any] = json.loads(child.stdout)
    count = facts["count"]
    if count is None or not str(count).strip().isdigit() or not 0 < 2 * int(count) < facts["keys"]:
        raise InputError(
            f"num-samples is {count!r} but the LMDB holds {facts['keys']} keys",
            where=path,
            remedy="it needs num-samples, image-%09d and label-%09d counted from 1",
        )
    return facts

"""The folder of downloaded models: where it is, one process at a time, checksums of what it holds.

    <cache>/downloads/NAME_train.tar    archives, as downloaded or placed by hand
    <cache>/models/NAME_train/          their files
    <cache>/models/NAME_train.sha256    a checksum of each, written last: without it nothing counts as there
    <cache>/pins.sha256                 checksum of each archive at its first use

Both lists have the form of ``sha256sum``.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slim.errors import InputError
from slim.numerics import file_sha256
from slim.progress import Reporter
from slim.zoo.table import Archive

ENVIRONMENT = "SLIM_CACHE"
_FOLDER = "paddleocr-slim"
_MAX_LIST = 1 << 20
_ELSEWHERE = f"choose another folder with --cache or {ENVIRONMENT}"


def cache_folder(given: Path | None = None) -> Path:
    """--cache, else SLIM_CACHE, else the XDG cache folder (``~/.cache``); always absolute."""
    if given is not None:
        return given.expanduser().absolute()
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT]).expanduser().absolute()
    xdg = Path(os.environ.get("XDG_CACHE_HOME") or "")
    # The XDG rules: a path that is not absolute is ignored.
    if xdg.is_absolute():
        return xdg / _FOLDER
    try:
        return Path.home() / ".cache" / _FOLDER
    except RuntimeError as error:
        raise InputError("there is no home folder to keep models in", remedy=_ELSEWHERE) from error


@dataclass(frozen=True)
class Cache:
    """The places of an archive below one folder."""

    root: Path

    def tar(self, archive: Archive) -> Path:
        """Where the archive is kept, and where it may be placed by hand."""
        return self.root / "downloads" / archive.file

    def folder(self, archive: Archive) -> Path:
        """Its unpacked files."""
        return self.root / "models" / archive.stem

    def files(self, archive: Archive) -> dict[str, str] | None:
        """Relative path -> sha256 of an unpacked archive, not verified; None when it is not there."""
        record = self._record(archive)
        return read_sums(record) if record.is_file() and self.folder(archive).is_dir() else None

    def altered(self, archive: Archive) -> str | None:
        """The first unpacked file that is gone or differs from its checksum, or None."""
        for name, expected in (self.files(archive) or {}).items():
            path = self.folder(archive) / name
            if not path.is_file() or file_sha256(path) != expected:
                return name
        return None

    def remember(self, archive: Archive) -> None:
        """Write the checksums of the unpacked files: from now on the archive counts as there."""
        folder = self.folder(archive)
        sums = {
            path.relative_to(folder).as_posix(): file_sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        write_sums(self._record(archive), sums)

    def forget(self, archive: Archive) -> None:
        """The unpacked files no longer count as there."""
        self._record(archive).unlink(missing_ok=True)

    def pin(self, archive: Archive, digest: str) -> None:
        """Compare an archive with its checksum at first use, or note that checksum now.

        The path below the base address is the key: a mirror has to serve the same bytes.

        Raises:
            InputError: the checksum is another one.
        """
        path = self.root / "pins.sha256"
        with self.locked("pins", 60.0, None):
            pins = read_sums(path) if path.is_file() else {}
            known = pins.setdefault(archive.path, digest)
            if known == digest:
                write_sums(path, pins)
                return
        raise InputError(
            f"sha256 is {digest}, at first use it was {known}", where=archive.path,
            remedy=f"it is damaged or was replaced; if you trust the new one, delete its line in {path}",
        )  # fmt: skip

    def prepare(self) -> None:
        """Make the folders; raises InputError when the cache cannot be written."""
        try:
            for name in ("downloads", "models", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot write the cache of models ({error.strerror})", where=self.root, remedy=_ELSEWHERE
            ) from error

    @contextmanager
    def locked(self, name: str, wait: float, progress: Reporter | None) -> Iterator[None]:
        """One process at a time; the system frees the lock of a process that dies.

        Args:
            wait: seconds to wait for another process.
        Raises:
            InputError: the lock cannot be written, or is still held.
        """
        path = self.root / "locks" / f"{name}.lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"cannot lock ({error.strerror})", where=path, remedy=_ELSEWHERE) from error
        try:
            _take(handle, path, wait, progress)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(handle)

    def _record(self, archive: Archive) -> Path:
        return self.root / "models" / f"{archive.stem}.sha256"


def _take(handle: int, path: Path, wait: float, progress: Reporter | None) -> None:
    end, told = time.monotonic() + wait, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        except OSError as error:
            raise InputError(
                f"this file system has no locks ({error.strerror})", where=path, remedy=_ELSEWHERE
            ) from error
        if time.monotonic() >= end:
            raise InputError(
                f"is held by process {holder}, waited {wait:g} s", where=path,
                remedy="wait for that process to end, or end it",
            )  # fmt: skip
        if progress is not None and not told:
            progress.info(f"waiting for process {holder}, which works on {path.stem}")
            told = True
        time.sleep(0.1)


def read_sums(path: Path) -> dict[str, str]:
    """Name -> sha256 of a ``sha256sum`` list.

    Raises:
        InputError: it cannot be read, or a line is none of such a list.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_LIST + 1)
        lines = raw.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("is not a readable list of checksums", where=path, remedy="delete it") from error
    sums = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition("  ")
        if len(raw) > _MAX_LIST or len(digest) != 64 or set(digest) - set("0123456789abcdef") or not name:
            raise InputError(f"line {number} is no checksum and name", where=path, remedy="delete it")
        sums[name] = digest
    return sums


def write_sums(path: Path, sums: Mapping[str, str]) -> None:
    """Write a ``sha256sum`` list aside, then rename it."""
    aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)

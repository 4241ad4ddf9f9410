"""Unpacking an archive from outside: plain files and folders only, nothing outside the target."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from slim.errors import InputError

MAX_MEMBERS = 1000
MAX_BYTES = 1 << 30
_MAX_DEPTH = 10
_MAX_NAME = 200
_CHUNK = 1 << 20
_SPECIAL = (
    (tarfile.TarInfo.issym, "a symbolic link"),
    (tarfile.TarInfo.islnk, "a hard link"),
    (tarfile.TarInfo.isdev, "a device or pipe"),
    (tarfile.TarInfo.issparse, "a sparse file"),
)


def unpack(tar: Path, folder: Path) -> None:
    """Unpack a plain (uncompressed) tar into a new ``folder``; a folder that is there is replaced at the end.

    The first part of the members' paths is dropped where all share it, as in the published archives.

    Raises:
        InputError: not a tar, truncated, too large, too many members, or a member that is no plain file
            below the folder; nothing is left behind.
    """
    aside = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    for left in folder.parent.glob(f".{folder.name}.tmp-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _extract(tar, aside)
        inner = list(aside.iterdir())
        whole = inner[0] if len(inner) == 1 and inner[0].is_dir() else aside
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(whole, folder)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(
            f"is not a whole, plain tar archive ({error})", where=tar, remedy="delete it and pull again"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _extract(tar: Path, folder: Path) -> None:
    left, seen = MAX_BYTES, set()
    # "r:": no decompression, so an archive cannot unpack to more than its own size.
    with tarfile.open(tar, "r:", encoding="utf-8", errors="strict") as archive:
        for count, member in enumerate(_members(archive, tar), 1):
            if count > MAX_MEMBERS:
                raise _refused(tar, f"holds over {MAX_MEMBERS} members")
            parts = _safe(member, tar)
            left -= max(member.size, 0)
            if left < 0 or member.size < 0:
                raise _refused(tar, f"unpacks to over {MAX_BYTES} bytes")
            if not parts:
                continue
            if parts in seen and not member.isdir():
                raise _refused(tar, f"names {member.name!r} twice")
            seen.add(parts)
            _write(archive, member, folder.joinpath(*parts), tar)
        _require_end(archive, tar)
    if not seen:
        raise _refused(tar, "holds no files")


def _require_end(archive: tarfile.TarFile, tar: Path) -> None:
    """tarfile takes a cut or damaged header behind the first member for the end; the real one is zeros."""
    with tar.open("rb") as stream:
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise _refused(tar, "is cut off or damaged between two members")


def _members(archive: tarfile.TarFile, tar: Path) -> tarfile.TarFile:
    if archive.pax_headers.get("hdrcharset"):
        raise _refused(tar, "declares names in another coding")
    return archive


def _safe(member: tarfile.TarInfo, tar: Path) -> tuple[str, ...]:
    """Parts of a member's path, empty for the top folder itself."""
    name = member.name
    for test, meaning in _SPECIAL:
        if test(member):
            raise _refused(tar, f"{name!r} is {meaning}")
    if not (member.isreg() or member.isdir()):
        raise _refused(tar, f"{name!r} is of the unknown type {member.type!r}")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name:
        raise _refused(tar, f"{name!r} leaves the folder")
    if not name.isprintable() or len(name) > _MAX_NAME or len(parts) > _MAX_DEPTH:
        raise _refused(tar, f"{name[:_MAX_NAME]!r} is not a usable name")
    return parts


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, tar: Path) -> None:
    try:
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        source = archive.extractfile(member)
        assert source is not None  # a regular file, see _safe
        with source, target.open("xb") as out:
            shutil.copyfileobj(source, out, _CHUNK)
            written = out.tell()
    except (FileExistsError, NotADirectoryError) as error:
        raise _refused(tar, f"names {member.name!r} as file and as folder") from error
    if written != member.size:
        raise _refused(tar, f"is cut off inside {member.name!r}")


def _refused(tar: Path, what: str) -> InputError:
    return InputError(f"{what}: not unpacked", where=tar, remedy="do not trust this file, delete it")

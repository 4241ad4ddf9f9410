"""One self-describing output folder per stage: written aside, then renamed, every file hashed."""

from __future__ import annotations

import errno
import glob
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from slim import __version__
from slim.contents import stranger
from slim.errors import ArtifactError, InputError
from slim.numerics import file_sha256

MANIFEST = "manifest.json"
FORMAT = 1
_SWAPS = 100
# What a renaming says when another process has put a folder there, or moved it away, in between.
_MEANWHILE = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
_MAX_MANIFEST = 16 << 20
_FIELDS = {
    "stage": str,
    "recipe": dict,
    "parent": str,
    "files": dict,
    "tools": dict,
    "seed": int,
    "data": dict,
    "facts": dict,
}
_TOOLS = ("paddlepaddle", "paddleslim", "paddlelite", "numpy", "opencv-python")


@dataclass(frozen=True)
class Manifest:
    """What a folder holds and where it comes from.

    Attributes:
        stage: "train", "prune", "quant", "export" or "check".
        recipe: the configuration section the stage was run with.
        parent: sha256 of the weights the stage started from.
        files: relative path -> sha256.
        tools: package -> version, and the Python version.
        seed: seed of the stage.
        data: data sets used, each with path, count and sha256.
        facts: whatever the stage wants to state (metrics, opt version, ...).
    """

    stage: str
    recipe: Mapping[str, Any]
    parent: str
    files: Mapping[str, str]
    tools: Mapping[str, str]
    seed: int
    data: Mapping[str, Any]
    facts: Mapping[str, Any]


def tool_versions() -> dict[str, str]:
    """Versions of the packages results depend on."""
    found = {"python": platform.python_version(), "slim": __version__}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


@contextmanager
def writing(dest: Path) -> Iterator[Path]:
    """A temporary sibling of ``dest`` to write into; renamed to ``dest`` when the block ends well.

    An older ``dest`` of ours is replaced as a whole; a folder that is not ours is refused. When the
    block raises, the temporary folder is removed and the old folder stays as it was.

    Raises:
        InputError: ``dest`` cannot be written, or holds files this toolkit did not write.
    """
    dest = real(dest)
    aside = _aside(dest)
    try:
        yield aside
        _swap(aside, dest)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def require_writable(dest: Path) -> None:
    """Refuse a ``dest`` that `writing` would refuse, before hours of work go into what it would hold.

    Leaves no trace, but for folders above ``dest`` that did not exist.

    Raises:
        InputError: ``dest`` cannot be written, or holds files this toolkit did not write.
    """
    _aside(real(dest)).rmdir()


def real(path: Path) -> Path:
    """Where a path leads to, links followed; InputError where they lead in a circle."""
    try:
        return path.resolve()
    except RuntimeError as error:  # what Python 3.10 says of a circle
        raise InputError("is a link that leads to itself", where=path, remedy="name another place") from error


def _aside(dest: Path) -> Path:
    try:
        _refuse_foreign(dest)
        dest.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(dest)
        aside = dest.with_name(f".{dest.name}.tmp-{os.getpid()}")
        aside.mkdir()
    except OSError as error:
        raise InputError(
            f"cannot write here ({error.strerror})", where=dest, remedy="choose another --out"
        ) from error
    return aside


def _refuse_foreign(dest: Path) -> None:
    if dest.exists() and not dest.is_dir():
        raise InputError("exists and is not a folder", where=dest, remedy="choose another --out")
    if not dest.is_dir() or not any(dest.iterdir()):
        return
    try:
        manifest = read_manifest(dest)
    except ArtifactError as error:
        raise InputError(
            "holds files that slim did not write", where=dest, remedy="choose another --out or empty it"
        ) from error
    if (name := stranger(dest, manifest.stage, {MANIFEST, *manifest.files})) is not None:
        raise InputError(
            f"holds {name}, which slim did not write", where=dest, remedy="move it, or choose another --out"
        )


def _clear_leftovers(dest: Path) -> None:
    """Put back a folder whose process was killed between the two renames; remove what else it left."""
    for left in sorted(dest.parent.glob(f".{glob.escape(dest.name)}.*-*")):
        kind, _, pid = left.name[len(dest.name) + 2 :].partition("-")
        if kind not in ("old", "tmp") or not pid.isdecimal() or _runs(int(pid)):
            continue
        if kind == "old" and not dest.exists():
            os.replace(left, dest)
        else:
            shutil.rmtree(left)


def _runs(pid: int) -> bool:
    """Whether another process of this number exists."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _swap(aside: Path, dest: Path) -> None:
    """Put ``aside`` in the place of ``dest``; who else does so at the same moment comes before or after."""
    for _ in range(_SWAPS):
        try:
            _swap_once(aside, dest)
            return
        except OSError as error:
            if error.errno not in _MEANWHILE:
                raise
    raise InputError("is in use by another run", where=dest, remedy="wait for it, or choose another --out")


def _swap_once(aside: Path, dest: Path) -> None:
    if not dest.exists() or not any(dest.iterdir()):
        os.replace(aside, dest)
        return
    old = dest.with_name(f".{dest.name}.old-{os.getpid()}")
    os.replace(dest, old)
    try:
        os.replace(aside, dest)
    except OSError:
        _put_back(old, dest)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _put_back(old: Path, dest: Path) -> None:
    try:
        os.replace(old, dest)
    except OSError:
        if not dest.exists():
            raise
        shutil.rmtree(old, ignore_errors=True)  # another process has put its own there


def seal(
    folder: Path,
    stage: str,
    *,
    recipe: Mapping[str, Any],
    parent: str,
    seed: int,
    data: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Manifest:
    """Hash every file of ``folder`` and write its manifest; call it last, inside ``writing``."""
    files = {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    manifest = Manifest(stage, recipe, parent, files, tool_versions(), seed, data or {}, facts or {})
    write_json(folder / MANIFEST, {"format": FORMAT, **manifest.__dict__})
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder; raises ArtifactError when it is absent or damaged."""
    data = read_json(folder / MANIFEST)
    if data.get("format") != FORMAT:
        raise ArtifactError(
            f"manifest format {data.get('format')!r}, this version reads {FORMAT}", where=folder
        )
    for name, kind in _FIELDS.items():
        if not isinstance(data.get(name), kind):
            raise ArtifactError(
                f"manifest key {name!r} is missing or no {kind.__name__}",
                where=folder,
                remedy="write the artifact again",
            )
    return Manifest(**{name: data[name] for name in _FIELDS})


def verify(folder: Path) -> Manifest:
    """Read the manifest, compare every file's sha256; raises ArtifactError naming the first that differs."""
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if not real(path).is_relative_to(real(folder)):
            raise ArtifactError(f"manifest names {name!r}, outside the folder", where=folder)
        if not path.is_file():
            raise ArtifactError(f"{name} is missing", where=folder, remedy="write the artifact again")
        if file_sha256(path) != expected:
            raise ArtifactError(
                f"{name} was changed after it was written (sha256 differs)",
                where=folder,
                remedy="write the artifact again",
            )
    return manifest


def write_json(path: Path, data: Any) -> None:
    """JSON aside, then renamed; keys keep their order, text stays readable."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """UTF-8 text aside, then renamed; raises InputError when the folder cannot be written."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Bytes aside, then renamed; raises InputError when the folder cannot be written.

    A link stays one: the file it leads to is written. What is no file, as /dev/stdout, is written to.
    """
    try:
        if path.parent == Path("/dev") or (path.exists() and not path.is_file() and not path.is_dir()):
            path.write_bytes(data)
            return
        path = real(path)
        aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(data)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write ({error.strerror})", where=path, remedy="choose another --out"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most 16 MiB; raises ArtifactError in one line."""
    try:
        if path.stat().st_size > _MAX_MANIFEST:
            raise ArtifactError(f"is larger than {_MAX_MANIFEST} bytes", where=path)
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError("no such file", where=path, remedy="give a folder written by slim") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"is not readable JSON ({error})", where=path) from error
    if not isinstance(data, dict):
        raise ArtifactError("is not a JSON object", where=path)
    return data

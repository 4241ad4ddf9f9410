"""Several files that belong together: all of them are written, or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from slim import artifact
from slim.errors import InputError


def write_together(files: Mapping[Path, bytes | Path]) -> None:
    """Write files (place -> its bytes, or a file to copy), all aside first, then renamed in this order.

    A place that is a link stays one: the file it leads to is written.

    Raises:
        InputError: a file cannot be read or written; every file is then what it was.
    """
    real = {artifact.real(path): content for path, content in files.items()}
    left: list[Path] = []
    at = Path()
    try:
        for at, content in real.items():
            _prepare(at, content)
        for at in real:
            left.append(at)
            os.replace(_beside(at, "tmp"), at)
        left.clear()
    except OSError as error:
        raise InputError(f"cannot write ({error.strerror})", where=at) from error
    finally:  # Ctrl-C too
        for dest in left:
            _restore(dest)
        for dest in real:
            _remove(_beside(dest, "tmp"))
            _remove(_beside(dest, "old"))


def _beside(dest: Path, kind: str) -> Path:
    return dest.with_name(f".{dest.name}.{kind}-{os.getpid()}")


def _prepare(dest: Path, content: bytes | Path) -> None:
    """The new file beside its place, and a copy of the old one that the place can get back."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        _beside(dest, "tmp").write_bytes(content)
    else:
        shutil.copyfile(content, _beside(dest, "tmp"))
    if dest.exists():
        shutil.copy2(dest, _beside(dest, "old"))


def _restore(dest: Path) -> None:
    old = _beside(dest, "old")
    if old.exists():
        os.replace(old, dest)
    else:
        dest.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:  # then nothing was written there either
        return

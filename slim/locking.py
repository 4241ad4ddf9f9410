"""One process at a time in a folder that a run goes on in."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slim.distributed import is_first
from slim.errors import InputError
from slim.progress import Reporter

LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def held(folder: Path, progress: Reporter) -> Iterator[None]:
    """``folder``, made when absent, is this process's until the block ends; removed again when it is empty.

    The lock is the kernel's: that of a killed process is free. A file system without locks is said so, and
    the work goes on. Of several processes of one run (`slim.distributed`) the first holds it for all.

    Raises:
        InputError: another process holds the folder, or it cannot be written.
    """
    if not is_first():
        yield
        return
    stream = _locked(folder, progress)
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        os.close(stream)
        with suppress(OSError):
            folder.rmdir()


def _locked(folder: Path, progress: Reporter) -> int:
    """An open lock file that is still the one in the folder: its last holder may have removed it."""
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stream = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # the folder was removed in between
            continue
        except OSError as error:
            raise InputError(
                f"cannot write here ({error.strerror})", where=folder, remedy="choose another folder"
            ) from error
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(stream)
            raise InputError(
                "is in use by another run", where=folder, remedy="wait for it, or choose another folder"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(stream)
                raise
            progress.warn(f"{folder}: its file system has no locks, start nothing else there")
            return stream
        with suppress(OSError):
            if os.path.samestat(os.fstat(stream), os.stat(path)):
                return stream
        os.close(stream)

"""Child processes that may crash, hang or be interrupted, and never outlive their parent's interest."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slim.errors import StageFailed


@dataclass(frozen=True)
class Ended:
    """How a child ended: return code (negative: the signal), its output, whether the time limit ended it."""

    code: int
    stdout: str
    stderr: str
    timed_out: bool

    @property
    def died_of(self) -> str:
        """The end in words.

        >>> Ended(-6, "", "", False).died_of
        'killed by SIGABRT'
        """
        if self.timed_out:
            return "ran out of time"
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"


def run(command: Sequence[str], *, timeout: float, cwd: Path, threads: int = 1) -> Ended:
    """Run ``command`` in a process group of its own and wait at most ``timeout`` seconds.

    The whole group is killed when the time is up, and when this process is interrupted while waiting.

    Raises:
        StageFailed: the program cannot be started.
    """
    try:
        child = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=quiet_environment(threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise StageFailed(f"cannot start {command[0]} ({error.strerror})", where=cwd) from error
    try:
        out, err = child.communicate(timeout=timeout)
        return Ended(child.returncode, _text(out), _text(err), timed_out=False)
    except subprocess.TimeoutExpired:
        kill_group(child)
        out, err = child.communicate()
        return Ended(child.returncode, _text(out), _text(err), timed_out=True)
    except BaseException:
        kill_group(child)
        child.communicate()
        raise


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the child and everything it started; nothing where it has ended already."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)


def quiet_environment(threads: int) -> dict[str, str]:
    """The environment for native code: ``threads`` threads, little logging."""
    count = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "GLOG_minloglevel": "2",
    }


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")

"""Asks a child Python what it can load: a broken native library kills its process, and that is not ours."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a child said: ``ok`` and its last line of output, or how it died in one line."""

    ok: bool
    text: str


def ask(code: str, *, python: str = sys.executable, timeout: float = 120.0) -> Answer:
    """Run ``code`` in a child of ``python`` for at most ``timeout`` seconds.

    The child gets no input and one native thread. A non-zero exit, a signal, a timeout or a missing
    interpreter gives ``ok=False`` and never raises.

    >>> ask("print(6 * 7)")
    Answer(ok=True, text='42')
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "GLOG_minloglevel": "3"}
    try:
        done = subprocess.run(
            [python, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return Answer(False, f"no answer within {timeout:g} s")
    except OSError as error:
        return Answer(False, f"{python} does not run: {error.strerror or error}")
    if done.returncode == 0:
        return Answer(True, _last_line(done.stdout))
    if done.returncode < 0:
        return Answer(False, f"killed by signal {-done.returncode}: {_last_line(done.stderr)}".rstrip(": "))
    return Answer(False, _last_line(done.stderr) or f"exit code {done.returncode}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""

"""Standard streams that are closed, full or read by nobody."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def hold() -> None:
    """Put the null device where a standard stream is closed (``slim ... >&-``).

    Else the next file opened would get the stream's number, and what a C library prints would go into that
    file; and Python would print errors on stdout, where a program reads one JSON object.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # in the order of their numbers: opening takes the lowest free one
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 (it stays open)
            os.set_inheritable(stream.fileno(), True)  # as the standard streams of child processes are
            setattr(sys, name, stream)


def say(line: str, stream: TextIO) -> None:
    """A line of an error; where it cannot be written, the other stream or the exit code alone must tell."""
    with suppress(OSError):
        print(line, file=stream, flush=True)


def flush() -> None:
    """Write out what stdout still holds, as the last thing of a command.

    Results are flushed where they are printed, and a full disk behind them is an error there.
    """
    try:
        sys.stdout.flush()
    except OSError:  # told already, or nobody reads any more: leave without Python's own complaint
        abandon(sys.stdout)


def abandon(stream: TextIO) -> None:
    """Let what is still written to a stream vanish."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

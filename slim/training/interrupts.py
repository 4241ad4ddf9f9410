"""Ctrl-C between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C inside the block takes effect at its end: half a step cannot be resumed.

    A second Ctrl-C takes effect at once; a SIGTERM that is handled as one (`slim.cli.terminate`) does not: a
    launcher sends it to processes that the terminal's Ctrl-C has reached already. Only the main thread, with
    Python's own handler, is changed.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    pressed = threading.Event()

    def remember(number: int, frame: Any) -> None:
        if pressed.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed.set()

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed.is_set():
        raise KeyboardInterrupt

"""Ctrl-C, and SIGTERM that does the same, between two steps and never within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def terminated(number: int, frame: FrameType | None) -> None:
    """Handler of SIGTERM that does what Ctrl-C does, also where that is ignored: a shell's background job."""
    raise KeyboardInterrupt


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C inside the block takes effect at its end: half a step cannot be resumed.

    A second Ctrl-C takes effect at once; a second SIGTERM does not, because launchers send several. Only the
    main thread is changed, and of the two signals those that have Python's own handler or `terminated`.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = [
        number for number, handler in before.items() if handler in (signal.default_int_handler, terminated)
    ]
    if threading.current_thread() is not threading.main_thread() or not ours:
        yield
        return
    pressed = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        if pressed.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed.set()

    for number in ours:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
    if pressed.is_set():
        raise KeyboardInterrupt

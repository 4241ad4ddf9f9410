"""A Reporter that writes to stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TextIO

_LINE_EVERY = 10.0  # seconds between lines where no bar can be drawn


class ConsoleReporter:
    """Messages and progress for people."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()

    def info(self, message: str) -> None:
        self._write(message)

    def warn(self, message: str) -> None:
        self._write(f"warning: {message}")

    def task(self, label: str, total: int | None = None) -> ConsoleTask:
        return ConsoleTask(self._stream, self._live, label, total)

    def _write(self, line: str) -> None:
        self._stream.write(("\r\x1b[K" if self._live else "") + line + "\n")
        self._stream.flush()


class ConsoleTask:
    """One bar: label, share done, the fields given last, time left."""

    def __init__(self, stream: TextIO, live: bool, label: str, total: int | None) -> None:
        self._stream, self._live, self._label, self._total = stream, live, label, total
        self._done = 0
        self._fields: dict[str, object] = {}
        self._start = self._shown = time.monotonic()

    def advance(self, n: int = 1, **fields: object) -> None:
        self._done += n
        self._fields.update(fields)
        now = time.monotonic()
        if now - self._shown >= (0.2 if self._live else _LINE_EVERY):
            self._shown = now
            self._draw(now)

    def __enter__(self) -> ConsoleTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = time.monotonic()
        if self._live or now - self._start >= 1.0:
            self._draw(now, end=True)

    def _draw(self, now: float, end: bool = False) -> None:
        line = self._line(now - self._start)
        if self._live:
            self._stream.write("\r\x1b[K" + line + ("\n" if end else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _line(self, seconds: float) -> str:
        count = f"{self._done}/{self._total}" if self._total else str(self._done)
        parts = [f"{self._label} {count}"]
        parts += [f"{key} {_short(value)}" for key, value in self._fields.items()]
        if self._total and 0 < self._done < self._total:
            parts.append(f"ETA {_clock(seconds / self._done * (self._total - self._done))}")
        else:
            parts.append(_clock(seconds))
        return "  ".join(parts)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    """Minutes and seconds, hours where needed.

    >>> _clock(75), _clock(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

"""A Reporter that writes to stderr: rich's live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from slim.progress import Task

_LINE_EVERY = 10.0  # seconds between lines where no bar can be drawn
_WORTH_A_LINE = 1.0  # seconds: shorter work is not mentioned in a log


class ConsoleReporter:
    """Messages and progress for people."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars = _Bars(stream) if stream.isatty() else None

    def info(self, message: str) -> None:
        self._write(message)

    def warn(self, message: str) -> None:
        self._write(f"warning: {message}")

    def task(self, label: str, total: int | None = None) -> Task:
        return LogTask(self._stream, label, total) if self._bars is None else self._bars.task(label, total)

    def _write(self, line: str) -> None:
        if self._bars is not None:
            self._bars.say(line)
            return
        self._stream.write(line + "\n")
        self._stream.flush()


class _Bars:
    """One live display for all tasks that run at a time; it ends with the last of them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._progress: Progress | None = None
        self._open = 0

    def task(self, label: str, total: int | None) -> BarTask:
        if self._progress is None:
            self._progress = self._started()
        self._open += 1
        return BarTask(self, self._progress, self._progress.add_task(label, total=total, fields=""))

    def close(self) -> None:
        self._open -= 1
        if self._open == 0 and self._progress is not None:
            self._progress.stop()
            self._progress = None

    def say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        self._stream.write(line + "\n")
        self._stream.flush()

    def _started(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fields]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=Console(file=self._stream),
        )
        progress.start()
        return progress


class BarTask:
    """One bar: label, share done, the fields given last, time left."""

    def __init__(self, bars: _Bars, progress: Progress, number: TaskID) -> None:
        self._bars, self._progress, self._number = bars, progress, number
        self._fields: dict[str, object] = {}

    def advance(self, n: int = 1, **fields: object) -> None:
        self._fields.update(fields)
        self._progress.update(self._number, advance=n, fields=_shown(self._fields))

    def __enter__(self) -> BarTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop_task(self._number)
        self._bars.close()


class LogTask:
    """The same for a log: a line every ten seconds and one at the end."""

    def __init__(self, stream: TextIO, label: str, total: int | None) -> None:
        self._stream, self._label, self._total = stream, label, total
        self._done = self._said = 0
        self._fields: dict[str, object] = {}
        self._start = self._written = time.monotonic()

    def advance(self, n: int = 1, **fields: object) -> None:
        self._done += n
        self._fields.update(fields)
        now = time.monotonic()
        if now - self._written >= _LINE_EVERY:
            self._written, self._said = now, self._done
            self._write(now - self._start)

    def __enter__(self) -> LogTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._start
        if seconds >= _WORTH_A_LINE and self._said < self._done:
            self._write(seconds)

    def _write(self, seconds: float) -> None:
        count = f"{self._done}/{self._total}" if self._total else str(self._done)
        parts = [f"{self._label} {count}", *([_shown(self._fields)] if self._fields else [])]
        if self._total and 0 < self._done < self._total:
            parts.append(f"ETA {_clock(seconds / self._done * (self._total - self._done))}")
        else:
            parts.append(_clock(seconds))
        self._stream.write("  ".join(parts) + "\n")
        self._stream.flush()


def _shown(fields: dict[str, object]) -> str:
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in fields.items()
    )


def _clock(seconds: float) -> str:
    """Minutes and seconds, hours where needed.

    >>> _clock(75), _clock(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

"""How long work tells what it is doing: the library calls a Reporter, only the CLI draws one."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Task(Protocol):
    """One piece of long work; a context manager whose end closes the line."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count ``n`` more units as done and show ``fields`` (loss, metric, ...)."""

    def __enter__(self) -> Task: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Reporter(Protocol):
    """Where messages and progress of the library go."""

    def info(self, message: str) -> None:
        """A fact worth a line: what was inferred, resolved, replaced."""

    def warn(self, message: str) -> None:
        """Something the user should look at; the work goes on."""

    def task(self, label: str, total: int | None = None) -> Task:
        """Start a piece of long work of ``total`` units (None: unknown)."""


class _SilentTask:
    def advance(self, n: int = 1, **fields: object) -> None:
        return None

    def __enter__(self) -> _SilentTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Silent:
    """A Reporter that keeps quiet: the default everywhere in the library."""

    def info(self, message: str) -> None:
        return None

    def warn(self, message: str) -> None:
        return None

    def task(self, label: str, total: int | None = None) -> Task:
        return _SilentTask()

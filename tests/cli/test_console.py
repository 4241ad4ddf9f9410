"""Progress where no bar can be drawn: lines of a log."""

from __future__ import annotations

import io

import pytest

from slim.cli import console
from slim.cli.console import LogTask


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_ten_seconds_and_one_at_the_end(clock: list[float]) -> None:
    stream = io.StringIO()
    with LogTask(stream, "score", 4) as task:
        for _ in range(4):
            clock[0] += 6
            task.advance(acc=0.5)
    assert stream.getvalue().splitlines() == [
        "score 2/4  acc 0.5  ETA 0:12",
        "score 4/4  acc 0.5  0:24",
    ]


def test_an_end_that_nothing_was_told_of_yet_is_told(clock: list[float]) -> None:
    stream = io.StringIO()
    with LogTask(stream, "score", 3) as task:
        for _ in range(3):
            clock[0] += 6
            task.advance()
    assert stream.getvalue().splitlines() == ["score 2/3  ETA 0:06", "score 3/3  0:18"]


def test_short_work_is_not_mentioned(clock: list[float]) -> None:
    stream = io.StringIO()
    with LogTask(stream, "score", 1) as task:
        clock[0] += 0.5
        task.advance()
    assert stream.getvalue() == ""

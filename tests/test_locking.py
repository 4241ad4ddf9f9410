"""One process at a time in a folder: refused while held, free when its holder is killed, gone when empty."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slim.errors import InputError
from slim.locking import LOCK, held
from slim.progress import Silent

HOLDER = """
import sys, time
from pathlib import Path
from slim.locking import held
from slim.progress import Silent
with held(Path(sys.argv[1]), Silent()):
    print("inside", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_made_and_gone_when_nothing_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "work"
    with held(folder, Silent()):
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert not folder.exists()
    with held(folder, Silent()):
        (folder / "kept").write_text("kept")
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path: Path, checkout: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "work")],
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "inside\n"
    with (
        pytest.raises(InputError, match="is in use by another run; wait for it"),
        held(tmp_path / "work", Silent()),
    ):
        raise AssertionError("two at once")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with held(tmp_path / "work", Silent()):
        assert (tmp_path / "work" / LOCK).is_file()
    assert not (tmp_path / "work").exists()


def test_the_folder_may_be_removed_inside(tmp_path: Path) -> None:
    with held(tmp_path / "work", Silent()):
        (tmp_path / "work" / LOCK).unlink()
        (tmp_path / "work").rmdir()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(InputError, match="cannot write here .*; choose another folder"),
        held(tmp_path / "file" / "work", Silent()),
    ):
        raise AssertionError("no folder")


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def none(stream: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    reporter = Silent()
    monkeypatch.setattr(reporter, "warn", said.append, raising=False)
    with held(tmp_path / "work", reporter):
        assert len(said) == 1 and "has no locks" in said[0]

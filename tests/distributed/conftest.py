"""Starting a program in several processes, as a user would."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slim.checkpoint import read_pdparams, read_pickle

HERE = Path(__file__).resolve().parent


@dataclass
class Launch:
    """A run of ``paddle.distributed.launch``, or of the program alone where ``processes`` is 1.

    Attributes:
        folder: the working directory, outside the checkout; the launcher's logs are in ``folder/log``.
    """

    checkout: Path
    folder: Path

    def start(
        self, processes: int, program: Path, arguments: Sequence[str], *, launcher: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start it; ``launcher`` are further options of the launcher."""
        environment = {**os.environ, "PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1"}
        head = [sys.executable]
        if processes > 1 or launcher:
            head += ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), *launcher]
        return subprocess.Popen(
            [*head, str(program), *arguments], cwd=self.folder, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def run(self, processes: int, program: Path, *arguments: str, seconds: float = 170) -> tuple[int, str]:
        """Exit code, and what was said."""
        child = self.start(processes, program, arguments)
        try:
            said, _ = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        return child.returncode, said

    def log(self, rank: int) -> str:
        """What one process said."""
        return (self.folder / "log" / f"workerlog.{rank}").read_text(encoding="utf-8")

    @staticmethod
    def weights(path: Path) -> dict[str, Any]:
        """Arrays of a checkpoint."""
        return read_pdparams(path)

    @staticmethod
    def states(path: Path) -> dict[str, Any]:
        """Step, metric and the like of a checkpoint."""
        found: dict[str, Any] = read_pickle(path)
        return found


@pytest.fixture
def launch(checkout: Path, tmp_path: Path) -> Launch:
    folder = tmp_path / "else where"
    folder.mkdir()
    return Launch(checkout, folder)


@pytest.fixture
def tiny() -> Path:
    """The program that trains a tiny net."""
    return HERE / "train_tiny.py"


@pytest.fixture(scope="session")
def slim_script() -> Path:
    """The console script, which the launcher can start; ``-m slim`` it cannot."""
    found = shutil.which("slim", path=str(Path(sys.executable).parent))
    assert found is not None
    return Path(found)

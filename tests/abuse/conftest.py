"""The command line as a child process that can be killed, starved or denied, and small data for it."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from slim.config.overrides import data_overrides

MODEL = "zoo:ch_ppocr_mobile_v2.0_cls"
FEW = [
    "Prune.images=16",
    "Prune.ratios=[0.25]",
    "Prune.bn_batches=2",
    "Prune.Finetune.steps=8",
    "Prune.Finetune.batch_size=8",
    "Prune.Finetune.save_every=1",
    "Quant.images=16",
    "Quant.Finetune.steps=8",
    "Quant.Finetune.batch_size=8",
    "Quant.Finetune.save_every=1",
    "Check.simulation_images=16",
]


@dataclass(frozen=True)
class Slim:
    """Starts `slim` as a user would, in a process of its own.

    Attributes:
        checkout: where the packages are.
        data: overrides that point the recipe cls/cls_demo at a few rendered lines.
    """

    checkout: Path
    data: tuple[str, ...]

    def stage(self, command: str, out: Path, *overrides: str) -> list[str]:
        """Arguments of a stage of the bundled classifier that takes seconds."""
        if command == "export-nb":
            return [command, MODEL, "--target", "arm,x86", "--out", str(out)]
        if command == "train":
            more = [
                f"Global.save_model_dir={out}",
                "Global.epoch_num=4",
                "Train.loader.batch_size_per_card=8",
            ]
            return [command, "-c", "cls/cls_demo", "-o", *more, *self.data, *overrides]
        where = ["--model", MODEL, "--out", str(out)]
        return [command, "-c", "cls/cls_demo", *where, "-o", *FEW, *self.data, *overrides]

    def start(
        self,
        args: Sequence[str],
        *,
        file_bytes: int | None = None,
        user: int | None = None,
        before: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> subprocess.Popen[str]:
        """Start it.

        Args:
            file_bytes: no file may become larger; writing past it fails with EFBIG.
            user: run as this user.
            before: words in front of the command line.
        """
        environment = {**os.environ, "PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1"}
        if user is not None:
            environment |= {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}

        def limit() -> None:
            if file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        command = [*before, sys.executable, "-m", "slim", *args]
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, preexec_fn=limit, user=user, group=user,
            extra_groups=None if user is None else [],
        )  # fmt: skip

    def run(self, args: Sequence[str], **options: object) -> tuple[int, str]:
        """Exit code and stderr."""
        child = self.start(args, **options)  # type: ignore[arg-type]
        _, said = child.communicate(timeout=600)
        return child.returncode, said


@pytest.fixture(scope="session")
def slim(checkout: Path, few_lines: Path) -> Slim:
    """`slim` with 32 training, 16 evaluation and 16 calibration lines."""
    return Slim(checkout, tuple(data_overrides(few_lines)))


@pytest.fixture(scope="session")
def hashes() -> Callable[[Path], dict[str, str]]:
    """sha256 of every file below a folder, by its path there."""

    def found(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    return found


@pytest.fixture(scope="session")
def one_line() -> Callable[[str], str]:
    """The last line of stderr, when it is an error of ours and no traceback is above it."""

    def last(said: str) -> str:
        assert "Traceback" not in said, said[-3000:]
        line = said.strip().splitlines()[-1]
        assert line.startswith("slim: ") and "unexpected" not in line, said[-3000:]
        return line

    return last

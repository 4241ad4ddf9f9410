"""The scripts a machine runs: they parse, are executable and stop at the first failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = (".ci/run", "scripts/install.sh", "scripts/find-python.sh", "scripts/lock.sh")


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse_and_are_executable(checkout: Path, script: str) -> None:
    path = checkout / script
    assert os.access(path, os.X_OK)
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def tree(checkout: Path, tmp_path: Path) -> Path:
    """A folder with the real .ci/run, a Makefile that only tells, and a `slim` that only tells."""
    place = tmp_path / "a tree"
    (place / ".ci").mkdir(parents=True)
    shutil.copy2(checkout / ".ci" / "run", place / ".ci" / "run")
    (place / "Makefile").write_text(
        "install quality demo:\n\t@echo made $@\ntest:\n\t@echo '3 passed in 1.00s'; exit $(RC)\n",
        encoding="utf-8",
    )
    for model in ("cls", "rec"):
        (place / "output" / "demo" / model).mkdir(parents=True)
        (place / "output" / "demo" / model / "report.json").write_text("{}", encoding="utf-8")
    command = place / "venv" / "bin" / "slim"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "slim $*"\nexit "${SLIM_RC:-0}"\n', encoding="utf-8")
    command.chmod(0o755)
    return place


def run_ci(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tree / ".ci" / "run")],
        env={**os.environ, "VENV": "venv", "RC": "0", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_ci_runs_every_step_and_closes_with_the_test_runners_line(tree: Path) -> None:
    done = run_ci(tree)
    assert done.returncode == 0, done.stderr
    order = [done.stdout.index(text) for text in ("made install", "made quality", "3 passed", "made demo")]
    assert order == sorted(order)
    reports = "output/demo/cls/report.json output/demo/rec/report.json"
    assert f"slim compare --baseline tests/refs/demo.yml {reports}" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "3 passed in 1.00s"


def test_ci_is_red_when_a_test_fails(tree: Path) -> None:
    done = run_ci(tree, RC="1")
    assert done.returncode != 0
    assert "made demo" not in done.stdout


def test_ci_is_red_when_the_reports_miss_the_references(tree: Path) -> None:
    assert run_ci(tree, SLIM_RC="1").returncode == 1

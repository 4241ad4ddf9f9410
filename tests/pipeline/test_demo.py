"""The demo's own process handling and its recipes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from slim.config import find_config, load_config
from slim.config.overrides import data_overrides
from slim.pipeline.demo import JOBS, relay
from slim.resources import configs_root


def test_an_answer_larger_than_a_pipe_does_not_block() -> None:
    code = "import sys; print('x' * 1_000_000); print('said', file=sys.stderr); sys.exit(3)"
    heard: list[str] = []
    answer, ended = relay([sys.executable, "-c", code], heard.append)
    assert (len(answer.strip()), ended, heard) == (1_000_000, 3, ["said"])


def test_a_demo_that_is_ended_ends_its_children(tmp_path: Path) -> None:
    """`docker stop` signals one process, not the two that it started."""
    command = [sys.executable, "-m", "slim", "demo", "--out", str(tmp_path / "demo")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    child.stderr.readline()  # one is at work, the other about to be
    while len(stages := _children(child.pid)) < 2:
        assert child.poll() is None
        time.sleep(0.01)
    child.terminate()
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert not [pid for pid in stages if Path(f"/proc/{pid}").exists()]


def _children(pid: int) -> list[str]:
    """What a process has started, from whichever of its threads."""
    return [p for task in Path(f"/proc/{pid}/task").glob("*/children") for p in task.read_text().split()]


def test_the_recipes_name_the_demos_own_folders() -> None:
    """So that `slim prune -c rec/en_number_demo` works after `make demo`, as the README says."""
    for job in JOBS:
        plain = load_config(find_config(job.config))
        pointed = load_config(find_config(job.config), data_overrides(Path("output/demo/data") / job.task))
        assert plain.resolved() == pointed.resolved()
        assert plain.out_folder == Path("output/demo") / plain.name
    assert configs_root().is_dir()

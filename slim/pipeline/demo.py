"""The main job on the bundled classifier and recognizer, from nothing: data, all stages, one table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slim.artifact import MANIFEST, verify
from slim.config.overrides import data_overrides
from slim.errors import StageFailed
from slim.progress import Reporter

# The data sets are the same for every --seed: results of different seeds stay comparable.
_DATA_SEED = 2021
_PATIENCE = 10.0
"""Seconds that an interrupted stage may take to write its checkpoint."""
_children: list[subprocess.Popen[str]] = []


@dataclass(frozen=True)
class Job:
    """One model of the demo: its recipe and the data it is worked on with."""

    config: str
    task: str
    train: int
    evaluation: int
    calibration: int


JOBS = (Job("cls/cls_demo", "cls", 2400, 2000, 320), Job("rec/en_number_demo", "rec", 2400, 2000, 320))


def run_demo(
    out: Path, *, only: str | None, fresh: bool, seed: int, progress: Reporter
) -> list[dict[str, Any]]:
    """Render the data sets and run the recipes below ``out``; returns their reports, gates not yet judged.

    Everything is seeded: the data sets byte for byte, the results up to the machine's floating point.

    Args:
        only: one task; None: both, side by side in two processes of one thread each, which is what two
            cores are quickest with (depthwise convolutions do not use a second thread).
    Raises:
        SlimError: what a stage raised; from a side process with its message and exit code.
    """
    if only is None:
        with ThreadPoolExecutor(len(JOBS)) as pool, _ended_with_us():
            return list(pool.map(lambda job: _beside(job, out, fresh, seed, progress), JOBS))
    return [_run(job, out, fresh, seed, progress) for job in JOBS if job.task == only]


def _run(job: Job, out: Path, fresh: bool, seed: int, progress: Reporter) -> dict[str, Any]:
    from slim.config import find_config, load_config
    from slim.pipeline.run import run_recipe

    data = out / "data" / job.task
    _data(job, data, progress)
    config = load_config(find_config(job.config), data_overrides(data), notices=progress.info)
    folder = out / config.name
    return run_recipe(config, model=None, out=folder, targets=None, fresh=fresh, seed=seed, progress=progress)


def _beside(job: Job, out: Path, fresh: bool, seed: int, progress: Reporter) -> dict[str, Any]:
    """One job in a process of its own; its lines go on to ``progress``."""
    command = [sys.executable, "-m", "slim", "demo", "--only", job.task, "--out", str(out), "--json"]
    command += ["--seed", str(seed), *(["--fresh"] if fresh else [])]
    answer, code = relay(command, lambda line: progress.info(f"{job.task}  {line}"))
    try:
        data = json.loads(answer)
    except ValueError as error:
        raise StageFailed(f"the process of {job.task} ended with {code} and no answer") from error
    if "error" in data:
        failed = StageFailed(data["error"])
        failed.exit_code = data["exit_code"]
        raise failed
    report: dict[str, Any] = data["reports"][0]
    return report


def relay(command: list[str], say: Callable[[str], None]) -> tuple[str, int]:
    """Run a command; its stderr goes to ``say`` line by line, its stdout and exit code are returned.

    stdout goes to a file: a report is larger than a pipe holds, and the child would wait for ever.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        child = subprocess.Popen(command, stdout=answer, stderr=subprocess.PIPE, text=True)
        _children.append(child)
        assert child.stderr is not None
        for line in child.stderr:
            say(line.rstrip())
        code = child.wait()
        _children.remove(child)
        answer.seek(0)
        return answer.read(), code


@contextmanager
def _ended_with_us() -> Iterator[None]:
    """When this process is interrupted the children are: the threads that read from them end with them."""
    try:
        yield
    except BaseException:
        running = list(_children)  # a thread takes its own out of the list once it has ended
        for child in running:
            child.terminate()
        end = time.monotonic() + _PATIENCE
        for child in running:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, end - time.monotonic()))
            child.kill()
        raise


def _data(job: Job, folder: Path, progress: Reporter) -> None:
    from slim.synth import GENERATOR_VERSION, synthesize

    counts = {"train": job.train, "eval": job.evaluation, "calib": job.calibration}
    if (folder / MANIFEST).is_file():
        found = verify(folder)
        made = found.recipe.get("counts"), found.seed, found.facts.get("generator")
        if made == (counts, _DATA_SEED, GENERATOR_VERSION):
            progress.info(f"data for {job.task}: already in {folder}")
            return
    progress.info(f"data for {job.task}: {folder}")
    synthesize(job.task, folder, counts, _DATA_SEED, None, progress)

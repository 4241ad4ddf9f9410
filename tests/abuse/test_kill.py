"""kill -9 at random moments: no artifact is ever half there, and going on ends with the same bytes."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slim.artifact import MANIFEST, verify

# Over 30 in all. A kill counts when it met a process at work.
KILLS = {"train": 10, "prune": 9, "quant": 9, "export-nb": 7}
# Share of a whole run before which no kill comes: Python and Paddle are still being loaded.
LOADING = 0.3


def _whole_or_absent(out: Path) -> None:
    """What a killed process leaves under the artifact's name is nothing, or an artifact."""
    if out.exists():
        verify(out)
        assert (out / MANIFEST).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("stage", KILLS)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    stage: str, slim: Any, tmp_path: Path, hashes: Callable[[Path], dict[str, str]]
) -> None:
    out = tmp_path / "runs" / "one"  # the same path each time: a manifest names it
    args = slim.stage(stage, out)
    began = time.monotonic()
    code, said = slim.run(args)
    assert code == 0, said[-3000:]
    seconds = time.monotonic() - began
    wanted, left = hashes(out), set(out.parent.iterdir())
    shutil.rmtree(out.parent)
    rng, killed, finished = random.Random(f"kill {stage}"), 0, 0
    while killed < KILLS[stage]:
        child = slim.start(args)
        try:
            _, said = child.communicate(timeout=rng.uniform(LOADING, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.communicate()
            killed += 1
            if stage != "train":
                _whole_or_absent(out)
            continue
        assert child.returncode == 0, said[-3000:]
        finished += 1
        assert hashes(out) == wanted
        shutil.rmtree(out.parent)
        assert finished < 3 * KILLS[stage], "it ends before it can be killed"
    code, said = slim.run(args)
    assert code == 0, said[-3000:]
    assert hashes(out) == wanted
    print(
        f"{stage}: {killed} kills, {finished + 2} whole runs of the same bytes, {seconds:.0f} s undisturbed"
    )
    # What the killed ones left aside is cleared away.
    assert set(out.parent.iterdir()) == left

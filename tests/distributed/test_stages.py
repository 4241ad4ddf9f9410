"""The commands in two processes, started outside the checkout: results, the one writer, and death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from slim.artifact import verify
from slim.config.overrides import data_overrides

MODEL = "zoo:ch_ppocr_mobile_v2.0_cls"
FEW = [
    "Prune.images=8",
    "Prune.ratios=[0.5]",
    "Prune.bn_batches=1",
    "Prune.Finetune.steps=2",
    "Prune.Finetune.batch_size=8",
    "Prune.Finetune.save_every=1",
    "Quant.images=8",
    "Quant.Finetune.steps=2",
    "Quant.Finetune.batch_size=8",
    "Quant.Finetune.save_every=1",
    "Check.simulation_images=16",
]
# Seconds from the death of one process to the end of the launch; the launcher looks every second or two.
SOON = 60


@pytest.fixture(scope="session")
def data(few_lines: Path) -> list[str]:
    """Overrides that point the recipe cls/cls_demo at a few rendered lines."""
    return data_overrides(few_lines)


def _stage(command: str, out: Path, *overrides: str) -> list[str]:
    return [command, "-c", "cls/cls_demo", "--model", MODEL, "--out", str(out), "-o", *FEW, *overrides]


def _entry(out: Path) -> dict[str, Any]:
    """What the stage says of its result."""
    entry: dict[str, Any] = verify(out).facts["lineage"][-1]
    return entry


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2])
def test_two_processes_prune_as_one(
    launch: Any, slim_script: Path, tmp_path: Path, data: list[str], processes: int
) -> None:
    outs = []
    for count in (1, processes):
        out = tmp_path / f"by {count}" / "p"
        code, said = launch.run(count, slim_script, *_stage("prune", out, *data), seconds=900)
        assert code == 0, said[-3000:]
        outs.append(out)
    one, two = outs
    assert (one / "sensitivity.json").read_bytes() == (two / "sensitivity.json").read_bytes()
    assert (one / "plan.json").read_bytes() == (two / "plan.json").read_bytes()
    assert _entry(one)["cut_weights"] == _entry(two)["cut_weights"]
    # 16 lines: one line is 0.0625.
    assert abs(_entry(one)["metrics"]["acc"] - _entry(two)["metrics"]["acc"]) <= 0.125
    assert _files(one) == _files(two) and _files(two.parent) == {"p"}
    # One talks: nothing of what rank 0 says is in the other's log.
    assert "sensitivity of" in said and "sensitivity of" not in launch.log(1)


@pytest.mark.slow
def test_two_processes_quantize(launch: Any, slim_script: Path, tmp_path: Path, data: list[str]) -> None:
    outs = []
    for count in (1, 2):
        out = tmp_path / f"by {count}" / "q"
        code, said = launch.run(count, slim_script, *_stage("quant", out, *data), "--json", seconds=900)
        assert code == 0, said[-3000:]
        (answer,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        assert all(check["passed"] for check in answer["checks"]) and answer["out"] == str(out)
        outs.append(out)
    one, two = (_entry(out)["metrics"]["acc"] for out in outs)
    assert abs(one - two) <= 0.125
    assert _files(outs[0]) == _files(outs[1]) and _files(outs[1].parent) == {"q"}


def _workers(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """Rank -> process id of the launcher's children."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text(encoding="utf-8")
    found = {}
    for pid in map(int, children.split()):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks = [v.partition(b"=")[2] for v in variables if v.startswith(b"PADDLE_TRAINER_ID=")]
        found |= {int(rank): pid for rank in ranks}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_is_killed_and_all_stop(
    launch: Any, slim_script: Path, tmp_path: Path, data: list[str], rank: int
) -> None:
    out = tmp_path / "runs" / "p"
    steps = "Prune.Finetune.steps=30"
    args = _stage("prune", out, *data, steps, "Prune.method=ratio", "Prune.ratio=0.25")
    child = launch.start(2, slim_script, args)
    saved = out.with_name("p.work") / "finetune" / "latest.states"
    try:
        while not saved.is_file():
            assert child.poll() is None, child.communicate()[0][-3000:]
            time.sleep(0.05)
        os.kill(_workers(child)[rank], signal.SIGKILL)
        began = time.monotonic()
        said, _ = child.communicate(timeout=SOON)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    print(f"rank {rank} killed: exit code {child.returncode} after {time.monotonic() - began:.1f} s")
    assert child.returncode != 0
    assert not out.exists()
    code, said = launch.run(1, slim_script, *args, seconds=900)
    assert code == 0, said[-3000:]
    assert "goes on from step" in said
    assert _entry(out)["finetune_steps"] == 30 and _files(out.parent) == {"p"}


@pytest.mark.slow
def test_what_works_in_one_process_only_is_refused(launch: Any, slim_script: Path) -> None:
    code, said = launch.run(2, slim_script, "models")
    assert code == 2
    assert "slim models works in one process, 2 were launched" in said and "Traceback" not in said

"""The commands in two processes, started outside the checkout: results, the one writer, and death."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slim.artifact import verify
from slim.config.overrides import data_overrides
from slim.progress import Silent
from slim.synth import synthesize

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


@pytest.fixture
def both(launch: Any, slim_script: Path, tmp_path: Path) -> Callable[..., list[tuple[Path, str]]]:
    """One command in one and in two processes: the folder each wrote, and what it said."""

    def run(arguments: Callable[[Path], list[str]]) -> list[tuple[Path, str]]:
        found = []
        for count in (1, 2):
            out = tmp_path / f"by {count}" / "p"
            code, said = launch.run(count, slim_script, *arguments(out), seconds=900)
            assert code == 0, said[-3000:]
            found.append((out, said))
        return found

    return run


@pytest.mark.slow
def test_two_processes_prune_as_one(launch: Any, both: Any, data: list[str]) -> None:
    (one, _), (two, said) = both(lambda out: _stage("prune", out, *data))
    assert (one / "sensitivity.json").read_bytes() == (two / "sensitivity.json").read_bytes()
    assert (one / "plan.json").read_bytes() == (two / "plan.json").read_bytes()
    assert _entry(one)["cut_weights"] == _entry(two)["cut_weights"]
    # 16 lines: one line is 0.0625.
    assert abs(_entry(one)["metrics"]["acc"] - _entry(two)["metrics"]["acc"]) <= 0.125
    assert _files(one) == _files(two) and _files(two.parent) == {"p"}
    # One talks: nothing of what rank 0 says is in the other's log.
    assert "sensitivity of" in said and "sensitivity of" not in launch.log(1)


@pytest.mark.slow
def test_two_processes_quantize(both: Any, data: list[str]) -> None:
    runs = both(lambda out: [*_stage("quant", out, *data), "--json"])
    for out, said in runs:
        answer = _answer(said)
        assert all(check["passed"] for check in answer["checks"]) and answer["out"] == str(out)
    one, two = (out for out, _ in runs)
    assert abs(_entry(one)["metrics"]["acc"] - _entry(two)["metrics"]["acc"]) <= 0.125
    assert _files(one) == _files(two) and _files(two.parent) == {"p"}


def _answer(said: str) -> Any:
    """The one JSON object."""
    (answer,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return answer


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
    _once_it_saved(child, out, lambda: os.kill(_workers(child)[rank], signal.SIGKILL))
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


@pytest.mark.slow
def test_ctrl_c_stops_all_and_the_same_command_goes_on(
    launch: Any, slim_script: Path, tmp_path: Path, data: list[str]
) -> None:
    """The terminal signals the launcher, and that sends SIGTERM, several times, to the two processes."""
    out = tmp_path / "runs" / "p"
    args = _stage("prune", out, *data, "Prune.Finetune.steps=30", "Prune.method=ratio", "Prune.ratio=0.25")
    child = launch.start(2, slim_script, args)
    said = _once_it_saved(child, out, lambda: os.killpg(child.pid, signal.SIGINT))
    assert child.returncode != 0 and not out.exists()
    assert "Traceback" not in said and "Traceback" not in launch.log(1), said[-3000:]
    code, said = launch.run(2, slim_script, *args, seconds=900)
    assert code == 0, said[-3000:]
    assert "goes on from step" in said and _files(out.parent) == {"p"}


def _once_it_saved(child: subprocess.Popen[str], out: Path, strike: Callable[[], None]) -> str:
    """What a launch said that was struck after its first checkpoint, and ended soon."""
    saved = out.with_name(f"{out.name}.work") / "finetune" / "latest.states"
    try:
        while not saved.is_file():
            assert child.poll() is None, child.communicate()[0][-3000:]
            time.sleep(0.05)
        strike()
        began = time.monotonic()
        said, _ = child.communicate(timeout=SOON)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    print(f"exit code {child.returncode} after {time.monotonic() - began:.1f} s")
    return said


@pytest.mark.slow
def test_two_processes_prune_a_recognizer_in_rounds(both: Any, tmp_path: Path) -> None:
    """Two rounds, each with finetuning, LSTM included: the plans of two processes are those of one."""
    lines = tmp_path / "few lines"
    synthesize("rec", lines, {"train": 32, "eval": 16, "calib": 16}, 3, None, Silent())
    recipe = ["method=ratio", "ratio=0.1", "flops=null", "rounds=2", "exclude=[]"]
    given = [*FEW, *(f"Prune.{change}" for change in recipe), *data_overrides(lines)]
    runs = both(lambda out: ["prune", "-c", "rec/en_number_demo", "--out", str(out), "-o", *given])
    outs = [out for out, _ in runs]
    one, two = (json.loads((out / "plan.json").read_text())["plans"] for out in outs)
    assert one[0] == two[0] and len(one) == len(two) == 2
    # What is cut after a round of training differs by its rounding; how much is cut does not.
    assert _sizes(one[1]) == _sizes(two[1])
    assert _files(outs[0]) == _files(outs[1]) and _files(outs[1].parent) == {"p"}


def _sizes(plan: Any) -> dict[str, tuple[int, int]]:
    return {name: (group["size"], len(group["kept"])) for name, group in plan["groups"].items()}


@pytest.mark.slow
def test_two_launchers_as_on_two_machines(
    launch: Any, slim_script: Path, tmp_path: Path, data: list[str]
) -> None:
    """Each with one process and its own working folder; they see the same files under the same paths."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    out = tmp_path / "runs" / "p"
    args = _stage("prune", out, *data, "Prune.method=ratio", "Prune.ratio=0.25")
    machines = []
    for rank in range(2):
        folder = tmp_path / f"machine {rank}"
        folder.mkdir()
        options = ["--master", f"127.0.0.1:{port}", "--nnodes", "2", "--rank", str(rank)]
        machines.append(replace(launch, folder=folder).start(1, slim_script, args, launcher=options))
    said = [child.communicate(timeout=900)[0] for child in machines]
    assert [child.returncode for child in machines] == [0, 0], said[0][-3000:] + said[1][-3000:]
    assert _entry(out)["finetune_steps"] == 2 and _files(out.parent) == {"p"}


@pytest.mark.slow
def test_two_processes_train_a_detector(launch: Any, both: Any, tmp_path: Path) -> None:
    pages = tmp_path / "few pages"
    synthesize("det", pages, {"train": 8, "eval": 2, "calib": 1}, 7, None, Silent())
    small = ["Architecture.Backbone.model_name=small", "Architecture.Neck.out_channels=16"]
    small += ["Train.dataset.transforms=[IaaAugment: null, EastRandomCropData: {size: [64, 64]}]"]
    small += ["Train.loader.batch_size_per_card=4", "Global.epoch_num=2", "Optimizer.lr.learning_rate=0.0001"]
    given = ["-c", "det/en_synthetic_det", "--json", "-o", *small, *data_overrides(pages)]
    runs = both(lambda out: ["train", *given, f"Global.save_model_dir={out}"])
    for answer in (_answer(said) for _, said in runs):
        assert answer["steps"] == 4 and answer["metric"] == "hmean" and 0 <= answer["best_metric"] <= 1
    one, two = (launch.weights(out / "latest.pdparams") for out, _ in runs)
    assert {name: value.shape for name, value in one.items()} == {n: v.shape for n, v in two.items()}
    # BatchNorm and the choice of hard negatives see half the crops of a batch in each process.
    weights = [name for name in one if not name.endswith(("_mean", "_variance"))]
    moved = max(float(abs(one[name] - two[name]).max()) for name in weights)
    assert 0 < moved < 0.01

"""A set of three files is consistent whenever writing stops, and nothing damaged is taken for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slim.checkpoint import read_pdparams, read_pickle, write_pickle
from slim.errors import CheckpointError
from slim.training.checkpoints import LATEST, Checkpoints, Progress


class Killed(BaseException):
    """Ends the writing at a chosen file operation."""


def arrays(value: float) -> dict[str, np.ndarray]:
    return {"w": np.full(4, value, np.float32)}


def write(store: Checkpoints, step: int) -> None:
    store.write(LATEST, arrays(step), arrays(-step), Progress(step=step, history=[{"step": step}]))


@pytest.fixture
def store(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path, {"seed": 1})


def test_a_set_comes_back_as_it_was(store):
    progress = Progress(step=7, best_metric=0.1 + 0.2, best_step=5, history=[{"step": 5, "acc": 1 / 3}])
    store.write(LATEST, arrays(1.0), {}, progress)
    saved = store.read(LATEST)
    assert saved.progress == progress
    assert saved.weights["w"].tolist() == [1.0] * 4 and saved.optimizer == {}
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "latest.pdopt",
        "latest.pdparams",
        "latest.states",
    ]


def test_an_empty_folder_has_no_set(store):
    assert store.read(LATEST) is None


@pytest.mark.parametrize("operation", range(6))
def test_stopped_at_any_renaming_the_old_or_the_new_set_is_read(store, monkeypatch, operation):
    write(store, 1)
    real, calls = os.replace, []

    def replace(source, target):
        if len(calls) == operation:
            raise Killed
        calls.append(target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            write(store, 2)
    expected = 1 if operation < 3 else 2  # the .states of the new set is the third file
    for _ in range(2):  # reading mends, and reads the same again
        saved = store.read(LATEST)
        assert saved.progress.step == expected
        assert saved.weights["w"][0] == expected and saved.optimizer["w"][0] == -expected
    write(store, 3)
    assert store.read(LATEST).progress.step == 3


def test_writing_renames_six_times(store, monkeypatch):
    """The test above tries every one."""
    real, calls = os.replace, []
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(b), real(a, b)))
    write(store, 1)
    assert len(calls) == 6


def test_half_written_files_of_a_killed_process_are_cleared_away(store):
    write(store, 1)
    stray = store.folder / "latest.next.pdparams.tmp-12345"
    stray.write_bytes(b"half")
    write(store, 2)
    assert not stray.exists()


@pytest.mark.parametrize("kind", ["pdparams", "pdopt"])
def test_an_altered_or_missing_file_is_an_error(store, kind):
    write(store, 1)
    path = store.folder / f"latest.{kind}"
    write_pickle(arrays(9.0), path)
    with pytest.raises(CheckpointError, match=f"latest.{kind}: does not belong to latest.states"):
        store.read(LATEST)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"latest.{kind}: does not belong to latest.states"):
        store.read(LATEST)


def test_another_identity_is_an_error_that_names_the_difference(store):
    write(store, 1)
    other = Checkpoints(store.folder, {"seed": 2})
    with pytest.raises(CheckpointError, match=r"another run \(differs in: seed\)"):
        other.read(LATEST)


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"files": []}, {"history": "[1,"}, {"step": "7"}, {"history": None}],
)
def test_damaged_or_foreign_states_are_errors(store, change):
    write(store, 1)
    path = store.folder / "latest.states"
    write_pickle({**read_pickle(path), **change}, path)
    with pytest.raises(CheckpointError, match="latest.states"):
        store.read(LATEST)


def test_states_of_paddleocr_are_recognised_as_foreign(store):
    write(store, 1)
    write_pickle({"epoch": 3, "best_model_dict": {"acc": 0.5}}, store.folder / "latest.states")
    with pytest.raises(
        CheckpointError, match="not the .states file of a run of this toolkit.*pretrained_model"
    ):
        store.read(LATEST)


def test_a_long_history_can_be_read_back(store):
    history = [{"step": k, "loss": 0.1, "lr": 0.01} for k in range(100_000)]
    store.write(LATEST, arrays(1.0), arrays(1.0), Progress(step=1, history=history))
    assert len(store.read(LATEST).progress.history) == 100_000


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import conftest
from slim.config import TrainRecipe
from slim.training import fit
net = conftest.make_net("cls")
recipe = TrainRecipe(steps=400, batch_size=4, lr=0.001, save_every=1)
result = fit(net, recipe, conftest.FakeBatches("cls"), kind="cls", seed=3, out=Path(sys.argv[3]))
print(result.resumed_from)
"""


@pytest.mark.slow
def test_killed_again_and_again_the_weights_are_those_of_an_undisturbed_run(checkout, tmp_path):
    """kill -9 at moments that no one chose; most of the time goes into writing checkpoints."""

    def start(folder: Path) -> subprocess.Popen[str]:
        given = [sys.executable, "-c", CHILD, str(checkout), str(Path(__file__).parent), str(folder)]
        return subprocess.Popen(given, stdout=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole")
    assert whole.communicate(timeout=300)[0].strip() == "None"
    steps = []
    for pause in (0.05, 0.21, 0.48, 0.13, 0.34):
        child = start(tmp_path / "cut")
        before = _changed(tmp_path / "cut")
        while child.poll() is None and _changed(tmp_path / "cut") == before:
            time.sleep(0.01)
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert child.returncode == -signal.SIGKILL, "the child ended before it was killed"
        steps.append(read_pickle(tmp_path / "cut/latest.states")["step"])
    assert steps == sorted(set(steps)), "every child went on where the last one was killed"
    last = start(tmp_path / "cut")
    resumed_from = int(last.communicate(timeout=300)[0])
    assert last.returncode == 0 and 0 < resumed_from < 400
    for name in ("latest.pdparams", "latest.pdopt"):
        one, other = (read_pdparams(tmp_path / run / name) for run in ("whole", "cut"))
        assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}


def _changed(folder: Path) -> float:
    path = folder / "latest.states"
    return path.stat().st_mtime if path.is_file() else 0.0

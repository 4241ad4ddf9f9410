"""benchmarks.finetuned: the better of two floats is what counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.finetuned import lessons, report
from slim.config import find_config, load_config
from slim.config.overrides import data_overrides
from slim.evaluate import EvalResult, PredictionRow


def result(right: int, of: int = 200) -> EvalResult:
    rows = [PredictionRow(f"{k}.jpg", "a", "a" if k < right else "b", 0.9, k < right) for k in range(of)]
    return EvalResult("rec", {"acc": right / of}, rows, of, 1.0, [])


@pytest.mark.parametrize(
    ("finetuned", "better", "holds"),
    [(170, "original", True), (180, "original", True), (184, "finetuned", False)],
)
def test_a_gain_of_finetuning_is_not_compressions(finetuned: int, better: str, holds: bool) -> None:
    """The file has 178 of 200: one point less than the original's 180, three less than 184."""
    found = report({"original": result(180), "finetuned": result(finetuned), "x.nb": result(178)}, 1.5)
    assert (found["better"], found["files"]["x.nb"]["holds"]) == (better, holds)
    assert found["files"]["x.nb"]["against original"][0] == 1.0
    assert found["metrics"] == {"original": 90.0, "finetuned": finetuned / 2, "x.nb": 89.0}


def test_without_a_bound_every_file_holds() -> None:
    found = report({"original": result(180), "finetuned": result(180), "x.nb": result(20)}, None)
    assert found["files"]["x.nb"]["holds"] and found["images"] == 200


@pytest.mark.parametrize(
    ("changes", "taught"),
    [
        (["Prune.rounds=2"], [("round-1", 7), ("round-2", 8), ("quant", 7)]),
        (["Quant.mode=ptq"], [("round-1", 7)]),  # nothing is trained there
        (["Prune.Finetune=null"], [("quant", 7)]),
    ],
)
def test_all_that_teaches_is_repeated(changes: list[str], taught: list[tuple[str, int]]) -> None:
    config = load_config(find_config("cls/cls_demo"), changes)
    assert [(name, seed) for name, _, seed in lessons(config, 7)] == taught


def test_a_recipe_that_teaches_nothing_is_said() -> None:
    config = load_config(find_config("cls/cls_demo"), ["Prune.Finetune=null", "Quant.mode=ptq"])
    with pytest.raises(SystemExit, match="the recipe trains nothing"):
        lessons(config, 7)


@pytest.mark.slow
def test_the_command_trains_once_a_round_and_scores_beside_the_original(
    few_lines: Path, checkout: Path, tmp_path: Path
) -> None:
    """Two rounds of three steps on few lines: the road, not the figures."""
    short = ["Prune.rounds=2", "Prune.Finetune.steps=3", "Prune.Finetune.batch_size=8", "Check.images=16"]
    short += ["Quant.Finetune.steps=2", "Quant.Finetune.batch_size=8"]
    command = [sys.executable, "-m", "benchmarks.finetuned", "-c", "cls/cls_demo", "--work", str(tmp_path)]
    done = subprocess.run(
        [*command, "-o", *data_overrides(few_lines), *short],
        cwd=checkout,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["images"] == 16 and set(found["metrics"]) == {"original", "finetuned"}
    assert {path.name for path in tmp_path.iterdir()} == {"round-1", "round-2", "quant"}

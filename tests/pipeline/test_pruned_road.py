"""Pruned by each criterion, pruned again, quantized, exported: the same model at every stop."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.runtimes import nb
from prune.criteria import CRITERIA
from prune.plan import PrunePlan
from slim.bundle import Bundle, from_artifact, from_checkpoint
from slim.cli.main import run
from slim.pipeline.opening import open_model
from slim.progress import Silent

RECIPES = {"cls": "cls/cls_demo", "rec": "rec/en_number_demo"}
# No training: what is tested is that each stop is the same model, not that it reads well.
SHARE = {"cls": 0.1, "rec": 0.04}  # of each group; a recognizer cut by more reads nothing untrained
PRUNE = ["Prune.method=ratio", "Prune.Finetune=null", "Prune.bn_batches=0", "Prune.gradient_batches=2"]
QUANT = ["Quant.mode=ptq", "Quant.images=16"]
SMALL = ["Check.simulation_images=16", "Prune.images=16"]


def slim(*args: str | Path) -> None:
    assert run([str(a) for a in args]) == 0


def noise(bundle: Bundle, count: int) -> np.ndarray:
    shape = bundle.spec.input.shape
    return np.random.default_rng(3).uniform(-1, 1, (count, *shape)).astype(np.float32)


def options(task: str, kind: str, overrides: dict[str, list[str]]) -> list[str]:
    chosen = [f"Prune.criterion={kind}", f"Prune.ratio={SHARE[task]}", "Prune.exclude=[]"]
    return ["-c", RECIPES[task], "-o", *PRUNE, *QUANT, *SMALL, *chosen, *overrides[task]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(CRITERIA))
@pytest.mark.parametrize("task", ["cls", "rec"])
def test_pruned_quantized_and_exported(
    task: str, kind: str, overrides: dict[str, list[str]], tmp_path: Path
) -> None:
    given = options(task, kind, overrides)
    pruned, quantized, exported = tmp_path / "p 1", tmp_path / "q", tmp_path / "e"
    slim("prune", "--out", pruned, *given)
    slim("quant", "--model", pruned, "--out", quantized, *given)
    slim("export-nb", quantized, "--target", "arm", "--out", exported)
    plan = PrunePlan.from_json(plans(pruned)[0])
    assert plan.criterion == kind and plan.flops_cut > 0.02
    assert ("neck.encoder.lstm" in plan.kept) == (task == "rec" and kind != "bn_scale")
    shipped = nb.load(exported / "model.arm.nb")
    model = open_model(str(quantized), None, Silent())
    x = noise(model, 4)
    ours, theirs = model.run(x), shipped.run(x)
    # Probabilities; int8 rounding goes the other way now and then and grows through the net.
    assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 5e-3
    # The twin: the unpruned model's outputs are farther off than any rounding.
    whole = open_model(None, _config(task, overrides), Silent()).run(x)
    assert np.abs(whole - theirs).mean() > np.abs(ours - theirs).mean()


@pytest.mark.slow
def test_pruned_twice_and_carried_elsewhere(overrides: dict[str, list[str]], tmp_path: Path) -> None:
    given = options("cls", "l1", overrides)
    first, second = tmp_path / "p1", tmp_path / "p2"
    slim("prune", "--out", first, *given)
    slim("prune", "--model", first, "--out", second, *given)
    once, twice = plans(first), plans(second)
    assert twice[0] == once[0] and len(twice) == 2
    assert twice[1]["params"]["before"] == once[0]["params"]["after"] > twice[1]["params"]["after"]
    elsewhere = tmp_path / "another place" / "model"
    shutil.copytree(second, elsewhere)
    for folder in (first, second):
        shutil.rmtree(folder)
    reopened = from_artifact(elsewhere)
    # Weights and plan alone, without the rest of the folder.
    spec = reopened.spec
    bare = from_checkpoint(spec, elsewhere / "model.pdparams", cuts=plans(elsewhere))
    x = noise(reopened, 1)
    assert np.array_equal(bare.run(x), reopened.run(x))
    assert bare.sha256() == reopened.sha256()


@pytest.mark.slow
def test_a_budget_of_bytes_is_that_of_the_shipped_file(
    overrides: dict[str, list[str]], tmp_path: Path
) -> None:
    given = options("cls", "l1", overrides)
    given += [
        "Prune.method=sensitivity",
        "Prune.flops=null",
        "Prune.nb_bytes=165000",
        "Prune.ratios=[0.25,0.5]",
    ]
    pruned, quantized, exported = tmp_path / "p", tmp_path / "q", tmp_path / "e"
    slim("prune", "--out", pruned, *given)
    slim("quant", "--model", pruned, "--out", quantized, *given)
    slim("export-nb", quantized, "--target", "arm", "--out", exported)
    shipped = (exported / "model.arm.nb").stat().st_size
    # Not far below either: more was not cut than asked.
    assert 0.95 * 165_000 < shipped <= 165_000


@pytest.mark.slow
def test_curves_of_paddleslim_choose_the_cut_and_are_drawn(
    overrides: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options("cls", "l1", overrides)
    curves, picture = tmp_path / "sen.pickle", tmp_path / "curves.png"
    losses = {f"backbone.blocks.{n}.expand_conv.conv": {0.1: 0.0, 0.5: 0.02} for n in (8, 9, 10)}
    curves.write_bytes(pickle.dumps(losses))
    asked = ["--sensitivities", curves, "--plot", picture, "--out", tmp_path / "p"]
    # Flat shares have no curves: said before anything is done.
    assert run(["prune", *map(str, asked), *given]) == 2
    assert "method ratio has no curves" in capsys.readouterr().err and not picture.exists()
    slim("prune", *asked, *given, "Prune.method=sensitivity", "Prune.flops=0.05")
    assert set(PrunePlan.from_json(plans(tmp_path / "p")[0]).kept) <= set(losses)
    assert (tmp_path / "p" / "sensitivity.json").is_file() and picture.read_bytes()[:4] == b"\x89PNG"


def plans(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "plan.json").read_text())["plans"]
    return found


def _config(task: str, overrides: dict[str, list[str]]) -> Any:
    from slim.config import find_config, load_config

    return load_config(find_config(RECIPES[task]), overrides[task])

"""An iterative schedule: budgets hold at its end, its plans replay, a kill between rounds changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prune.plan import PrunePlan
from slim.artifact import read_manifest
from slim.bundle import from_artifact, from_checkpoint
from slim.cli.main import run
from slim.pipeline import pruning

pytestmark = pytest.mark.slow
KEYS = [
    *("Prune.flops=0.12", "Prune.rounds=2", "Prune.ratios=[0.3]", "Prune.images=16", "Prune.bn_batches=1"),
    *("Prune.Finetune.steps=2", "Prune.Finetune.batch_size=8", "Check.simulation_images=16"),
    "Prune.exclude=['backbone.conv1.*', 'backbone.blocks.[0-6].*']",
]


def prune(out: Path, overrides: dict[str, list[str]]) -> int:
    return run(["prune", "-c", "cls/cls_demo", "--out", str(out), "-o", *KEYS, *overrides["cls"]])


def plans(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "plan.json").read_text())["plans"]
    return found


@pytest.fixture(scope="module")
def whole(overrides: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rounds") / "p"
    assert prune(out, overrides) == 0
    return out


def test_the_budget_holds_and_the_plans_replay(whole: Path) -> None:
    first, second = (PrunePlan.from_json(plan) for plan in plans(whole))
    assert second.flops_before == first.flops_after
    assert second.flops_after <= 0.88 * first.flops_before < first.flops_after <= 0.94 * first.flops_before
    reopened = from_artifact(whole)
    bare = from_checkpoint(reopened.spec, whole / "model.pdparams", cuts=plans(whole))
    x = np.random.default_rng(3).uniform(-1, 1, (1, *reopened.spec.input.shape)).astype(np.float32)
    assert np.array_equal(bare.run(x), reopened.run(x))
    facts = read_manifest(whole).facts
    entry = facts["lineage"][-1]
    assert entry["finetune_steps"] == 4 and entry["flops"] == second.flops_after
    assert {row["group"] for row in facts["plan"]} == {*first.kept, *second.kept}


def test_a_kill_between_rounds_changes_no_byte(
    whole: Path, overrides: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, made = pruning._planned, []

    def killed(job: Any, goal: Any) -> PrunePlan:
        made.append(goal.number)
        if goal.number == 2 and made == [1, 2]:
            raise KeyboardInterrupt
        return inner(job, goal)

    monkeypatch.setattr(pruning, "_planned", killed)
    out = tmp_path / "p"
    assert prune(out, overrides) == 130 and not out.exists()
    assert prune(out, overrides) == 0
    assert made == [1, 2, 2]  # the first round is not done again
    for name in ("model.pdparams", "plan.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()

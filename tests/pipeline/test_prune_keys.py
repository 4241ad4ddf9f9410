"""What pruning depends on beside its section, how it finetunes, and a budget of time on real files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from slim.artifact import read_manifest
from slim.bundle import from_artifact
from slim.cli.main import run
from slim.config import Config, PruneSection, find_config, load_config
from slim.pipeline.costing import FileCosts
from slim.pipeline.opening import open_model
from slim.pipeline.pruning import needs
from slim.progress import Silent

Capture = pytest.CaptureFixture[str]
QUICK = ["Prune.images=16", "Prune.bn_batches=0", "Check.simulation_images=16"]


def _needs(*changes: str) -> dict[str, Any]:
    config: Config = load_config(find_config("cls/cls_demo"), ["Prune.flops=null", *changes])
    assert isinstance(config.Prune, PruneSection)
    return needs(config, config.Prune)


def test_a_budget_of_bytes_depends_on_what_the_file_is_made_by() -> None:
    assert _needs("Prune.max_drop=3", "Quant.layers=[Conv2D]") == {}
    before = _needs("Prune.nb_bytes=9999")
    assert json.loads(json.dumps(before)) == before  # a manifest holds it
    for same in ("Quant.Finetune.lr=0.5", "Export.targets=[x86]", "Export.timeout=9"):
        assert _needs("Prune.nb_bytes=9999", same) == before
    for other in ("Quant.layers=[Conv2D]", "Quant=null", "Export.compact=false", "Quant.weight_bits=4"):
        assert _needs("Prune.nb_bytes=9999", other) != before


def test_curves_of_a_file_are_known_by_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "sen.pickle"
    asked = ("Prune.flops=0.1", f"Prune.sensitivities={path}")
    assert _needs(*asked) == {"sensitivities": None}
    path.write_bytes(b"one")
    one = _needs(*asked)
    path.write_bytes(b"two")
    assert len(one["sensitivities"]) == 64 and _needs(*asked) != one


@pytest.mark.slow
def test_a_run_prunes_again_when_that_changes(
    overrides: dict[str, list[str]], tmp_path: Path, capsys: Capture
) -> None:
    curves, out = tmp_path / "sen.pickle", tmp_path / "out"

    def measured(loss: float) -> None:
        names = [f"backbone.blocks.{n}.expand_conv.conv" for n in (8, 9, 10)]
        curves.write_bytes(pickle.dumps({name: {0.1: 0.0, 0.5: loss} for name in names}))

    def pruned(*changes: str) -> bool:
        """Whether the stage was done, rather than found."""
        keys = ["Run.stages=[prune]", "Prune.flops=0.05", "Prune.nb_bytes=400000", "Prune.Finetune=null"]
        given = [*keys, *QUICK, f"Prune.sensitivities={curves}", *overrides["cls"], *changes]
        assert run(["run", "-c", "cls/cls_demo", "--out", str(out), "-o", *given]) == 0
        return "prune: already done" not in capsys.readouterr().err

    measured(0.02)
    assert pruned() and not pruned("Quant.Finetune.steps=9")
    assert pruned("Quant.layers=[Conv2D]") and pruned()
    measured(0.03)
    assert pruned() and not pruned()


@pytest.mark.slow
def test_finetuning_is_scored_every_so_many_steps_and_keeps_the_best(
    overrides: dict[str, list[str]], tmp_path: Path, capsys: Capture
) -> None:
    keys = ["Prune.method=ratio", "Prune.ratio=0.1", "Prune.Finetune.steps=3", "Prune.Finetune.batch_size=8"]
    found = {}
    for every in ("null", "1"):
        # With such a rate each step makes it worse: the best weights are an early step's.
        change = [
            f"Prune.Finetune.eval_every={every}",
            "Prune.Finetune.lr=0.05",
            "Prune.Finetune.warmup_steps=0",
        ]
        given = [*keys, *QUICK, *change, *overrides["cls"]]
        out = tmp_path / every
        assert run(["prune", "-c", "cls/cls_demo", "--out", str(out), "-o", *given]) == 0
        found[every] = capsys.readouterr().err
    assert "step 1/3  acc" in found["1"] and "(best)" in found["1"] and "acc" not in found["null"]
    assert from_artifact(tmp_path / "1").sha256() != from_artifact(tmp_path / "null").sha256()


@pytest.mark.slow
def test_a_budget_of_time_on_real_files(
    overrides: dict[str, list[str]], tmp_path: Path, capsys: Capture
) -> None:
    keys = ["Prune.flops=null", "Prune.latency=0.9", "Prune.ratios=[0.5]", "Prune.Finetune=null"]
    few = "Prune.exclude=['*mid_se.conv1', '*linear_conv*']"
    given, out = [*QUICK, *overrides["cls"], *keys, few], tmp_path / "p"
    assert run(["prune", "-c", "cls/cls_demo", "--out", str(out), "--json", "-o", *given]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    timed = checks["time in Paddle-Lite x86"]
    assert 0 < timed["value"] <= timed["bound"] == 0.9
    config = load_config(find_config("cls/cls_demo"))
    whole, cut = open_model(None, config, Silent()), from_artifact(out)
    both = FileCosts(config).latencies([whole, cut])
    assert len(set(both)) == 2 and all(time > 0 for time in both)
    assert read_manifest(out).facts.get("bytes_of") is None

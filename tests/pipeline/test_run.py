"""The whole road on a real model with a tiny schedule: what it leaves, that it resumes, that it reopens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim.artifact import read_manifest, verify
from slim.cli.main import run
from slim.errors import GateFailed
from slim.pipeline.opening import open_model
from slim.progress import Silent

TINY = [
    "Prune.images=32",
    "Prune.ratios=[0.25]",
    "Prune.bn_batches=2",
    "Prune.Finetune.steps=2",
    "Prune.Finetune.batch_size=8",
    "Quant.images=16",
    "Quant.Finetune.steps=2",
    "Quant.Finetune.batch_size=8",
    "Check.images=60",
    "Check.simulation_images=20",
    # Two steps on 96 lines prove nothing about accuracy; the demo and its references do.
    "Check.max_drop=60",
    # One of 20 lines on the edge between both classes of a half-trained net may round the other way in
    # Paddle's simulation; test_slow and the demo judge trained nets.
    "Check.min_agreement=0.9",
]


@pytest.fixture(scope="module")
def done(overrides: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("run") / "cls"
    args = ["run", "-c", "cls/cls_demo", "--out", str(out), "--json", "-o", *TINY, *overrides["cls"]]
    assert run(args) == 0
    return out, args


def _report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_it_leaves_what_an_app_and_a_ci_need(done: tuple[Path, list[str]]) -> None:
    out, _ = done
    names = [
        "model.arm.nb",
        "model.x86.nb",
        "labels.txt",
        "preprocess.json",
        "report.md",
        "predictions.jsonl",
    ]
    assert all((out / name).stat().st_size > 0 for name in names)
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 60


def test_the_report_lists_the_steps_with_their_weights(done: tuple[Path, list[str]]) -> None:
    report = _report(done[0])
    assert [step["stage"] for step in report["steps"]] == ["float", "prune", "quant", "export-nb"]
    assert report["steps"][1]["finetune_steps"] == report["steps"][2]["finetune_steps"] == 2
    assert report["steps"][1]["cut_weights"] not in (
        report["steps"][0]["weights"],
        report["steps"][1]["weights"],
    )
    assert set(report["steps"][3]["files"]) == {"model.arm.nb", "model.x86.nb"}
    assert report["steps"][0]["source"] == "zoo:ch_ppocr_mobile_v2.0_cls"
    assert report["steps"][1]["before"] == report["steps"][0]["weights"]
    assert report["steps"][2]["before"] == report["steps"][1]["weights"]
    assert len({step["weights"] for step in report["steps"][:3]}) == 3
    stages = [row["stage"] for row in report["stages"]]
    assert stages == ["original", "prune", "quant", "inference", "arm nb", "x86 nb"]
    assert report["metrics"]["flops"] < 0.85 * report["stages"][0]["flops"]


def test_every_check_of_the_recipe_was_made(done: tuple[Path, list[str]]) -> None:
    names = " ".join(check["name"] for check in _report(done[0])["checks"])
    for part in (
        "accuracy lost",
        "multiply-adds pruned",
        "share of the original's",
        "inference folder",
        "int8",
    ):
        assert part in names


def test_a_second_run_does_nothing_again(
    done: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, args = done
    before = {name: read_manifest(out / name) for name in ("prune", "quant", "export", "float")}
    stamps = {name: (out / name / "manifest.json").stat().st_mtime_ns for name in before}
    assert run(args) == 0
    said = capsys.readouterr().err
    assert all(f"{name}: already done" in said for name in before)
    assert stamps == {name: (out / name / "manifest.json").stat().st_mtime_ns for name in before}


def test_the_quantized_pruned_model_reopens_with_the_same_outputs(done: tuple[Path, list[str]]) -> None:
    folder = done[0] / "quant"
    first, second = (open_model(str(folder), None, Silent()) for _ in range(2))
    assert len(first.cuts) == 1 and first.scheme is not None
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 192)).astype(np.float32)
    assert np.array_equal(first.run(x), second.run(x))
    manifest = verify(folder)
    assert manifest.facts["lineage"][-1]["weights"] == first.sha256()


def test_a_missed_bound_fails_the_run(
    done: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, args = done
    assert run([*args, "-o", "Check.max_nb_ratio=0.01"]) == GateFailed.exit_code
    out = capsys.readouterr()
    assert json.loads(out.out)["passed"] is False
    assert "share of the original's" in out.err

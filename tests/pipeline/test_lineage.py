"""The report of a model whose past moved on: other lines, folders and files that hold something else now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim import zoo
from slim.artifact import read_manifest
from slim.checkpoint import read_pdparams, write_pdparams
from slim.cli.main import run
from slim.evaluate import EvalResult, PredictionRow
from slim.pipeline import lineage
from slim.pipeline.opening import open_model
from slim.pipeline.reporting import _with_history
from slim.pipeline.run import _publish
from slim.progress import Silent
from slim.synth import synthesize

from .test_reported_curves import pruned

NAME = "ch_ppocr_mobile_v2.0_cls"
TINY = ["Prune.method=ratio", "Prune.ratio=0.1", "Prune.flops=null", "Prune.bn_batches=0"]
TINY += ["Prune.Finetune=null", "Check.simulation_images=10", "Check.images=12", "Check.max_drop=100"]
TINY += ["Check.min_flops_cut=0.01"]


@pytest.fixture(scope="module")
def given(overrides: dict[str, list[str]]) -> list[str]:
    return ["-c", "cls/cls_demo", "-o", *TINY, *overrides["cls"]]


@pytest.fixture(scope="module")
def shipped(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``p1`` (pruned) and ``e1`` (its ARM file)."""
    folder = tmp_path_factory.mktemp("shipped")
    assert run(["prune", "--out", str(folder / "p1"), *given]) == 0
    assert run(["export-nb", str(folder / "p1"), "--target", "arm", "--out", str(folder / "e1")]) == 0
    return folder


def checked(folder: Path, out: Path, *more: str) -> dict[str, Any]:
    assert run(["check", str(folder), "--out", str(out), *more]) in (0, 1)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def stage(report: dict[str, Any], name: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in report["stages"] if row["stage"] == name)
    return row


def test_the_drop_of_a_stage_is_paired_on_the_lines_it_was_scored_on(
    shipped: Path, given: list[str], tmp_path: Path
) -> None:
    report = checked(shipped / "e1", tmp_path, *given)
    assert report["kind"] == "cls"
    assert stage(report, "prune")["drop"]["n"] == 10
    assert not any("drop is not known" in note for note in report["notes"])
    assert stage(report, "inference")["params"] < stage(report, "original")["params"]
    assert "Prune" in report["recipe"]


def test_other_lines_are_not_paired(shipped: Path, tmp_path: Path) -> None:
    synthesize("cls", tmp_path / "other", {"train": 1, "eval": 12, "calib": 1}, 8, None, Silent())
    report = checked(shipped / "e1", tmp_path / "r", "--data", str(tmp_path / "other" / "eval.txt"))
    assert stage(report, "prune")["drop"] is None and stage(report, "arm nb")["drop"]["n"] == 12
    assert [note for note in report["notes"] if "drop" in note] == [
        "prune was scored on other lines than this check: its drop is not known"
    ]


LINES = {"path": "eval.txt", "count": 4, "sha256": "1", "kind": "cls"}
SCORED = EvalResult("cls", {"acc": 0.75}, [PredictionRow("", "0", "0", 1.0, n > 0) for n in range(4)], 4, 0.0)


@pytest.mark.parametrize(
    ("change", "lost", "said"),
    [
        ({}, 2, None),
        ({"eval": None}, None, "on other lines"),
        ({"eval": lineage.lines_of(LINES | {"sha256": "2"})}, None, "on other lines"),
        ({"correct": "10101"}, None, "on 5 lines and the original on 4"),
        ({"correct": ""}, None, "before a stage kept the lines"),
    ],
)
def test_marks_are_paired_with_their_own_lines_only(
    change: dict[str, Any], lost: int | None, said: str | None
) -> None:
    """Right before: all but the first. Right in the stage: the first and third of three or more."""
    entry = {"stage": "prune", "params": 1, "flops": 1, "images": 4, "metrics": {"acc": 0.5}}
    entry |= {"correct": "1010", "eval": lineage.lines_of(LINES)} | change
    rows, notes = _with_history([], [entry], SCORED, LINES)
    assert (rows[0]["drop"] and rows[0]["drop"]["lost"]) == lost
    assert len(notes) == (said is not None) and (said or "") in " ".join(notes)
    del entry["eval"]  # of a folder from before it was kept
    rows, notes = _with_history([], [entry], SCORED, LINES)
    assert rows[0]["drop"] is None and "before a stage kept the lines" in notes[0]


def test_a_part_of_the_same_file_is_another_set() -> None:
    """A recipe with ratio_list takes some of a file's lines: the file's hash is the same."""
    whole = {"path": "a", "count": 10, "sha256": "1", "kind": "rec"}
    assert lineage.lines_of(whole) == lineage.lines_of(whole | {"path": "b"})
    assert lineage.lines_of(whole) != lineage.lines_of(whole | {"count": 5})
    assert lineage.lines_of(whole) != lineage.lines_of(whole | {"sha256": "2"})
    one, other = ({"count": 15, "sha256": "1", "files": [{"count": a}, {"count": 15 - a}]} for a in (5, 10))
    assert lineage.lines_of(one) != lineage.lines_of(other)


def elsewhere(exported: Path, dest: Path, entry: int, **place: str) -> Path:
    """A copy of an export whose past stands at another place; what is there is not what the stage left."""
    shutil.copytree(exported, dest)
    manifest = json.loads((dest / "manifest.json").read_text(encoding="utf-8"))
    manifest["facts"]["lineage"][entry] |= place
    (dest / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return dest


def test_a_folder_that_holds_another_model_is_gone(
    shipped: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "p1"
    pruned(open_model(f"{zoo.PREFIX}{NAME}", None, Silent()), other, 0.5, {"backbone.conv1.conv": [4]})
    folder = elsewhere(shipped / "e1", tmp_path / "e1", -1, out=str(other))
    report = checked(folder, tmp_path / "r", *given)
    assert "Prune" not in report["recipe"] and "sensitivity" not in report
    assert "params" not in stage(report, "inference") and "params" not in report["metrics"]
    assert not any("multiply-adds" in check["name"] for check in report["checks"])
    said = [note for note in report["notes"] if "holds another model by now" in note]
    assert len(said) == 2 and "Check.min_flops_cut is not checked" in said[0]
    assert capsys.readouterr().err.count("holds another model by now") == 2


def test_an_original_that_was_replaced_is_refused(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / f"{NAME}.pdparams"
    folder = elsewhere(shipped / "e1", tmp_path / "e1", 0, source=str(weights))
    state = read_pdparams(zoo.find(NAME).path)
    state["head.fc.bias"] = state["head.fc.bias"] + np.float32(0.5)
    write_pdparams(state, weights)
    capsys.readouterr()
    assert run(["check", str(folder)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{weights}: holds other weights" in error and "--original" in error


@pytest.mark.parametrize("name", ["predictions.jsonl", "layers.png"])
def test_what_an_earlier_check_left_does_not_stay(name: str, shipped: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("of an earlier check\n")
    assert "predictions" not in checked(shipped / "e1", tmp_path)
    assert not (tmp_path / name).exists()


def test_what_a_run_no_longer_makes_does_not_stay(tmp_path: Path) -> None:
    folder, root = tmp_path / "export", tmp_path / "root"
    for place, names in (
        (folder, ("model.arm.nb", "report.json")),
        (root, ("model.arm.nb", "model.x86.nb", "predictions.jsonl", "labels.txt", "mine.txt")),
    ):
        place.mkdir()
        for name in names:
            (place / name).write_text(place.name)
    _publish(folder, root)
    assert sorted(path.name for path in root.iterdir()) == [
        "labels.txt",
        "mine.txt",
        "model.arm.nb",
        "report.json",
    ]
    assert (root / "model.arm.nb").read_text() == "export"


def test_a_damaged_manifest_is_another_model(shipped: Path, tmp_path: Path) -> None:
    shutil.copytree(shipped / "p1", tmp_path / "p1")
    entries = [dict(e) for e in read_manifest(tmp_path / "p1").facts["lineage"]]
    entries[-1]["out"] = str(tmp_path / "p1")
    assert [len(found) for found in lineage.folders(entries)] == [1, 0]
    (tmp_path / "p1" / "manifest.json").write_text("{")
    assert lineage.folders(entries) == ([], [tmp_path / "p1"])
    shutil.rmtree(tmp_path / "p1")
    assert lineage.folders(entries) == ([], [])

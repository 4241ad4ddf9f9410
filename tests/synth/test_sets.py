"""Whole sets: same seed same bytes, splits that share nothing, labels that tell the truth."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slim.artifact import verify
from slim.data.dataset import open_dataset
from slim.errors import InputError, StageFailed
from slim.synth import GENERATOR_VERSION, sets, synthesize

COUNTS = {"train": 120, "eval": 110, "calib": 20}


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "lines.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    ]


@pytest.fixture(scope="module")
def rec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rec") / "set"
    synthesize("rec", out, COUNTS, seed=3)
    return out


@pytest.fixture(scope="module")
def cls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cls") / "set"
    synthesize("cls", out, COUNTS, seed=3)
    return out


_OTHER_PROCESS = """
import sys
from pathlib import Path
from slim.synth import synthesize
if __name__ == "__main__":
    synthesize("rec", Path(sys.argv[1]), {"train": 120, "eval": 110, "calib": 20}, seed=3, jobs=2)
"""


def test_same_seed_same_bytes_in_another_process_with_two_workers(rec: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "again"
    script.write_text(_OTHER_PROCESS)
    root = Path(sets.__file__).parents[2]
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, str(script), str(out)], check=True, env=env, timeout=120)
    assert _hashes(out) == _hashes(rec)


def test_more_lines_begin_with_the_same_ones(rec: Path, tmp_path: Path) -> None:
    synthesize("rec", tmp_path / "more", {"train": 20, "eval": 10, "calib": 0}, seed=3)
    few, many = _hashes(tmp_path / "more"), _hashes(rec)
    images = [name for name in few if name.startswith("images/")]
    assert len(images) == 30
    assert all(few[name] == many[name] for name in images)


def test_another_seed_gives_other_images(rec: Path, tmp_path: Path) -> None:
    synthesize("rec", tmp_path / "other", {"train": 20, "eval": 10, "calib": 0}, seed=4)
    other, ours = _hashes(tmp_path / "other"), _hashes(rec)
    assert all(other[name] != ours[name] for name in other if name.startswith("images/"))


def test_manifest_describes_the_files(rec: Path) -> None:
    manifest = json.loads((rec / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["seed"], manifest["counts"], manifest["recipe"]["task"]) == (3, COUNTS, "rec")
    assert manifest["facts"]["generator"] == GENERATOR_VERSION
    for name, count in COUNTS.items():
        facts = manifest["data"][name]
        body = (rec / facts["file"]).read_bytes()
        assert facts["sha256"] == manifest["files"][f"{name}.txt"] == hashlib.sha256(body).hexdigest()
        assert facts["count"] == count == body.count(b"\n")
    assert manifest["data"]["train"]["families"] == ["DejaVu", "STIX"]
    assert manifest["data"]["eval"]["families"] == ["Computer Modern", "DejaVu", "STIX"]
    assert {len(font["sha256"]) for font in manifest["facts"]["fonts"]} == {64}


def test_train_and_eval_share_no_text_and_no_background(rec: Path) -> None:
    rows = _rows(rec)
    train = [row for row in rows if row["ref"].startswith("images/train/")]
    evaluation = [row for row in rows if row["ref"].startswith("images/eval/")]
    assert (len(train), len(evaluation)) == (120, 110)
    for key in ("text", "background"):
        assert not {row[key] for row in train} & {row[key] for row in evaluation}
    assert "Computer Modern" not in {row["family"] for row in train}


def test_shared_text_would_be_found() -> None:
    row = sets.Row("a.jpg", "x", "x", "DejaVu", "DejaVuSans", 2)
    with pytest.raises(StageFailed, match="train and eval share 1 texts, e.g. 'x'"):
        sets._require_disjoint({"train": [row], "eval": [row]})


def test_calibration_names_train_lines_only(rec: Path) -> None:
    train, calib = (
        (rec / f"{name}.txt").read_text(encoding="utf-8").splitlines() for name in ("train", "calib")
    )
    assert len(set(calib)) == 20
    assert set(calib) <= set(train)


def test_images_are_lines_of_text_with_contrast(rec: Path) -> None:
    data = open_dataset([rec / "eval.txt"], rec, "rec")
    assert len(data) == 110
    shapes = []
    for line in (data[k] for k in range(len(data))):
        height, width = line.image.shape[:2]
        shapes.append(height)
        assert 32 <= height <= 64
        grey = line.image.mean(axis=2)
        assert (
            np.percentile(grey, 99) - np.percentile(grey, 1) > 60
        )  # grey levels; text is at least 120 apart
        assert 8 <= width < 80 * len(line.text) + 100
    assert len(set(shapes)) > 20


def test_cls_labels_tell_how_the_line_is_turned(
    cls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rendered once more without turning: lines labelled 180 equal their image only when turned back.

    Unit: grey levels; JPEG at quality 50 and more changes these lines by 12 on the average at most.
    """
    labels = Counter(row["label"] for row in _rows(cls))
    assert set(labels) == {"0", "180"}
    assert 77 < labels["180"] < 153  # of 230: five standard deviations of a fair coin are 38

    from PIL.Image import Image

    monkeypatch.setattr(Image, "transpose", lambda self, method: self)
    synthesize("cls", tmp_path / "straight", {"train": 60, "eval": 0, "calib": 0}, seed=3)
    wrong = []
    for row in _rows(cls)[:60]:
        turned = cv2.imread(str(cls / row["ref"])).astype(int)
        straight = cv2.imread(str(tmp_path / "straight" / row["ref"])).astype(int)
        back = turned[::-1, ::-1] if row["label"] == "180" else turned
        assert np.abs(back - straight).mean() < 12
        wrong.append(np.abs(back[::-1, ::-1] - straight).mean())
    assert np.median(wrong) > 12  # with the labels exchanged the bound would be broken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "e2e"}, "task is 'e2e', must be one of rec, cls, det"),
        ({"counts": {"train": 5}}, "counts are given for train; give train, eval and calib"),
        ({"counts": {"train": 5, "eval": 5, "calib": 6}}, "6 calibration lines of 5 train lines"),
        ({"counts": {"train": -1, "eval": 5, "calib": 0}}, "each must be 0 to 1000000"),
        ({"counts": {"train": 0, "eval": 0, "calib": 0}}, "one above 0"),
        ({"seed": -1}, "seed is -1"),
        ({"jobs": 0}, "jobs is 0"),
    ],
)
def test_bad_requests_write_nothing(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    request = {"task": "rec", "out": tmp_path / "set", "counts": COUNTS, "seed": 1, **change}
    with pytest.raises(InputError, match=message):
        synthesize(**request)
    assert list(tmp_path.iterdir()) == []


def test_an_older_set_is_replaced_a_foreign_folder_is_not(tmp_path: Path) -> None:
    out, few = tmp_path / "set", {"train": 3, "eval": 2, "calib": 1}
    synthesize("rec", out, {"train": 4, "eval": 4, "calib": 0}, seed=1)
    synthesize("rec", out, few, seed=2)
    assert verify(out).seed == 2
    assert len(list((out / "images").rglob("*.jpg"))) == 5
    (out / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="holds notes.txt, which slim did not write"):
        synthesize("rec", out, few, seed=1)
    assert (out / "notes.txt").read_text() == "keep"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep")
    with pytest.raises(InputError, match="holds files that slim did not write"):
        synthesize("rec", tmp_path / "mine", few, seed=1)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(rows: object) -> None:
        raise StageFailed("made to fail")

    monkeypatch.setattr(sets, "_require_disjoint", fail)
    with pytest.raises(StageFailed, match="made to fail"):
        synthesize("rec", tmp_path / "set", {"train": 3, "eval": 3, "calib": 1}, seed=1)
    assert list(tmp_path.iterdir()) == []

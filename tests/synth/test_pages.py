"""Pages: same seed same bytes, boxes that hold their text and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slim.data.dataset import open_dataset
from slim.data.labels import Box, parse_boxes
from slim.errors import StageFailed
from slim.ocr.polygons import inside, is_convex, overlap, polygon, sides, signed_area
from slim.synth import pages, sets, synthesize
from slim.synth.texts import split_of

COUNTS = {"train": 12, "eval": 6, "calib": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("det") / "set"
    synthesize("det", out, COUNTS, seed=5)
    return out


def _pages(folder: Path, split: str = "train") -> list[tuple[np.ndarray, list[Box]]]:
    data = open_dataset([folder / f"{split}.txt"], folder, "det")
    return [(data[k].image, parse_boxes(data[k].text, "")) for k in range(len(data))]


def test_same_seed_same_bytes_other_seed_other_pages(folder: Path, tmp_path: Path) -> None:
    synthesize("det", tmp_path / "again", COUNTS, seed=5)
    synthesize("det", tmp_path / "other", COUNTS, seed=6)

    def read(path: Path) -> dict[str, object]:
        facts: dict[str, object] = json.loads((path / "manifest.json").read_text())["data"]
        return facts

    assert read(tmp_path / "again") == read(folder)
    assert all(read(tmp_path / "other")[split] != read(folder)[split] for split in COUNTS)


def test_boxes_lie_apart_and_are_read_from_left_to_right(folder: Path) -> None:
    lines, turned = 0, 0
    for image, boxes in _pages(folder):
        assert 384 <= image.shape[0] <= 512 and 384 <= image.shape[1] <= 640
        found = [polygon(box.points) for box in boxes]
        lines += len(found)
        for k, box in enumerate(found):
            assert len(box) == 4 and is_convex(box) and signed_area(box) > 0
            assert box.min() >= 0 and (box.max(axis=0) <= (image.shape[1], image.shape[0])).all()
            width, height = sides(box)
            assert 3 <= height <= 46 and width >= 3
            assert box[1, 0] > box[0, 0] and box[3, 1] > box[0, 1]
            turned += abs(box[1, 1] - box[0, 1]) > 0.1 * (box[1, 0] - box[0, 0])
            assert all(overlap(box, other) == 0 for other in found[:k])
    assert lines > 4 * COUNTS["train"] and turned >= 3


def test_the_ink_lies_in_the_boxes(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A page drawn again without ink differs inside its boxes, and outside where the rules are.

    Unit: share of pixels whose largest channel difference is above 45 grey levels; ink and ground differ in
    brightness by 90 at least.
    """
    monkeypatch.setattr(pages, "blended", lambda ground, ink, colour: ground)
    synthesize("det", tmp_path / "blank", COUNTS, seed=5)
    monkeypatch.undo()
    monkeypatch.setattr(pages, "_rule", lambda ground, taken, rng, hard: None)
    synthesize("det", tmp_path / "text", COUNTS, seed=5)
    shares, outside = [], []
    for (image, boxes), (blank, _) in zip(_pages(tmp_path / "text"), _pages(tmp_path / "blank"), strict=True):
        ink = np.abs(image.astype(int) - blank).max(axis=2) > 45
        masks = [inside(polygon(box.points), *ink.shape) for box in boxes]
        shares += [ink[mask].mean() for mask in masks]
        outside.append(ink[~np.any(masks, axis=0)].mean())
    assert np.median(shares) > 0.1 and np.mean([share > 0.01 for share in shares]) > 0.95
    assert max(outside) < 0.01


def test_splits_share_no_line(folder: Path) -> None:
    for split in ("train", "eval"):
        texts = [box.text for _, boxes in _pages(folder, split) for box in boxes]
        assert texts and {split_of(text) for text in texts} == {split}
    rows = [json.loads(line) for line in (folder / "lines.jsonl").read_text().splitlines()]
    assert len(rows) == 18 and all(row["text"].count("\n") == row["font"].count(",") for row in rows)
    one = sets.Row("a.jpg", "", "x\ny", "DejaVu", "DejaVuSans,DejaVuSans", 2)
    two = sets.Row("b.jpg", "", "z\ny", "DejaVu", "DejaVuSans,DejaVuSans", 3)
    with pytest.raises(StageFailed, match="share 1 texts, e.g. 'y'"):
        sets._require_disjoint({"train": [one], "eval": [two]})

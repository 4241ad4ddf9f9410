"""A detector's report: pages are paired by their regions, and hmean is judged by its own interval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from slim.cli.main import run
from slim.compare import Comparison, compare, read_references
from slim.errors import InputError
from slim.evaluate import PredictionRow, write_predictions
from slim.metrics import DetMetric

Capture = pytest.CaptureFixture[str]
WIDE = 4  # regions of a page


def _regions(count: int, moved: int = 0) -> str:
    """The first ``count`` bars of a page, the first one with a corner ``moved`` by so many pixels."""
    bars = []
    for i in range(count):
        top, off = 40 * i, moved if i == 0 else 0
        bars.append([[10 + off, top], [90, top], [90, top + 20], [10, top + 20]])
    return json.dumps([{"transcription": "HI", "points": points} for points in bars])


def _write(folder: Path, pages: Sequence[str], *, shipped_from: float = 98.0, **more: Any) -> Path:
    """A run of ``pages`` (what was found on each) and its report, with the hmean a check would give."""
    folder.mkdir()
    metric = DetMetric()
    right = metric.update(pages, [_regions(WIDE)] * len(pages))
    rows = [
        PredictionRow(f"page/{i}.png", _regions(WIDE), text, 1.0, ok)
        for i, (text, ok) in enumerate(zip(pages, right, strict=True))
    ]
    write_predictions(rows, folder / "predictions.jsonl")
    value = 100.0 * metric.summary()["hmean"]
    report = {
        "format": 2,
        "kind": "det",
        "model": "det",
        "metrics": {"arm_accuracy": value, "arm_drop": shipped_from - value},
        "stages": [{"stage": "arm nb", "images": len(pages)}],
        "predictions": {"of": "arm", "images": len(pages)},
    }
    (folder / "report.json").write_text(json.dumps(report | more))
    return folder / "report.json"


def _refs(folder: Path, pages: Sequence[str]) -> Path:
    path = folder / "refs.yml"
    then = _write(folder / "then", pages)
    assert run(["compare", "--update", "--predictions", "--baseline", str(path), str(then)]) == 0
    return path


def _verdicts(found: Comparison) -> dict[str, str]:
    return {row.metric: row.verdict for row in found.rows}


def test_a_corner_that_moved_by_a_pixel_changes_no_page(tmp_path: Path, capsys: Capture) -> None:
    refs = _refs(tmp_path, [_regions(WIDE)] * 60)
    now = _write(tmp_path / "now", [_regions(WIDE, moved=1)] * 60)
    assert run(["compare", "--baseline", str(refs), str(now)]) == 0
    found = compare(read_references(refs), [now]).pairs["det"]
    assert (found.agreement, found.changed, found.p) == (100.0, (), None)
    assert "60 pages paired: 0 lost, 0 gained, +0.00 points of hmean lost" in capsys.readouterr().out


def test_without_a_kind_the_texts_decide(tmp_path: Path) -> None:
    """A report of before its kind was written is no detector's."""
    refs = _refs(tmp_path, [_regions(WIDE)] * 60)
    now = _write(tmp_path / "now", [_regions(WIDE, moved=1)] * 60, kind=None)
    assert _verdicts(compare(read_references(refs), [now]))["agreement"] == "regression"


def test_a_changed_page_is_listed_by_its_number_of_regions(tmp_path: Path, capsys: Capture) -> None:
    refs = _refs(tmp_path, [_regions(WIDE)] * 60)
    now = _write(tmp_path / "now", [_regions(3), _regions(WIDE, moved=1), *[_regions(WIDE)] * 58])
    run(["compare", "--baseline", str(refs), str(now)])
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "page/" in line]
    assert line.split() == [
        "lost", "page/0.png", "'4", "regions'", "'4", "regions'", "'3", "regions'",
    ]  # fmt: skip
    assert "1 of 60 pages differ in their regions" in out
    assert "98.33% have the same regions" in out


def test_the_paired_loss_is_of_hmean_and_its_interval_says_noise(tmp_path: Path) -> None:
    """Two pages of 60 lose all regions, one gains as many: beyond a point, and the interval holds 0."""
    refs = _refs(tmp_path, ["[]", *[_regions(WIDE)] * 59])
    now = _write(tmp_path / "now", [_regions(WIDE), "[]", "[]", *[_regions(WIDE)] * 57])
    found = compare(read_references(refs), [now], seed=1)
    pairs = found.pairs["det"]
    before, after = 2 * 59 / (60 + 59), 2 * 58 / (60 + 58)
    assert pairs.points == pytest.approx(100 * (before - after))
    assert pairs.low < 0 < pairs.high and pairs.noise
    refs.write_text(refs.read_text().replace("tolerance: 1,", "tolerance: 0.1,"))
    verdicts = _verdicts(compare(read_references(refs), [now], seed=1))
    assert verdicts["paired_loss"] == verdicts["arm_accuracy"] == verdicts["arm_drop"] == "noise"


def test_a_loss_of_hmean_fails_though_no_page_was_wholly_right(tmp_path: Path) -> None:
    """One region of four on each of 20 pages of 60: no page is lost or gained, hmean falls."""
    refs = _refs(tmp_path, [_regions(3)] * 60)
    now = _write(tmp_path / "now", [*[_regions(2)] * 20, *[_regions(3)] * 40])
    found = compare(read_references(refs), [now], seed=1)
    assert (found.pairs["det"].lost, found.pairs["det"].gained) == (0, 0)
    verdicts = _verdicts(found)
    assert verdicts["paired_loss"] == verdicts["arm_accuracy"] == verdicts["arm_drop"] == "regression"
    assert verdicts["agreement"] == "regression"


def test_on_few_pages_the_tolerance_decides(tmp_path: Path) -> None:
    refs = _refs(tmp_path, [_regions(WIDE)] * 10)
    now = _write(tmp_path / "now", ["[]", *[_regions(WIDE)] * 9])
    row = next(row for row in compare(read_references(refs), [now]).rows if row.metric == "paired_loss")
    assert row.verdict == "regression" and row.note.endswith("10 pages are too few to call it chance")


def test_an_update_makes_no_room_for_pages_in_hmean(tmp_path: Path) -> None:
    """Five of 40 pages are not five of 40 in hmean; the share of pages with the same regions is."""
    found = read_references(_refs(tmp_path, [_regions(WIDE)] * 40)).models["det"]
    assert [found[name].tolerance for name in ("arm_accuracy", "arm_drop", "paired_loss")] == [1.0] * 3
    assert found["agreement"].tolerance == 10.0


def test_regions_that_are_none_are_named_by_line(tmp_path: Path) -> None:
    refs = _refs(tmp_path, [_regions(WIDE)] * 60)
    now = _write(tmp_path / "now", [_regions(WIDE)] * 60)
    rows = (now.parent / "predictions.jsonl").read_text().splitlines()
    rows[1] = json.dumps(json.loads(rows[1]) | {"text": "a word"})
    (now.parent / "predictions.jsonl").write_text("\n".join(rows))
    with pytest.raises(InputError, match=r"predictions\.jsonl:2: det label is malformed"):
        compare(read_references(refs), [now])


def test_a_kind_that_is_none_is_refused(tmp_path: Path) -> None:
    report = _write(tmp_path / "now", [_regions(WIDE)], kind="table")
    refs = tmp_path / "refs.yml"
    refs.write_text("models: {det: {arm_accuracy: {value: 94, tolerance: 1, better: higher}}}")
    with pytest.raises(InputError, match="kind is 'table', must be one of rec, cls, det"):
        compare(read_references(refs), [report])

"""Files that are nearly what they should be: an error in one line or a failed row, no pass and no crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slim.cli.main import run
from slim.compare import Reference, compare, judge, read_references
from slim.compare.update import update
from slim.errors import ConfigError, InputError

WriteRun = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
INF = float("inf")


@pytest.fixture
def refs(tmp_path: Path, write_run: WriteRun) -> Path:
    path = tmp_path / "refs.yml"
    update(path, [write_run("then", [True] * 60)], predictions=True)
    return path


def _now(write_run: WriteRun, **changes: Any) -> Path:
    path = write_run("now", [True] * 60)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


SCORED_NONE = [{}, {"predictions": None}, {"predictions": {"of": "arm"}}, {"predictions": [60]}]


@pytest.mark.parametrize("said", SCORED_NONE)
def test_a_report_that_scored_nothing_is_not_paired_with_an_old_file(
    refs: Path, write_run: WriteRun, said: dict[str, Any]
) -> None:
    now = _now(write_run, format=2, **said)
    rows = {row.metric: row for row in compare(read_references(refs), [now]).rows}
    for name in ("agreement", "paired_loss"):
        assert (rows[name].verdict, rows[name].note) == ("missing", "the report scored no image")
    assert run(["compare", "--baseline", str(refs), str(now)]) == 1
    with pytest.raises(InputError, match="the report scored no image: nothing to store"):
        update(refs, [now], predictions=False)


def test_a_report_of_other_images_than_the_file_beside_it(refs: Path, write_run: WriteRun) -> None:
    now = _now(write_run, format=2, predictions={"of": "arm", "images": 61})
    row = next(row for row in compare(read_references(refs), [now]).rows if row.metric == "agreement")
    assert row.verdict == "missing"
    assert row.note == "predictions.jsonl holds 60 rows, the report scored 61 images"
    now.write_text(now.read_text().replace("61", "60"))
    assert not any(row.failed for row in compare(read_references(refs), [now]).rows)


def test_an_empty_file_of_predictions_is_not_stored(refs: Path, write_run: WriteRun) -> None:
    now = _now(write_run)
    (now.parent / "predictions.jsonl").write_text("")
    with pytest.raises(InputError, match=r"predictions\.jsonl holds 0 rows: nothing to store"):
        update(refs, [now], predictions=False)


@pytest.mark.parametrize(("better", "value"), [("higher", INF), ("lower", -INF), ("higher", -INF)])
def test_an_infinite_value_is_a_regression(better: str, value: float) -> None:
    assert judge(Reference(94.0, 1.0, better), value) == "regression"


@pytest.mark.parametrize("value", ["Infinity", "9" * 400])
def test_a_number_beyond_a_float_is_a_regression(refs: Path, write_run: WriteRun, value: str) -> None:
    now = _now(write_run)
    now.write_text(now.read_text().replace('"arm_accuracy": 100.0', f'"arm_accuracy": {value}'))
    row = next(row for row in compare(read_references(refs), [now]).rows if row.metric == "arm_accuracy")
    assert (row.verdict, row.value) == ("regression", INF)
    assert run(["compare", "--baseline", str(refs), str(now), "--json"]) == 1
    with pytest.raises(InputError, match="arm_accuracy is inf: no reference"):
        update(refs, [now], predictions=False)


@pytest.mark.parametrize("stages", [5, "x", [{"stage": ["arm nb"], "images": 3}], [{"stage": "arm nb"}]])
def test_stages_of_another_form_say_nothing(refs: Path, write_run: WriteRun, stages: Any) -> None:
    now = _now(write_run, stages=stages)
    assert not any(row.failed for row in compare(read_references(refs), [now]).rows)


@pytest.mark.parametrize("where", ["model", "tools", "metrics"])
def test_half_a_character_in_a_report(refs: Path, write_run: WriteRun, where: str, capsys: Capture) -> None:
    broken = {"model": "\ud800", "tools": {"numpy": "\ud800"}, "metrics": {"\ud800": 1}}
    now = _now(write_run, **{where: broken[where]})
    assert run(["compare", "--baseline", str(refs), str(now), "--json"]) == 2
    assert "half a character" in capsys.readouterr().out


def test_half_a_character_in_a_stored_text(refs: Path, write_run: WriteRun, capsys: Capture) -> None:
    now = _now(write_run)
    path = now.parent / "predictions.jsonl"
    path.write_text(path.read_text().replace('"text": "text 3"', r'"text": "\ud800"'))
    assert run(["compare", "--baseline", str(refs), str(now), "--json"]) == 2
    assert "predictions.jsonl:4: not a prediction row" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{value: yes, tolerance: 1, better: higher}", "True is not a number"),
        ("{value: 1, tolerance: no, better: higher}", "False is not a number"),
        (f"{{value: {'9' * 400}, tolerance: 1, better: higher}}", "more digits"),
        ('{value: 1.0e+300, tolerance: "1e300%", better: higher}', "infinite"),
    ],
)
def test_numbers_of_references_that_are_none(tmp_path: Path, entry: str, said: str) -> None:
    path = tmp_path / "refs.yml"
    path.write_text(f"models: {{cls: {{accuracy: {entry}}}}}")
    with pytest.raises(ConfigError, match=said):
        read_references(path)


def test_half_a_character_in_references(tmp_path: Path) -> None:
    path = tmp_path / "refs.yml"
    path.write_text(r'models: {"\ud800": {accuracy: {value: 1, tolerance: 1, better: higher}}}')
    with pytest.raises(ConfigError, match="half a character"):
        read_references(path)

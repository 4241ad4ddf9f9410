"""References and reports: what fails a build, what is only shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slim.compare import Reference, compare, judge, read_references
from slim.errors import ConfigError, InputError

REFS = """
models:
  cls:
    accuracy: {value: 94.0, tolerance: 1.0, better: higher}
    arm_nb_bytes: {value: 200000, tolerance: "2%", better: lower}
"""


def _refs(folder: Path, text: str = REFS) -> Path:
    path = folder / "refs.yml"
    path.write_text(text)
    return path


def _report(folder: Path, model: str = "cls", **metrics: object) -> Path:
    path = folder / f"{model}-{len(list(folder.iterdir()))}.json"
    path.write_text(
        json.dumps({"model": model, "metrics": {"accuracy": 94.0, "arm_nb_bytes": 200000} | metrics})
    )
    return path


@pytest.mark.parametrize(
    ("metrics", "verdicts"),
    [
        ({}, ["ok", "ok"]),
        ({"accuracy": 93.0}, ["ok", "ok"]),
        ({"accuracy": 92.9}, ["regression", "ok"]),
        ({"accuracy": 95.5}, ["gain", "ok"]),
        ({"arm_nb_bytes": 204001}, ["ok", "regression"]),
        ({"arm_nb_bytes": 195000}, ["ok", "gain"]),
        ({"accuracy": None}, ["missing", "ok"]),
        ({"accuracy": float("nan")}, ["regression", "ok"]),
        ({"accuracy": "94"}, ["missing", "ok"]),
    ],
)
def test_a_metric_beside_its_reference(
    tmp_path: Path, metrics: dict[str, object], verdicts: list[str]
) -> None:
    rows = compare(read_references(_refs(tmp_path)), [_report(tmp_path, "cls", **metrics)]).rows
    assert [row.verdict for row in rows] == verdicts
    assert any(row.failed for row in rows) == any(v in ("regression", "missing") for v in verdicts)


def test_a_model_without_a_report_fails(tmp_path: Path) -> None:
    rows = compare(read_references(_refs(tmp_path)), [_report(tmp_path, model="other")]).rows
    assert [(row.model, row.verdict, row.failed) for row in rows] == [
        ("other", "new", False),
        ("cls", "missing", True),
    ]


def test_equal_allows_no_direction() -> None:
    reference = Reference(10.0, 0.0, "equal")
    assert [judge(reference, value) for value in (10.0, 9.0, 11.0)] == ["ok", "regression", "regression"]


def test_a_tolerance_is_meant_in_decimals() -> None:
    """90.4 - 90.1 is a bit more than 0.3 in floating point; 0.31 is not."""
    reference = Reference(90.4, 0.3, "higher")
    assert 90.4 - 90.1 > 0.3
    assert [judge(reference, value) for value in (90.1, 90.09)] == ["ok", "regression"]


def test_defaults_fill_what_an_entry_leaves_out(tmp_path: Path) -> None:
    text = """
defaults: {accuracy: {tolerance: "10%", better: higher}}
models:
  a: {accuracy: {value: 50}}
  b: {accuracy: {value: 50, tolerance: 1}}
"""
    models = read_references(_refs(tmp_path, text)).models
    assert models["a"]["accuracy"] == Reference(50.0, 5.0, "higher")
    assert models["b"]["accuracy"] == Reference(50.0, 1.0, "higher")


def test_other_tool_versions_are_said(tmp_path: Path) -> None:
    refs = _refs(tmp_path, REFS + "    tools: {paddlepaddle: 2.6.1, numpy: 1.26.4}\n")
    path = _report(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tools": {"paddlepaddle": "2.6.2"}}))
    assert compare(read_references(refs), [path]).notes == (
        "cls: other tool versions (paddlepaddle 2.6.1 then, 2.6.2 now)",
    )


def test_a_file_that_no_reference_holds_is_told(tmp_path: Path) -> None:
    report = _report(tmp_path, x86_nb_bytes=9, x86_drop=50)
    found = compare(read_references(_refs(tmp_path)), [report])
    assert found.notes == ("cls: no reference is about its x86 file, write some",)


@pytest.mark.parametrize(("metric", "better"), [("agreement", "lower"), ("paired_loss", "higher")])
def test_a_paired_metric_has_one_direction(tmp_path: Path, metric: str, better: str) -> None:
    """The other one would call every loss a gain."""
    right = {"agreement": "higher", "paired_loss": "lower", metric: better}
    entries = ", ".join(f"{name}: {{value: 0, tolerance: 1, better: {way}}}" for name, way in right.items())
    path = _refs(tmp_path, f"models: {{cls: {{predictions: {{file: p}}, {entries}}}}}")
    with pytest.raises(ConfigError, match=rf"cls\.{metric}: better must be "):
        read_references(path)


def test_two_reports_of_one_model_are_refused(tmp_path: Path) -> None:
    reports = [_report(tmp_path), _report(tmp_path)]
    with pytest.raises(InputError, match="as is"):
        compare(read_references(_refs(tmp_path)), reports)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {}", "no models"),
        ("models: {cls: {accuracy: {value: 1, tolerance: 1}}}", "value, tolerance and better"),
        ("models: {cls: {}}", "cls: names no metric"),
        ("models: {cls: {tools: {numpy: '1'}}}", "cls: names no metric"),
        ("models: {cls: {a: {value: 1, tolerance: 1, better: higher}}}\nmodel: 3", "unknown section model"),
        ("models: {cls: {a: {value: 1}}}\ndefaults: {a: {value: 1}}", "defaults.a: may hold"),
        ("models: {cls: {paired_loss: {value: 0, tolerance: 1, better: lower}}}", "need each other"),
        ("models: {cls: {predictions: {file: p}, a: {value: 1, tolerance: 1, better: higher}}}", "need each"),
        ("models: {cls: {predictions: p, a: {value: 1, tolerance: 1, better: higher}}}", "needs file"),
        ("models: {cls: {accuracy: {value: x, tolerance: 1, better: higher}}}", "not a number"),
        ("models: {cls: {accuracy: {value: .nan, tolerance: 1, better: higher}}}", "finite"),
        ("models: {cls: {accuracy: {value: 1, tolerance: -1, better: higher}}}", "negative"),
        ("models: {cls: {accuracy: {value: 1, tolerance: 1, better: up}}}", "higher, lower, equal"),
    ],
)
def test_wrong_references_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_references(_refs(tmp_path, text))

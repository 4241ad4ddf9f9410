"""slim compare --update: new values in their old places, everything a person wrote kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slim.cli.main import run
from slim.compare import Reference, read_references
from slim.compare.edits import Edit, applied
from slim.compare.update import Change, update
from slim.errors import ConfigError, InputError

HAND = """\
# Why these tolerances: ask Ada.
defaults: {x86_nb_bytes: {tolerance: "3%", better: lower}}
models:
  cls:   # the classifier
    arm_accuracy: {value: 94.15, tolerance: 1.5, better: higher}  # 2,000 lines
    arm_nb_bytes:
      better: lower
      value: 168078
      tolerance: "3%"
    x86_nb_bytes: {value: 461566}
  rec: {arm_accuracy: {value: 88.35, tolerance: 0.7, better: higher}}
# the end
"""

WriteRun = Callable[..., Path]


def _report(folder: Path, model: str, **metrics: float) -> Path:
    path = folder / f"{model}.json"
    path.write_text(json.dumps({"model": model, "metrics": metrics, "tools": {"numpy": "1.26.4"}}))
    return path


def test_values_change_and_nothing_else(tmp_path: Path) -> None:
    refs = tmp_path / "refs.yml"
    refs.write_text(HAND)
    report = _report(tmp_path, "cls", arm_accuracy=93.123456, arm_nb_bytes=170000, x86_nb_bytes=461566, z=1)
    changes = update(refs, [report], predictions=False)
    assert changes[:2] == [
        Change("cls", "arm_accuracy", 94.15, 93.123456),
        Change("cls", "arm_nb_bytes", 168078.0, 170000.0),
    ]
    expected = HAND.replace("94.15", "93.123456").replace("168078", "170000")
    tools = '    tools: {"numpy": "1.26.4"}\n'
    expected = expected.replace("    arm_accuracy: {value: 93", f"{tools}    arm_accuracy: {{value: 93")
    assert refs.read_text() == expected
    assert read_references(refs).models["cls"]["arm_nb_bytes"] == Reference(170000.0, 5100.0, "lower")
    # Again: the tools entry is replaced, not added twice.
    update(refs, [report], predictions=False)
    assert refs.read_text() == expected


def test_a_model_in_one_line_and_a_new_one(tmp_path: Path) -> None:
    refs = tmp_path / "refs.yml"
    refs.write_text(HAND)
    reports = [_report(tmp_path, "rec", arm_accuracy=90), _report(tmp_path, "no: 1", arm_nb_bytes=10)]
    update(refs, reports, predictions=False)
    found = read_references(refs)
    assert found.models["rec"]["arm_accuracy"] == Reference(90.0, 0.7, "higher")
    assert found.models["no: 1"]["arm_nb_bytes"] == Reference(10.0, 0.2, "lower")
    assert found.models["cls"]["arm_accuracy"].value == 94.15
    assert refs.read_text().endswith("# the end\n") and "# 2,000 lines" in refs.read_text()


def test_a_new_file_passes_the_run_it_was_made_of(tmp_path: Path, write_run: WriteRun) -> None:
    refs = tmp_path / "sub dir" / "refs.yml"
    report = write_run("then", [True] * 40 + [False], arm_latency_ms=3.0)
    baseline = ["--baseline", str(refs), str(report)]
    assert run(["compare", "--update", "--predictions", *baseline]) == 0
    assert run(["compare", *baseline]) == 0
    assert "latency" not in refs.read_text()  # another machine's time is no reference
    assert "predictions.jsonl" in refs.read_text()


def test_few_images_get_a_tolerance_that_five_of_them_fit(tmp_path: Path, write_run: WriteRun) -> None:
    refs = tmp_path / "refs.yml"
    counts = {"cls": 100, "rec": 2000, "tiny": 20}
    reports = [write_run(name, [True] * n, model=name) for name, n in counts.items()]
    update(refs, reports, predictions=False)
    found = read_references(refs).models
    assert found["cls"]["arm_accuracy"].tolerance == 5.0
    assert found["rec"]["arm_accuracy"].tolerance == 1.0
    assert found["tiny"]["arm_accuracy"].tolerance == 10.0


def test_a_model_with_predictions_gets_new_ones(tmp_path: Path, write_run: WriteRun) -> None:
    refs = tmp_path / "refs.yml"
    update(refs, [write_run("then", [True] * 40)], predictions=True)
    now = write_run("now", [False] * 10 + [True] * 30)
    update(refs, [now], predictions=False)
    assert (
        read_references(refs).predictions["cls"].path.read_bytes()
        == (now.parent / "predictions.jsonl").read_bytes()
    )
    assert run(["compare", "--baseline", str(refs), str(now)]) == 0


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_metric_that_is_missing_or_nan_is_no_reference(tmp_path: Path, value: float | None) -> None:
    refs = tmp_path / "refs.yml"
    refs.write_text(HAND)
    report = _report(tmp_path, "rec", **({} if value is None else {"arm_accuracy": value}))
    with pytest.raises(InputError, match="no reference can be made"):
        update(refs, [report], predictions=False)
    assert refs.read_text() == HAND


def test_yaml_that_cannot_be_edited_is_refused(tmp_path: Path) -> None:
    """Two models share one entry by an alias: one value cannot change alone."""
    text = """\
models:
  a: {arm_accuracy: &shared {value: 1, tolerance: 1, better: higher}}
  b: {arm_accuracy: *shared}
"""
    refs = tmp_path / "refs.yml"
    refs.write_text(text)
    reports = [_report(tmp_path, "a", arm_accuracy=2), _report(tmp_path, "b", arm_accuracy=3)]
    with pytest.raises(ConfigError, match="cannot be changed in place"):
        update(refs, reports, predictions=False)
    assert refs.read_text() == text


SHARED = {
    "merge": """\
models:
  a: &a {arm_accuracy: {value: 1, tolerance: 1, better: higher}}
  b: {<<: *a, arm_drop: {value: 1, tolerance: 1, better: lower}}
""",
    "merged entry": """\
models:
  a: {arm_accuracy: &e {value: 1, tolerance: 1, better: higher}}
  b: {arm_accuracy: {<<: *e, tolerance: 2}}
""",
    "merged models": """\
models:
  <<: {b: {arm_accuracy: {value: 1, tolerance: 1, better: higher}}}
""",
    "tools": """\
models:
  a:
    tools: &t {numpy: 1.26.0}
    arm_accuracy: {value: 1, tolerance: 1, better: higher}
  b:
    tools: *t
    arm_accuracy: {value: 1, tolerance: 1, better: higher}
""",
    "model": """\
models:
  a: &a {arm_accuracy: {value: 1, tolerance: 1, better: higher}}
  b: *a
""",
}


@pytest.mark.parametrize(
    ("kind", "models"),
    [(k, m) for k in SHARED for m in ("a", "b", "ab") if k != "merged models" or m == "b"],
)
def test_shared_entries_are_refused(tmp_path: Path, kind: str, models: str) -> None:
    """Through an anchor or a merge one model's value would be another's too."""
    refs = tmp_path / "refs.yml"
    refs.write_text(SHARED[kind])
    reports = [_report(tmp_path, name, arm_accuracy=2, arm_drop=1) for name in models]
    with pytest.raises(ConfigError, match="write every value out, without YAML anchors and merges"):
        update(refs, reports, predictions=False)
    assert refs.read_text() == SHARED[kind]


def test_a_merged_model_of_paired_metrics_alone_is_refused(tmp_path: Path, write_run: WriteRun) -> None:
    refs, report = tmp_path / "refs.yml", write_run("now", [True] * 40, model="b")
    entry = "{predictions: {file: p.jsonl}, paired_loss: {value: 0, tolerance: 1, better: lower}}"
    refs.write_text(f"models: {{<<: {{b: {entry}}}}}")
    with pytest.raises(ConfigError, match="write every value out, without YAML anchors and merges"):
        update(refs, [report], predictions=False)


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([Edit(0, 1, "xy"), Edit(1, 1, "-"), Edit(2, 3, "")], "xy-b"),
        ([Edit(0, 2, "x"), Edit(1, 3, "y")], None),
        ([Edit(0, 1, "x"), Edit(0, 1, "x")], None),
        ([Edit(1, 1, "x"), Edit(1, 1, "y")], None),
    ],
)
def test_edits_of_the_same_characters_are_none(edits: list[Edit], expected: str | None) -> None:
    assert applied("abc", edits) == expected


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_all_files_are_written_or_none(tmp_path: Path, write_run: WriteRun) -> None:
    """The second model's predictions have no place: the first one's stay those its references name."""
    refs = tmp_path / "refs.yml"
    update(refs, [write_run(f"{m} then", [True] * 40, model=m) for m in "ab"], predictions=True)
    place = read_references(refs).predictions["b"].path
    place.unlink()
    place.mkdir()
    before = _contents(tmp_path)
    now = [write_run(f"{m} now", [True] * 39 + [False], model=m) for m in "ab"]
    with pytest.raises(InputError, match="cannot write"):
        update(refs, now, predictions=False)
    assert _contents(tmp_path) == before


def test_a_link_to_references_stays_one(tmp_path: Path, write_run: WriteRun) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "refs.yml", tmp_path / "link.yml"
    link.symlink_to(real)
    for name, wrong in (("then", 0), ("now", 1)):  # a new file, then one that is there
        report = write_run(name, [True] * (40 - wrong) + [False] * wrong)
        update(link, [report], predictions=True)
        assert link.is_symlink() and real.read_bytes() == link.read_bytes()
        assert run(["compare", "--baseline", str(link), str(report)]) == 0


def test_predictions_of_a_model_that_was_renamed_are_kept(tmp_path: Path, write_run: WriteRun) -> None:
    refs, report = tmp_path / "refs.yml", write_run("a", [True] * 60)
    update(refs, [report], predictions=True)
    refs.write_text(refs.read_text().replace("  cls:", "  cls_v1:"))
    kept = (tmp_path / "refs.cls.predictions.jsonl").read_bytes()
    update(refs, [write_run("b", [False] * 60)], predictions=True)
    found = read_references(refs).predictions
    assert found["cls_v1"].path.read_bytes() == kept
    assert found["cls"].path != found["cls_v1"].path
    assert found["cls"].path.read_bytes() == (tmp_path / "b/predictions.jsonl").read_bytes()


def test_two_models_that_share_stored_predictions_are_refused(tmp_path: Path, write_run: WriteRun) -> None:
    refs = tmp_path / "refs.yml"
    update(refs, [write_run("a", [True] * 60)], predictions=True)
    text = refs.read_text()
    refs.write_text(text + text[text.index("  cls:") :].replace("  cls:", "  two:"))
    before = _contents(tmp_path)
    with pytest.raises(InputError, match="holds the predictions of two and of cls; name another file"):
        update(refs, [tmp_path / "a/report.json"], predictions=False)
    assert _contents(tmp_path) == before


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.yml"
    link.symlink_to(link)
    with pytest.raises(InputError, match="is a link that leads to itself"):
        update(link, [_report(tmp_path, "a", arm_accuracy=2)], predictions=False)
    assert link.is_symlink()


def test_a_report_without_predictions_cannot_be_stored_with_them(tmp_path: Path) -> None:
    refs = tmp_path / "refs.yml"
    with pytest.raises(InputError, match=r"no predictions\.jsonl beside the report: nothing to store"):
        update(refs, [_report(tmp_path, "a", arm_accuracy=2)], predictions=True)
    assert not refs.exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        update(tmp_path / "file" / "refs.yml", [_report(tmp_path, "a", arm_accuracy=2)], predictions=False)


def test_references_of_a_run_that_failed_are_written_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _report(tmp_path, "a", arm_accuracy=2)
    for passed in (True, False):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"passed": passed}))
        assert run(["compare", "--update", "--baseline", str(tmp_path / "refs.yml"), str(path)]) == 0
        assert ("missed bounds of its own" in capsys.readouterr().err) is not passed

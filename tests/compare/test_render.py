"""Markdown, JUnit and text: right counts, and labels from outside that stay text."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slim.artifact import write_text
from slim.cli.main import run
from slim.compare import render
from slim.compare.pairs import Changed, Pairs
from slim.compare.rows import Comparison, Row

HOSTILE = "a|b\n<script>alert(1)</script> `x` \x1b[2J ]]> \x00 @all [l](u)"


def _comparison() -> Comparison:
    rows = (
        Row("cls", "arm_accuracy", 94.0, 1.0, 90.0, "regression"),
        Row("cls", "arm_nb_bytes", 1000.0, 20.0, 1000.0, "ok"),
        Row("new one", "report", None, None, None, "new", "no references yet"),
        Row(HOSTILE, "report", None, None, None, "missing", "no report about it"),
    )
    changed = tuple(Changed(f"{i}.png", HOSTILE, "ok", HOSTILE, "lost") for i in range(30))
    pairs = Pairs(100, 70, 30, 0, 30.0, 21.0, 39.0, 1e-9, changed)
    return Comparison(rows, {"cls": pairs}, ("a note",))


def test_junit_is_read_back_with_its_counts() -> None:
    found = _comparison()
    root = ElementTree.fromstring(render.junit(found, found.failed()))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("4", "2", "1")
    assert len(root.findall("testsuite")) == 3
    failure = root.find("testsuite[@name='cls']/testcase[@name='arm_accuracy']/failure")
    assert failure is not None and failure.text is not None
    assert failure.get("message") == "regression: cls arm_accuracy is 90, reference 94 +- 1"
    assert "and 10 more" in failure.text and "30 lost, 0 gained" in failure.text
    assert root.find("testsuite[@name='cls']/testcase[@name='arm_nb_bytes']/failure") is None


def test_hostile_text_stays_text_in_markdown() -> None:
    found = _comparison()
    text = render.markdown(found, found.failed(), limit=5)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table[:6]} == {8}  # seven columns: no cell broke its row
    assert "<script" not in text and "\x1b" not in text and "\x00" not in text and "@all" not in text
    assert text.startswith("## slim compare: 2 of 4 comparisons failed, 1 without references\n")
    assert "<details><summary>30 images changed</summary>" in text and "and 25 more" in text


def test_hostile_text_does_not_reach_the_terminal() -> None:
    text = render.text(_comparison(), limit=3)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "\\x1b[2J" in text and "and 27 more" in text


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    refs = tmp_path / "refs.yml"
    refs.write_text("models: {m: {accuracy: {value: 94, tolerance: 1, better: higher}}}")
    report = tmp_path / "report.json"
    report.write_text('{"model": "m", "metrics": {"accuracy": 80.5}}')
    return refs, report


def test_files_are_written_before_the_gate_closes(files: tuple[Path, Path], tmp_path: Path) -> None:
    refs, report = files
    outs = ["--markdown", str(tmp_path / "new dir" / "c.md"), "--junit", str(tmp_path / "c.xml")]
    assert run(["compare", "--baseline", str(refs), str(report), *outs]) == 1
    assert "REGRESSION" in (tmp_path / "new dir" / "c.md").read_text()
    assert ElementTree.parse(tmp_path / "c.xml").getroot().get("failures") == "1"


@pytest.mark.parametrize("wrong", ["refs", "report", "link", "same", "predictions"])
def test_an_output_that_is_an_input_is_refused(files: tuple[Path, Path], tmp_path: Path, wrong: str) -> None:
    refs, report = files[0], tmp_path / "run" / "report.json"
    report.parent.mkdir()
    report.write_bytes(files[1].read_bytes())
    link = tmp_path / "link.md"
    link.symlink_to(report)
    texts = report.with_name("predictions.jsonl")
    texts.write_text("kept")
    before = (refs.read_bytes(), report.read_bytes())
    out = {"refs": refs, "report": report, "link": link, "same": tmp_path / "m", "predictions": texts}[wrong]
    args = ["compare", "--baseline", str(refs), str(report.parent), "--markdown", str(out)]
    assert run([*args, *(["--junit", str(out)] if wrong == "same" else [])]) == 2
    assert before == (refs.read_bytes(), report.read_bytes()) and not (tmp_path / "m").exists()
    assert texts.read_text() == "kept"


def test_an_output_that_is_a_link_stays_one(files: tuple[Path, Path], tmp_path: Path) -> None:
    refs, report = files
    (tmp_path / "link.md").symlink_to(tmp_path / "there.md")
    run(["compare", "--baseline", str(refs), str(report), "--markdown", str(tmp_path / "link.md")])
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "there.md").read_text().startswith("## slim compare")


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    """As root, a rename would put a file in the place of /dev/stdout."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "here")
    assert os.read(reader, 9) == b"here" and stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)


def test_json_holds_no_nan(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    refs, report = files
    report.write_text('{"model": "m", "metrics": {"accuracy": NaN}}')
    assert run(["compare", "--baseline", str(refs), str(report), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] is False and data["rows"][0]["value"] is None


def test_a_missing_model_fails_and_a_new_one_warns(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    refs, report = files
    report.write_text('{"model": "other", "metrics": {"accuracy": 94}}')
    assert run(["compare", "--baseline", str(refs), str(report)]) == 1
    said = capsys.readouterr().err
    assert "warning: other report has no references yet" in said
    assert said.endswith("failed, the first: missing: m report (no report about it)\n")
    refs.write_text("models: {other: {accuracy: {value: 94, tolerance: 1, better: higher}}}")
    assert run(["compare", "--baseline", str(refs), str(report)]) == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--update", "--junit", "x.xml"], "--update compares nothing"),
        (["--predictions"], "give it with --update"),
    ],
)
def test_options_that_exclude_each_other(
    files: tuple[Path, Path], args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refs, report = files
    assert run(["compare", "--baseline", str(refs), str(report), *args]) == 2
    assert said in capsys.readouterr().err

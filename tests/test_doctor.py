"""The doctor finds what was broken, names what it disables, and speaks where libraries crash."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from slim import doctor, shaping
from slim.cli.main import run
from slim.doctor import Finding, diagnose
from slim.errors import SlimError
from slim.probe import Answer, ask


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """Child processes are not started: they give the last answer put here (default: all is well)."""
    given = [Answer(True, "-")]
    monkeypatch.setattr(doctor, "ask", lambda code: given[-1])
    return given


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def test_everything_is_well_in_the_locked_environment() -> None:
    findings = by_name(diagnose())
    assert {name: finding.found for name, finding in findings.items() if not finding.ok} == {}
    assert findings["paddle"].found == "loads, 2.6.2"
    assert findings["opt"].found == "runs"


def test_findings_are_plain_data(answers: list[Answer]) -> None:
    rows = [finding.to_json() for finding in diagnose()]
    assert json.loads(json.dumps(rows)) == rows
    assert set(rows[0]) == {"name", "ok", "found", "needed", "disables", "remedy", "optional"}


def test_a_good_finding_disables_nothing_and_a_bad_one_has_a_remedy(answers: list[Answer]) -> None:
    answers.append(Answer(False, "killed by signal 11"))
    findings = diagnose()
    assert all(not finding.disables and not finding.remedy for finding in findings if finding.ok)
    bad = [finding for finding in findings if not finding.ok]
    assert {"opencv", "paddle", "opt", "system libraries"} <= {finding.name for finding in bad}
    assert all(finding.disables and finding.remedy for finding in bad)


def test_the_missing_library_is_named_with_its_package(answers: list[Answer]) -> None:
    answers.append(Answer(True, "libgthread-2.0.so.0"))
    finding = by_name(diagnose())["system libraries"]
    assert not finding.ok
    assert finding.found == "missing: libgthread-2.0.so.0"
    assert finding.remedy == "apt-get install -y libglib2.0-0"


def test_a_package_that_misses_a_library_is_mended_by_that_library(answers: list[Answer]) -> None:
    answers.append(Answer(False, "ImportError: libGL.so.1: cannot open shared object file"))
    assert by_name(diagnose())["opencv"].remedy == "apt-get install -y libgl1"
    answers.append(Answer(False, "ImportError: numpy"))
    assert by_name(diagnose())["opencv"].remedy.startswith("make install")


def test_a_wrong_and_a_missing_version_are_found(
    answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "paddlelite":
            raise metadata.PackageNotFoundError(name)
        return "3.0.0" if name == "paddlepaddle" else real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    findings = by_name(diagnose())
    assert (findings["paddlepaddle"].ok, findings["paddlepaddle"].found) == (False, "3.0.0")
    assert findings["paddlepaddle"].needed == "2.6.2"
    assert (findings["paddlelite"].ok, findings["paddlelite"].found) == (False, "not installed")
    assert "export-nb" in findings["paddlelite"].disables


def test_a_foreign_package_is_a_finding(answers: list[Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    def shadowed() -> None:
        raise SlimError("another package", where="/else/quant", remedy="rename it")

    monkeypatch.setattr(doctor, "check_shadowing", shadowed)
    finding = by_name(diagnose())["packages of ours"]
    assert (finding.ok, finding.remedy) == (False, "rename it")
    assert "/else/quant" in finding.found


def test_too_little_memory_is_found(answers: list[Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: 2**30)
    finding = by_name(diagnose())["memory"]
    assert (finding.ok, finding.found, finding.needed) == (False, "1.0 GiB", "4 GiB")


def test_a_missing_shaping_engine_is_told_and_is_no_fault(
    answers: list[Answer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor._shaping().ok == shaping.shaping_available()
    monkeypatch.setattr(shaping, "shaping_available", lambda: False)
    finding = by_name(diagnose())["text shaping"]
    assert (finding.ok, finding.optional, finding.found) == (False, True, "no Raqm")
    assert run(["doctor"]) == 0
    told = capsys.readouterr().out.splitlines()
    where = told.index("--  text shaping: no Raqm, needed Raqm with FriBidi")
    assert told[where + 1].endswith(
        "synth for Arabic, Indic and other scripts whose letters join; " + shaping.ENGINE_REMEDY
    )


def test_an_unusable_temporary_folder_is_found(
    answers: list[Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor.tempfile, "tempdir", str(tmp_path / "gone"))
    finding = by_name(diagnose())["temporary folder"]
    assert not finding.ok
    assert "TMPDIR" in finding.remedy


def test_a_cache_folder_that_cannot_be_made_is_found(
    answers: list[Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".cache").write_text("", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    finding = by_name(diagnose())["cache folder"]
    assert not finding.ok
    assert f"not writable at {tmp_path / '.cache'}" in finding.found


# --- slim.probe ----------------------------------------------------------------------------------


def test_a_child_that_answers() -> None:
    assert ask("print('first'); print('last')") == Answer(True, "last")


def test_a_child_that_raises_gives_its_last_line() -> None:
    assert ask("raise ImportError('libGL.so.1: cannot open')") == Answer(
        False, "ImportError: libGL.so.1: cannot open"
    )


def test_a_child_that_is_killed_is_told_by_its_signal() -> None:
    answer = ask("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert answer == Answer(False, "killed by signal 9")


def test_a_child_that_hangs_is_given_up() -> None:
    assert ask("import time; time.sleep(60)", timeout=0.5) == Answer(False, "no answer within 0.5 s")


def test_an_interpreter_that_is_not_there() -> None:
    answer = ask("", python="/no/such/python")
    assert answer == Answer(False, "/no/such/python does not run: No such file or directory")

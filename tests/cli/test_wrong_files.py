"""A file of the wrong kind: the line names it, and the remedy is one that helps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slim import artifact, zoo
from slim.bundle import save
from slim.cli.main import run
from slim.config import find_config, load_config
from slim.pipeline.lineage import LINEAGE
from slim.pipeline.opening import open_model
from slim.progress import Silent

CLS = f"{zoo.PREFIX}ch_ppocr_mobile_v2.0_cls"
REC = f"{zoo.PREFIX}en_number_synthetic_crnn"

Capture = pytest.CaptureFixture[str]
Refused = Callable[..., str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, worked in, with one file of each wrong kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("images/a.jpg\tabc\n" * 30, encoding="utf-8")
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 8), np.float32))
    return tmp_path


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["bench", "nosuch.nb"], "nosuch.nb: no such file; give .nb files"),
        (["bench", "nosuch"], "nosuch: no such model; give a folder with .pdmodel"),
        (["import", "text.txt", "-c", "cls/cls_demo", "--out", "o"], "text.txt: is no .pdmodel file; give"),
        (["import", "none", "-c", "cls/cls_demo", "--out", "o"], "none: no such model; give a folder with"),
        (["inspect", "folder"], "folder: is a folder; give the path of a .nb file"),
        (["run-nb", "folder", "x.npy", "y.npy"], "folder: is a folder; give the path of a .nb file"),
        (["inspect", "text.txt"], "text.txt: is no nb file, or of a version not known"),
        (["inspect", "none.nb"], "none.nb: no such file; give the path of a .nb file"),
        (["eval", "--model", "text.txt", "--data", "text.txt"], "it does not begin as a pickle does"),
        (["compare", "--baseline", "refs.yml", "folder"], "folder/report.json: no such report; give what"),
        (["compare", "--baseline", "refs.yml", "none.json"], "none.json: no such report; give what"),
    ],
)
def test_the_line_names_the_file_and_a_remedy(
    args: list[str], said: str, place: Path, refused: Refused
) -> None:
    (place / "text.txt.pdparams").write_bytes((place / "text.txt").read_bytes())
    (place / "refs.yml").write_text(
        "models: {m: {acc: {value: 1, tolerance: 1, better: higher}}}", encoding="utf-8"
    )
    refused(args, said)


def test_compare_reads_a_folder_of_a_check(place: Path, capsys: Capture) -> None:
    (place / "refs.yml").write_text(
        "models: {m: {acc: {value: 1.0, tolerance: 0.1, better: higher}}}", encoding="utf-8"
    )
    report = {"model": "m", "metrics": {"acc": 1.0}}
    (place / "folder/report.json").write_text(json.dumps(report), encoding="utf-8")
    assert run(["compare", "--baseline", "refs.yml", "folder"]) == 0
    report["metrics"] = {"acc": 0.5}
    (place / "folder/report.json").write_text(json.dumps(report), encoding="utf-8")
    assert run(["compare", "--baseline", "refs.yml", "folder"]) == 1


def test_a_pickle_of_other_opcodes_says_whom_to_trust(place: Path, refused: Refused) -> None:
    (place / "m.pdparams").write_bytes(b"\x80\x02Pother\n.")
    line = refused(["eval", "--model", "m.pdparams", "--data", "text.txt"])
    assert "pickle opcode PERSID" in line and "from a source you trust" in line


def test_an_x86_file_is_named_and_not_executed(place: Path, refused: Refused) -> None:
    out = str(place / "e")
    assert run(["export-nb", CLS, "--target", "x86", "--out", out]) == 0
    line = refused(["run-nb", "e/model.x86.nb", "x.npy", "y.npy"])
    assert re.match(r"e/model\.x86\.nb, op \d+ \w+: is for x86 .*only ARM files.*--target arm", line)
    assert not (place / "y.npy").exists()


def test_an_input_that_does_not_fit_names_file_and_operator(place: Path, refused: Refused) -> None:
    assert run(["export-nb", CLS, "--target", "arm", "--out", "my e"]) == 0
    line = refused(["run-nb", "my e/model.arm.nb", "x.npy", "y.npy"])
    assert re.match(r"my e/model\.arm\.nb, op \d+ \w+: .*smaller than the window", line), line
    assert not (place / "y.npy").exists()


def test_a_wrong_original_is_not_answered_with_give_an_original(place: Path, refused: Refused) -> None:
    assert run(["export-nb", CLS, "--target", "arm", "--out", "e"]) == 0
    line = refused(["check", "e", "--original", "none.pdparams"])
    assert "none.pdparams: no such model; give zoo:NAME" in line and "--original" not in line


def test_relative_without_a_drop_is_refused(refused: Refused) -> None:
    line = refused(["quant", "-c", "rec/en_number_demo", "--relative"])
    assert "--relative says how a drop counts: give --max-drop" in line


@pytest.mark.parametrize("wrong", [["--target", "mips"], ["-o", "Prune.flop=1"]])
def test_a_run_without_a_recipe_writes_nothing_before_it_read_its_options(
    wrong: list[str], place: Path, refused: Refused
) -> None:
    refused(["run", "--model", REC, "--data", "text.txt", "--out", "r", *wrong])
    assert not (place / "r").exists()


@pytest.mark.parametrize("stage", ["quant", "export-nb"])
def test_a_stage_does_not_replace_the_float_original(stage: str, place: Path, refused: Refused) -> None:
    config = load_config(find_config("cls/cls_demo"))
    for name, source in (("float", str(place / "float")), ("p", str(place / "float"))):
        with artifact.writing(place / name) as folder:
            save(open_model(CLS, config, Silent()), folder)
            facts = {LINEAGE: [{"stage": "float", "source": source}]}
            artifact.seal(folder, "prune", recipe={}, parent="", seed=0, facts=facts)
    args = ["quant", "-c", "cls/cls_demo", "--model", "p"] if stage == "quant" else [stage, "p"]
    assert "is the float original of p" in refused([*args, "--out", "float"])
    artifact.verify(place / "float")

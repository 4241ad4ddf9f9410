"""The command line's own grammar: overrides, targets, exit codes, one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from slim.cli import common, main
from slim.cli.main import run


@pytest.mark.parametrize(
    ("given", "spread"),
    [
        (["-o", "A=1"], ["-o", "A=1"]),
        (["-o", "A.b=1", "C=2"], ["-o", "A.b=1", "-o", "C=2"]),
        (["-o", "A=1", "-o", "B=2", "C=3"], ["-o", "A=1", "-o", "B=2", "-o", "C=3"]),
        (["-o", "A=1", "--out", "x=y"], ["-o", "A=1", "--out", "x=y"]),
        (["path=1", "-o", "A=1"], ["path=1", "-o", "A=1"]),
        (["-o", "A=x=y", "folder"], ["-o", "A=x=y", "folder"]),
    ],
)
def test_overrides_follow_one_o_as_in_paddleocr(given: list[str], spread: list[str]) -> None:
    assert common.spread_overrides(given) == spread


def test_targets() -> None:
    assert common.targets("arm,x86,arm") == ("arm", "x86")
    with pytest.raises(click.UsageError, match="must be arm, x86"):
        common.targets("ios")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["qant"], 2, "did you mean quant?"),
        (["prune"], 2, "Missing option"),
        (["config", "check", "no_such.yml"], 2, "no such file"),
        (["eval", "--model", "nothing.pdparams", "--data", "x"], 2, "no such model"),
        (["eval", "--model", "zoo:nothing", "--data", "x"], 2, "no model 'nothing' in the zoo"),
        (["models", "show", "nothing"], 2, "no model 'nothing' in the zoo"),
        (["run"], 2, "give -c CFG"),
        (["inspect", "nothing.nb"], 2, "nothing.nb"),
    ],
)
def test_a_users_mistake_is_one_line_and_its_code(
    args: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args) == code
    out = capsys.readouterr()
    assert out.out == ""
    assert said in out.err
    assert "Traceback" not in out.err
    assert len(out.err.strip().splitlines()) == 1


def test_an_error_with_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "nothing", "--json"]) == 2
    data = json.loads(capsys.readouterr().out)
    assert data["exit_code"] == 2
    assert "no model 'nothing' in the zoo" in data["error"]


def test_models_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    names = [model["name"] for model in json.loads(capsys.readouterr().out)["models"]]
    assert "ch_ppocr_mobile_v2.0_cls" in names


def test_a_bug_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("wires crossed")

    monkeypatch.setattr("slim.zoo.find", broken)
    assert run(["models", "show", "x"]) == 4
    assert "unexpected RuntimeError: wires crossed" in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(name: str) -> None:
        raise KeyboardInterrupt

    told: list[BaseException] = []
    monkeypatch.setattr("slim.zoo.find", stopped)
    monkeypatch.setattr("slim.distributed.fail", told.append)
    assert run(["models", "show", "x"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [type(error) for error in told] == [KeyboardInterrupt]  # the other processes of a launch end by it


def test_compare_turns_red_on_a_damaged_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs = tmp_path / "refs.yml"
    refs.write_text("models: {m: {accuracy: {value: 94.0, tolerance: 1.0, better: higher}}}")
    report = tmp_path / "report.json"
    for accuracy, code in ((93.5, 0), (12.0, 1)):
        report.write_text(json.dumps({"model": "m", "metrics": {"accuracy": accuracy}}))
        with pytest.raises(SystemExit) as ended:
            main(["compare", "--baseline", str(refs), str(report)])
        assert ended.value.code == code
    assert "1 of 1 comparisons failed" in capsys.readouterr().err


def test_the_seed_is_the_options_then_the_configs() -> None:
    from slim.config import config_from

    config = config_from({"Global": {"seed": 5}})
    found = [common.seed_of(None), common.seed_of(None, config), common.seed_of(3, config)]
    assert found == [common.DEFAULT_SEED, 5, 3]

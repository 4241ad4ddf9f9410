"""The table of candidates and the accuracy search: real files, executed; a second run makes none again."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from quant.scheme import QuantScheme
from slim.cli.main import run
from slim.pipeline import candidates

CONFIG = ["-c", "cls/cls_demo", "--json", "-o"]
FEW = ["Quant.mode=ptq", "Quant.images=16", "Check.images=40", "Check.simulation_images=16"]


@pytest.mark.slow
def test_every_candidate_is_made_scored_and_kept(
    overrides: dict[str, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "all ways"
    args = ["quant", "--compare", "--out", str(out), *CONFIG, *FEW, *overrides["cls"]]
    assert run(args) == 0
    report = json.loads(capsys.readouterr().out)
    rows = {row["candidate"]: row for row in report["candidates"]}
    assert {"float", "int8 ptq absmax", "weights int8", "weights int16", "fp16"} <= set(rows)
    assert all(not row["note"].startswith("failed") for row in rows.values())
    assert rows["int8 ptq absmax"]["bytes"] < rows["weights int8"]["bytes"] < rows["float"]["bytes"]
    assert rows["float"]["drop"]["points"] == 0.0 and rows["float"]["drop"]["n"] == 40
    assert "accuracy" not in rows["fp16"] and rows["fp16"]["bytes"] > rows["float"]["bytes"]
    assert (out / "compare.md").read_text().count("\n| ") == len(rows) + 2
    assert cv2.imread(str(out / "compare.png")) is not None
    # Nothing is made again; a row that is missing is.
    made = []
    whole = candidates.executed
    monkeypatch.setattr(candidates, "executed", lambda *a: made.append(a[0]) or whole(*a))
    assert run(args) == 0 and not made
    data = json.loads((out / "compare.json").read_text())
    data["candidates"] = [row for row in data["candidates"] if row["candidate"] != "weights int8"]
    (out / "compare.json").write_text(json.dumps(data))
    capsys.readouterr()
    assert run(args) == 0 and len(made) == 1
    assert {row["candidate"] for row in json.loads(capsys.readouterr().out)["candidates"]} == set(rows)


@pytest.mark.slow
def test_layers_fall_back_until_the_shipped_file_holds_the_drop(
    overrides: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two bits for the weights cost so much that some layers have to be float again."""
    out = tmp_path / "q"
    keep = "Quant.exclude=['backbone.blocks.[1-9]*','backbone.blocks.10*','backbone.conv2*']"
    more = ["Quant.activation_bits=8", keep, "Quant.weight_bits=2"]
    args = ["quant", "--max-drop", "5", "--out", str(out), *CONFIG, *FEW, *more, *overrides["cls"]]
    code = run(args)
    assert code == 0
    result = json.loads(capsys.readouterr().out)["result"]
    scheme = QuantScheme.from_json(json.loads((out / "scheme.json").read_text()))
    assert result["search"]["float"] and result["search"]["drop"]["points"] <= 5
    assert set(result["search"]["float"]).isdisjoint(scheme.paths)
    reasons = {layer.path: layer.reason for layer in scheme.kept_float}
    assert all(reasons[path].startswith("accuracy search") for path in result["search"]["float"])
    assert (out / "quant_analysis.json").is_file() and (out / "quant_analysis.png").is_file()
    steps = json.loads((out / "quant_analysis.json").read_text())["steps"]
    assert steps[0]["float"] == [] and steps[0]["drop"] > 5

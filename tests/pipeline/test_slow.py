"""The whole road where it takes longer: the recognizer, and a recipe from weights and labels alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slim import zoo
from slim.cli.main import run

TINY = [
    "Prune.images=32",
    "Prune.ratios=[0.25]",
    "Prune.bn_batches=2",
    "Prune.Finetune.steps=2",
    "Prune.Finetune.batch_size=8",
    "Quant.images=16",
    "Quant.Finetune.steps=2",
    "Quant.Finetune.batch_size=8",
    "Check.simulation_images=20",
    # Two steps on a hundred lines prove nothing about accuracy; the demo and its references do.
    "Check.max_drop=60",
    "Check.min_agreement=0.5",
]


@pytest.mark.slow
def test_the_recognizer_goes_the_whole_road(
    overrides: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rec"
    args = ["run", "-c", "rec/en_number_demo", "--out", str(out), "--json", "-o", *TINY, *overrides["rec"]]
    assert run([*args, "Check.images=60"]) == 0
    report = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in report["checks"]]
    assert "model.arm.nb: layers computed in int8" in names
    assert any("6 tensors" in name for name in names)  # other widths were among them
    assert report["metrics"]["arm_nb_bytes"] < 0.3 * report["metrics"]["inference_bytes"]


@pytest.mark.slow
def test_weights_and_labels_are_enough(
    lines: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "best_accuracy.pdparams"
    model.write_bytes(zoo.find("ch_ppocr_mobile_v2.0_cls").path.read_bytes())
    labels = lines["cls"] / "train.txt"
    args = [
        "run",
        "--model",
        str(model),
        "--data",
        str(labels),
        "--target",
        "arm",
        "--out",
        str(tmp_path / "w"),
    ]
    assert run([*args, "--json", "-o", *TINY]) == 0
    said = capsys.readouterr()
    assert "classes 0 and 180" in said.err
    report = json.loads(said.out)
    assert report["steps"][0]["source"] == str(model)
    assert (tmp_path / "w" / "model.arm.nb").is_file()
    assert (tmp_path / "w" / "data" / "eval.txt").is_file()

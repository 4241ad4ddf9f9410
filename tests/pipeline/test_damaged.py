"""The gate of a CI on a real model: the good one passes, a deliberately damaged one turns it red."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slim import zoo
from slim.checkpoint import read_pdparams, write_pdparams
from slim.cli.main import run


def _report(model: str, lines: Path, out: Path) -> Path:
    assert run(["export-nb", model, "--target", "arm", "--out", str(out)]) == 0
    command = ["check", str(out), "--data", str(lines / "eval.txt"), "--images", "60"]
    run([*command, "--original", f"{zoo.PREFIX}ch_ppocr_mobile_v2.0_cls"])
    return out / "report.json"


def test_a_damaged_model_turns_compare_red(
    tmp_path: Path, lines: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "ch_ppocr_mobile_v2.0_cls"
    state = read_pdparams(zoo.find(name).path)
    # One BatchNorm forgets its statistics: a kind of damage nothing but the accuracy shows.
    state["backbone.conv2.bn._variance"] = np.full_like(state["backbone.conv2.bn._variance"], 1e4)
    write_pdparams(state, tmp_path / f"{name}.pdparams")
    refs = tmp_path / "refs.yml"
    refs.write_text(
        f"models: {{{name}: {{arm_accuracy: {{value: 93, tolerance: 8, better: higher}}}}}}", encoding="utf-8"
    )
    codes = {}
    for kind, model in (("good", f"zoo:{name}"), ("damaged", str(tmp_path / f"{name}.pdparams"))):
        report = _report(model, lines["cls"], tmp_path / kind)
        capsys.readouterr()
        codes[kind] = run(["compare", "--baseline", str(refs), str(report)])
    assert codes == {"good": 0, "damaged": 1}
    assert "REGRESSION" in capsys.readouterr().out

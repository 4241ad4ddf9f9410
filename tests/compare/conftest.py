"""Runs as a comparison meets them: a report with its predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slim.evaluate import PredictionRow, write_predictions

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Make a folder with report.json and predictions.jsonl.

    ``right`` says of each image whether it is read as expected; a wrong one is read as "wrong".
    """

    def make(name: str, right: Sequence[bool], *, model: str = "cls", **metrics: float) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rows = [
            PredictionRow(f"img/{i}.png", f"text {i}", f"text {i}" if ok else "wrong", 0.9, ok)
            for i, ok in enumerate(right)
        ]
        write_predictions(rows, folder / "predictions.jsonl")
        accuracy = 100.0 * sum(right) / len(right)
        numbers = {"arm_accuracy": accuracy, "arm_drop": 95.0 - accuracy, "arm_nb_bytes": 1000}
        report = {
            "model": model,
            "metrics": numbers | metrics,
            "stages": [{"stage": "arm nb", "images": len(right)}],
            "tools": {"numpy": "1.26.4"},
        }
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
        return folder / "report.json"

    return make

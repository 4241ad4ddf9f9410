"""The benchmark's verdict: each target can be missed, and only then is the exit code 1."""

from __future__ import annotations

from typing import Any

from benchmarks.ptq import EXCLUDED, table, verdict


def _row(**changed: Any) -> dict[str, Any]:
    row = {
        "seconds": 5.0,
        "paddleslim_seconds": 150.0,
        "ratio": 30.0,
        "cpu_ratio": 31.0,
        "accuracy": 93.0,
        "paddleslim_accuracy": 93.2,
        "paddleslim_judged_by": "ARM file",
        "lost_points": 0.2,
        "interval": [-0.5, 0.9],
        "as_accurate": True,
    }
    return {**row, **changed}


def _results(kind: str, name: str, **changed: Any) -> dict[str, Any]:
    found = {"images": 320, "lines": 2000, "float_accuracy": 93.5, "algorithms": {name: _row(**changed)}}
    return {kind: found}


def test_targets_met() -> None:
    assert verdict(_results("cls", "kl"))["passed"]


def test_slow_kl_of_the_classifier_is_a_miss() -> None:
    found = verdict(_results("cls", "kl", ratio=19.9))
    assert found == {"misses": ["cls kl is 19.9 times faster, the target is 20"], "passed": False}
    assert verdict(_results("cls", "hist", ratio=1.0))["passed"], "only kl has a target"
    assert verdict(_results("cls", "kl", ratio=1.0), quick=True)["passed"], "too short to judge"


def test_less_accurate_beyond_the_interval_is_a_miss() -> None:
    lost = {"lost_points": 1.0, "interval": [0.1, 1.9], "as_accurate": False}
    assert not verdict(_results("rec", "mse", **lost))["passed"]


def test_table_names_what_was_left_out_and_how_each_side_was_judged() -> None:
    results = _results("cls", "kl", paddleslim_judged_by="simulation")
    text = table({"results": results, "excluded": EXCLUDED, "verdict": verdict(results)})
    assert "simulation" in text
    assert all(f"left out: paddleslim {name}" in text for name in ("avg", "min_max"))
    assert text.endswith("all targets met")

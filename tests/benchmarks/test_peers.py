"""One table of all ratios: each benchmark has rows, a miss or a failure is seen, a page keeps its text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import BEGIN, END, ROWS, RUNS, markdown, put, rows_of

SIZES = {"results": {"cls int8": {"opt": 1000, "ours": 400, "ratio": 0.4}}, "bound": 0.5}
TRAINING = {"results": {"rec": {"paddle_ms": 200, "quick_ms": 100, "ratio": 2.0}}}
EXECUTOR = {
    "verdict": {"bound": 6.0},
    "results": {
        "cls": {
            "paddle, 1 thread": {"median_ms": 12.0},
            "paddle, 2 threads": {"median_ms": 10.0},
            "onnxruntime, 1 thread": {"median_ms": 5.0},
            "cls_int8, batch 8": {"median_ms": 20.0},
            "cls_int8, batch 16": {"median_ms": 15.0},
        }
    },
}


def test_ratios_by_hand() -> None:
    (size,) = rows_of("sizes", json.dumps(SIZES), 0)
    assert (size.ours, size.theirs, size.ratio, size.met) == ("400", "1,000", "0.40 of the bytes", True)
    (step,) = rows_of("training", json.dumps(TRAINING), 0)
    assert (step.ratio, step.met) == ("2.00 times faster", True)
    # The better batch of ours against the faster Paddle, and against ONNX Runtime, which has no target.
    paddle, onnx = rows_of("executor", json.dumps(EXECUTOR), 0)
    assert (paddle.ours, paddle.theirs, paddle.ratio, paddle.met) == (
        "15.00", "10.00", "1.50 times as long", True
    )  # fmt: skip
    assert (onnx.theirs, onnx.ratio, onnx.met) == ("5.00", "3.00 times as long", None)


def test_a_missed_target_is_seen() -> None:
    changed: dict[str, Any] = json.loads(json.dumps(TRAINING))
    changed["results"]["rec"]["ratio"] = 1.49
    (step,) = rows_of("training", json.dumps(changed), 1)
    assert step.met is False
    assert "**missed**" in markdown([step], {}, False) and "1 of 1 targets missed" in markdown(
        [step], {}, False
    )


@pytest.mark.parametrize(("said", "code"), [("", 0), ("{}", 0), (json.dumps(TRAINING), -9)])
def test_a_benchmark_that_fails_is_a_row(said: str, code: int) -> None:
    (row,) = rows_of("training", said, code)
    assert row.met is False and row.ratio.startswith("FAILED")


def test_a_page_keeps_what_is_around_the_table(tmp_path: Path) -> None:
    page = tmp_path / "p.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n", encoding="utf-8")
    put(page, "| new |")
    assert page.read_text(encoding="utf-8") == f"above\n{BEGIN}\n| new |\n{END}\nbelow\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no lines"):
        put(page, "| new |")
    assert page.read_text(encoding="utf-8") == "no marks"


def test_every_benchmark_is_in_the_table(checkout: Path) -> None:
    # The published models' sizes have a page of their own: no peer makes these files. Nor is a float a peer.
    others = {"peers", "onnx_writer", "published", "finetuned"}
    there = {path.stem for path in (checkout / "benchmarks").glob("*.py")} - others
    assert there == set(RUNS) == set(ROWS)


def test_the_page_has_the_marks(checkout: Path) -> None:
    page = (checkout / "docs" / "PERFORMANCE.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1


def test_sizes_of_the_shipped_files(checkout: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.peers", "--only", "sizes", "--json"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["bytes of the ARM file, cls int8"]["theirs"] == "484,758"


@pytest.mark.slow
def test_a_quick_run_of_all(checkout: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.peers", "--quick", "--json"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=1800)
    rows = json.loads(done.stdout)["rows"]
    assert [row for row in rows if row["ratio"].startswith("FAILED")] == [], done.stderr[-2000:]
    peers = {row["peer"] for row in rows}
    assert {"Paddle-Lite opt", "Paddle's Predictor", "ONNX Runtime", "PaddleSlim"} <= peers

"""Bytes of the files `opt` writes against the same files after `slim compact`: int8 and float, both models.

    python -m benchmarks.sizes [--json]

The files are those of tests/golden/nb, as `opt` 2.13 wrote them. Outputs of a compacted file are bit-equal,
but for LSTM matrices stored as int8, which stand in a row of their own (tests/export/nb/test_compact.py).
Exit code 1 when an int8 file as `slim export-nb` ships it (JUDGED) is not under half of what `opt` wrote.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
from typing import Any

from benchmarks.executor import GOLDEN

BOUND = 0.5  # share of opt's bytes, files of JUDGED
JUDGED = ("cls int8", "rec int8, LSTM as int8")
FILES = {
    "cls int8": ("cls_int8", "float"),
    "rec int8": ("rec_int8", "float"),
    "rec int8, LSTM as int8": ("rec_int8", "int8"),
    "cls float": ("cls_fp32", "float"),
    "rec float": ("rec_fp32", "float"),
}


def measure() -> dict[str, Any]:
    """Bytes by file."""
    from export.nb.compact import compact
    from export.nb.format import encode_nb, parse_nb

    rows = {}
    for name, (file, lstm_weights) in FILES.items():
        data = lzma.decompress((GOLDEN / f"{file}.nb.xz").read_bytes())
        ours = len(encode_nb(compact(parse_nb(data), lstm_weights=lstm_weights)[0]))
        rows[name] = {"opt": len(data), "ours": ours, "ratio": round(ours / len(data), 3)}
    return rows


def table(report: dict[str, Any]) -> str:
    """For people."""
    rows = report["results"].items()
    lines = [f"{name:24} {row['opt']:11,} {row['ours']:11,} {row['ratio']:7.3f}" for name, row in rows]
    word = "passed" if report["passed"] else "ABOVE THE BOUND"
    return "\n".join(
        [f"{'':24} {'opt':>11} {'ours':>11}   ratio", *lines, f"{'; '.join(JUDGED)} under {BOUND:g}: {word}"]
    )


def main() -> int:
    """Measure, print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    results = measure()
    passed = all(results[name]["ratio"] < BOUND for name in JUDGED)
    report = {"results": results, "bound": BOUND, "passed": passed}
    print(json.dumps(report, indent=1) if args.json else table(report))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

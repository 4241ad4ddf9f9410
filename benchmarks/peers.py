"""Every ratio of this project against its peers in one run, as the table that docs/PERFORMANCE.md carries.

    python -m benchmarks.peers [--quick] [--json] [--write docs/PERFORMANCE.md]

Runs the other benchmarks one after the other, each in a process of its own, and makes one row of each of
their ratios: what was measured, ours, the peer's, the ratio, the target. --quick runs the smallest of each:
does it run at all; its ratios prove nothing. --write puts the table between the two marks of a page. Exit
code 1 when a target is missed or a benchmark fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.executor import PEERS, ROOT, machine

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
# Benchmark -> arguments of its quick run.
RUNS: dict[str, tuple[str, ...]] = {
    "sizes": (),
    "executor": ("--rounds", "1", "--batch", "4"),
    "training": ("--rounds", "1", "--batch", "4"),
    "sensitivity": ("--quick", "--lines", "8"),
    "ptq": ("--quick", "--kinds", "cls", "--algos", "absmax", "--lines", "20"),
}


@dataclass(frozen=True)
class Row:
    """One ratio.

    Attributes:
        ratio: in words that say which way is better.
        target: the bound, empty where none is set.
        met: None without a target.
    """

    what: str
    peer: str
    ours: str
    theirs: str
    ratio: str
    target: str = ""
    met: bool | None = None


def from_sizes(report: Mapping[str, Any]) -> Iterator[Row]:
    """Bytes of .nb files."""
    from benchmarks.sizes import JUDGED

    for name, row in report["results"].items():
        judged = name in JUDGED
        yield Row(
            f"bytes of the ARM file, {name}",
            "Paddle-Lite opt",
            f"{row['ours']:,}",
            f"{row['opt']:,}",
            f"{row['ratio']:.2f} of the bytes",
            f"under {report['bound']:g}" if judged else "",
            row["ratio"] < report["bound"] if judged else None,
        )


def from_executor(report: Mapping[str, Any]) -> Iterator[Row]:
    """Time per image, each file at its better batch size."""
    bound = report["verdict"]["bound"]
    for kind, rows in report["results"].items():
        ours: dict[str, float] = {}
        for name, row in rows.items():
            if not name.startswith(PEERS):
                file = name.partition(",")[0]
                ours[file] = min(ours.get(file, float("inf")), row["median_ms"])
        paddle = min(row["median_ms"] for name, row in rows.items() if name.startswith(PEERS[0]))
        for file, ms in ours.items():
            for peer, theirs in (
                ("Paddle's Predictor", paddle),
                ("ONNX Runtime", rows[PEERS[1]]["median_ms"]),
            ):
                judged = peer.startswith("Paddle")
                yield Row(
                    f"executor, ms an image, {file} against the float {kind} net",
                    peer,
                    f"{ms:.2f}",
                    f"{theirs:.2f}",
                    f"{ms / theirs:.2f} times as long",
                    f"at most {bound:g}" if judged else "",
                    ms <= bound * theirs if judged else None,
                )


def from_training(report: Mapping[str, Any]) -> Iterator[Row]:
    """A training step."""
    from benchmarks.training import BOUND

    for name, row in report["results"].items():
        yield Row(
            f"training step, ms, {name}",
            "Paddle's depthwise conv",
            str(row["quick_ms"]),
            str(row["paddle_ms"]),
            f"{row['ratio']:.2f} times faster",
            f"at least {BOUND:g}",
            row["ratio"] >= BOUND,
        )


def from_sensitivity(report: Mapping[str, Any]) -> Iterator[Row]:
    """Sensitivity curves."""
    result, verdict = report["result"], report["verdict"]
    yield Row(
        f"sensitivity, s, {result['points']} points of {result['groups']} groups, {result['lines']} lines",
        "PaddleSlim",
        f"{result['ours_seconds']:.1f}",
        f"{result['paddleslim_seconds']:.1f}",
        f"{result['times_faster']:.1f} times faster, {result['most_images_differing']} images differ",
        f"at least {verdict['least_times']:g}, at most {verdict['most_images']}",
        verdict["passed"],
    )


def from_ptq(report: Mapping[str, Any]) -> Iterator[Row]:
    """Calibration: seconds, and accuracy of the files."""
    from benchmarks.ptq import SPEEDUP

    for kind, found in report["results"].items():
        for name, row in found["algorithms"].items():
            judged = (kind, name) == ("cls", "kl") and not report["quick"]
            yield Row(
                f"calibration {name}, s, {kind}, {found['images']} images",
                "PaddleSlim",
                f"{row['seconds']:.2f}",
                f"{row['paddleslim_seconds']:.2f}",
                f"{row['ratio']:.1f} times faster",
                f"at least {SPEEDUP:g}" if judged else "",
                row["ratio"] >= SPEEDUP if judged else None,
            )
            low, high = row["interval"]
            yield Row(
                f"calibration {name}, accuracy in %, {kind}, {found['lines']} lines",
                "PaddleSlim",
                f"{row['accuracy']:.2f}",
                f"{row['paddleslim_accuracy']:.2f}",
                f"{row['lost_points']:+.2f} points lost [{low:+.2f}, {high:+.2f}]",
                "not worse beyond the interval",
                row["as_accurate"],
            )


ROWS = {
    "sizes": from_sizes,
    "executor": from_executor,
    "training": from_training,
    "sensitivity": from_sensitivity,
    "ptq": from_ptq,
}


def run(name: str, quick: bool) -> list[Row]:
    """A benchmark's rows; one that says so when it fails, so that nothing is missing unseen."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(RUNS[name] if quick else ())]
    print(f"{name}: {' '.join(command[1:])}", file=sys.stderr, flush=True)
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows_of(name, done.stdout, done.returncode)


def rows_of(name: str, said: str, code: int) -> list[Row]:
    """The rows of what a benchmark printed; its own exit code 1 is a missed target, which its rows show."""
    try:
        if code not in (0, 1):
            raise ValueError(f"exit code {code}")
        return list(ROWS[name](json.loads(said)))
    except (ValueError, KeyError, TypeError) as error:
        return [
            Row(f"benchmarks.{name}", "-", "-", "-", f"FAILED: {type(error).__name__} {error}", "-", False)
        ]


def markdown(rows: Sequence[Row], facts: Mapping[str, Any], quick: bool) -> str:
    """The table, and what it was measured on."""
    words = {True: "met", False: "**missed**", None: ""}
    lines = ["| what | peer | ours | peer's | ratio | target | |", "|---|---|---:|---:|---|---|---|"]
    lines += [
        f"| {r.what} | {r.peer} | {r.ours} | {r.theirs} | {r.ratio} | {r.target} | {words[r.met]} |"
        for r in rows
    ]
    on = ", ".join(f"{key} {value}" for key, value in facts.items())
    kind = "A quick run, which only shows that everything runs" if quick else "Measured"
    missed = sum(row.met is False for row in rows)
    said = f"{missed} of {sum(row.met is not None for row in rows)} targets missed."
    return "\n".join([*lines, "", f"{kind} on {time.strftime('%Y-%m-%d')}: {on}. {said}"])


def put(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page."""
    whole = page.read_text(encoding="utf-8")
    head, begin, rest = whole.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page}: has no lines {BEGIN} and {END}")
    aside = page.with_name(f"{page.name}.tmp-{os.getpid()}")
    aside.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")
    os.replace(aside, page)


def main() -> int:
    """Run all, print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="the smallest of each: does it run at all")
    parser.add_argument("--only", nargs="+", choices=tuple(RUNS), default=list(RUNS))
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="also put the table between the page's marks"
    )
    args = parser.parse_args()
    facts = machine()
    rows = [row for name in args.only for row in run(name, args.quick)]
    text = markdown(rows, facts, args.quick)
    if args.write is not None:
        put(args.write, text)
    report = {"machine": facts, "quick": args.quick, "rows": [asdict(row) for row in rows]}
    print(json.dumps(report, indent=1) if args.json else text)
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The nb executor against Paddle's Predictor: cls, and rec at width 320, both in one run.

    python -m benchmarks.executor [--json] [--rounds 30] [--batch 8 16]

Reference: the float inference program in Paddle's Predictor, ir_optim on, oneDNN off, batch 1, whichever of 1
and 2 threads is faster. ONNX Runtime on the same net (one thread, batch 1) stands beside it. Candidates: int8
and float ARM files as `opt` writes them (tests/golden/nb), executed in batches. All take turns within each
round, so that other load on the machine meets all of them alike; the ratio is of times per image. Processor
time (all threads) stands beside it: other load moves it less. Exit code 1 when a ratio of medians is above
the bound.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "nb"
GOAL, BOUND = 3.0, 6.0  # times the reference's time per image
MODELS = {
    "cls": ("ch_ppocr_mobile_v2.0_cls", (3, 48, 192), ("cls_int8", "cls_fp32")),
    "rec": ("en_number_synthetic_crnn", (3, 32, 320), ("rec_int8", "rec_int8_lstm8", "rec_fp32")),
}
PEERS = ("paddle", "onnxruntime, 1 thread")  # how the names of what is not ours begin
WARM_UP = 3


@dataclass
class Runner:
    """One thing that is timed: ``call`` handles ``images`` images."""

    name: str
    call: Callable[[], object]
    images: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def once(self) -> None:
        """Run and note the seconds per image."""
        start, cpu = time.perf_counter(), time.process_time()
        self.call()
        self.seconds.append((time.perf_counter() - start) / self.images)
        self.cpu_seconds.append((time.process_time() - cpu) / self.images)

    def to_json(self) -> dict[str, Any]:
        """Milliseconds per image."""
        return {
            "images_per_call": self.images,
            "median_ms": round(1e3 * statistics.median(self.seconds), 3),
            "min_ms": round(1e3 * min(self.seconds), 3),
            "cpu_ms": round(1e3 * statistics.median(self.cpu_seconds), 3),
        }


def runners(kind: str, work: Path, batches: list[int]) -> list[Runner]:
    """References first (one per number of threads), then the nb files."""
    from export.compare import blocks
    from export.program import save_program
    from export.runtimes import nb, paddle
    from slim.pipeline.opening import open_model
    from slim.progress import Silent

    model, shape, files = MODELS[kind]
    save_program(open_model(f"zoo:{model}", None, Silent()), work / kind / "inference")
    one = blocks((1, *shape), 1)
    found = []
    for threads in (1, 2):
        runtime = paddle.load(work / kind, threads=threads)
        found.append(
            Runner(f"paddle, {threads} thread{'s' * (threads > 1)}", lambda r=runtime: r.run(one), 1)
        )
    found.append(onnx_runner(work / kind, shape, one))
    for name in files:
        path = work / f"{name}.nb"
        path.write_bytes(lzma.decompress((GOLDEN / f"{name}.nb.xz").read_bytes()))
        executor = nb.load(path)
        for batch in batches:
            x = blocks((batch, *shape), 1)
            found.append(Runner(f"{name}, batch {batch}", lambda r=executor, x=x: r.run(x), batch))
    return found


def onnx_runner(program: Path, shape: tuple[int, int, int], x: Any) -> Runner:
    """The same float net in ONNX Runtime, BatchNorms folded as it would fold them itself."""
    from benchmarks.onnx_writer import Writer
    from slim.importing.onnx_file import OnnxSource
    from slim.importing.paddle_graph import paddle_graph

    model = Writer(paddle_graph(program / "inference"), folded=True).model(["n", *shape])
    source = OnnxSource(model, "benchmark")
    return Runner(PEERS[1], lambda: source.run(x), 1)


def measure(kind: str, work: Path, batches: list[int], rounds: int) -> dict[str, Any]:
    """Interleaved rounds; each round starts with another runner."""
    found = runners(kind, work, batches)
    for runner in found:
        for _ in range(WARM_UP):
            runner.call()
    for number in range(rounds):
        first = number % len(found)
        for runner in found[first:] + found[:first]:
            # One image is over so soon that a single call would mostly measure the scheduler.
            for _ in range(4 if runner.images == 1 else 1):
                runner.once()
    best = {key: min(r.to_json()[key] for r in found[:2]) for key in ("median_ms", "min_ms", "cpu_ms")}
    rows = {}
    for runner in found:
        row = runner.to_json()
        rows[runner.name] = row | {
            f"ratio_of_{key.removesuffix('_ms')}s": round(row[key] / best[key], 2) for key in best
        }
    return rows


def verdict(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Per nb file the better batch size; the worst file of each kind against goal and bound."""
    worst = {}
    for kind, rows in results.items():
        by_file: dict[str, float] = {}
        for name, row in rows.items():
            if not name.startswith(PEERS):
                file = name.partition(",")[0]
                by_file[file] = min(by_file.get(file, float("inf")), row["ratio_of_medians"])
        worst[kind] = max(by_file.values())
    top = max(worst.values())
    return {
        "worst_ratio": worst,
        "goal": GOAL,
        "bound": BOUND,
        "goal_met": top <= GOAL,
        "passed": top <= BOUND,
    }


def table(report: dict[str, Any]) -> str:
    """For people."""
    lines = []
    for kind, rows in report["results"].items():
        lines.append(
            f"{kind:28} median ms   min ms   cpu ms   ratio of medians   of mins   of cpu   (per image)"
        )
        for name, row in rows.items():
            lines.append(
                f"  {name:26} {row['median_ms']:9.2f} {row['min_ms']:8.2f} {row['cpu_ms']:8.2f} "
                f"{row['ratio_of_medians']:18.2f} "
                f"{row['ratio_of_mins']:9.2f} {row['ratio_of_cpus']:8.2f}"
            )
    v = report["verdict"]
    worst = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in v["worst_ratio"].items())
    word = "goal met" if v["goal_met"] else "within the bound" if v["passed"] else "ABOVE THE BOUND"
    lines.append(f"worst ratio of medians: {worst}; goal {GOAL:g}, bound {BOUND:g}: {word}")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    import numpy as np
    import paddle

    return {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "paddle": paddle.__version__,
    }


def main() -> int:
    """Parse, measure, print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[8, 16], help="images per call of the executor"
    )
    args = parser.parse_args()
    if args.rounds < 1 or min(args.batch) < 1:
        parser.error("rounds and batch must be at least 1")
    report: dict[str, Any] = {"machine": machine(), "rounds": args.rounds}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as work:
        report["results"] = {kind: measure(kind, Path(work), args.batch, args.rounds) for kind in MODELS}
    report["verdict"] = verdict(report["results"])
    print(json.dumps(report, indent=1) if args.json else table(report))
    return 0 if report["verdict"]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())

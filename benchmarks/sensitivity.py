"""Our sensitivity analysis against PaddleSlim's, on the bundled classifier, both in one run.

    python -m benchmarks.sensitivity [--json] [--quick]

The same net, the same rendered lines (`slim.synth`, fixed seed), the same grid: every group that
`paddleslim.dygraph.FilterPruner.sensitive` measures, at its nine ratios 0.1 to 0.9 (--quick: its nine
ratios on four groups). PaddleSlim evaluates the whole net in dygraph at each point; ours is
`prune.sensitivity.measure` with its early end switched off. Both find their groups before the clock
starts; the time to compile and to cache counts as ours. Both get preprocessed lines from memory, in
batches of 32, and both cut what PaddleSlim's criterion says on the weights PaddleSlim shows it. Groups
are matched by the names of their weights.

Adaptive curves (a collapsed curve ends, three coarse ratios, more where a curve bends) stand apart: they
answer the same question with fewer points and are no part of the comparison. Exit code 1 when ours is
less than TIMES times faster, or the outcome of more than IMAGES lines differs at any point.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.executor import machine

MODEL = "zoo:ch_ppocr_mobile_v2.0_cls"
SEED, BATCH = 5, 32
TIMES, IMAGES = 5.0, 1
RATIOS = tuple(round(0.1 * step, 2) for step in range(1, 10))  # PaddleSlim's, which cannot be changed
COARSE = (0.1, 0.3, 0.6)
QUICK_GROUPS = 4
Array = npt.NDArray[np.float32]


class Lines:
    """Rendered lines as both engines get them."""

    def __init__(self, folder: Path, bundle: Any, count: int) -> None:
        from slim.ocr.preprocess import to_tensor
        from slim.pipeline.datasets import open_labels
        from slim.synth.sets import synthesize

        synthesize("cls", folder, {"train": 0, "eval": count, "calib": 0}, SEED)
        self.data = open_labels(folder / "eval.txt", "cls")
        lines = [self.data[i] for i in range(len(self.data))]
        self.texts = [line.text for line in lines]
        x = np.stack([to_tensor(line.image, bundle.spec.input) for line in lines])
        self.batches = [x[i : i + BATCH] for i in range(0, count, BATCH)]


class Theirs:
    """`FilterPruner.sensitive`, with the outcome of each line at each point noted on the side."""

    def __init__(self, bundle: Any, lines: Lines) -> None:
        from paddleslim.dygraph import FPGMFilterPruner

        self.net, self.lines, self.spec = bundle.net, lines, bundle.spec
        self.pruner = FPGMFilterPruner(bundle.net, [1, *bundle.spec.input.shape])
        _quiet()
        paths = {tensor.name: path for path, tensor in bundle.net.named_parameters()}
        self.layers = {
            c.master_name: paths[c.master_name].rpartition(".")[0] for c in self.pruner.collections
        }
        self.outcomes: list[list[bool]] = []

    def evaluate(self) -> float:
        """Accuracy of the whole net, 0 to 1, as PaddleOCR's scripts give it."""
        import paddle

        from slim.ocr.postprocess import decode

        self.net.eval()
        with paddle.no_grad():
            out = np.concatenate([self.net(paddle.to_tensor(x)).numpy() for x in self.lines.batches])
        texts = [p.text for p in decode(out, self.spec)]
        right = [ours == label for ours, label in zip(texts, self.lines.texts, strict=True)]
        self.outcomes.append(right)
        return float(np.mean(right))

    def run(self, weights: Sequence[str], folder: Path) -> dict[tuple[str, int], list[bool]]:
        """(layer path, tenths removed) -> outcomes; PaddleSlim's order of calls is its own loop's."""
        skipped = [name for name in self.layers if name not in weights]
        found = self.pruner.sensitive(self.evaluate, str(folder / "sen.pickle"), None, skipped)
        calls = [(self.layers[name], round(10 * r)) for name, curve in found.items() for r in curve]
        if len(calls) != len(self.outcomes) - 1:
            raise SystemExit(f"paddleslim evaluated {len(self.outcomes) - 1} times for {len(calls)} points")
        return dict(zip(calls, self.outcomes[1:], strict=True))


class Ours:
    """`prune.sensitivity.measure` on the same groups."""

    def __init__(self, bundle: Any, lines: Lines, masters: Sequence[str]) -> None:
        from prune.groups import find_groups

        self.bundle, self.lines = bundle, lines
        self.all = find_groups(bundle.net, bundle.spec.input.shape)
        self.master = {g.name: path for g in self.all for path in masters if _makes(g, path)}
        self.groups = [g for g in self.all if g.prunable and g.name in self.master]
        self.left_out = [g.name for g in self.all if g.prunable and g.name not in self.master]

    def keep(self, group: Any, count: int) -> list[int]:
        """PaddleSlim's mask from the weights PaddleSlim looks at: the filters of its master alone."""
        from prune import paddleslim_masks

        weight = dict(self.bundle.net.named_parameters())[f"{self.master[group.name]}.weight"].numpy()
        return paddleslim_masks.keep("fpgm", weight.reshape(len(weight), -1), count)

    def run(
        self, ratios: Sequence[float], refine: int = 0, collapsed: float = float("inf")
    ) -> tuple[Any, dict[tuple[str, int], tuple[bool, ...]]]:
        """The curves, and the outcomes by (group, channels kept)."""
        from prune.probe import LineProbe, Reading
        from prune.sensitivity import measure

        seen: dict[tuple[str, int], tuple[bool, ...]] = {}

        groups = self.groups

        class Noting(LineProbe):
            def baseline(self) -> Reading:
                reading = super().baseline()
                for group in groups:  # 0.1 of two channels is none; PaddleSlim evaluates the whole net there
                    seen[group.name, group.size] = reading.right
                return reading

            def one(self, group: Any, kept: Sequence[int]) -> Reading:
                reading = super().one(group, kept)
                seen[group.name, len(kept)] = reading.right
                return reading

        probe = Noting(self.bundle, self.lines.data, len(self.lines.texts))
        curves = measure(self.groups, probe, self.keep, ratios, {}, refine=refine, collapsed=collapsed)
        return curves, seen


def _makes(group: Any, path: str) -> bool:
    return any(m.path == path for m in group.producers)


def _quiet() -> None:
    import logging

    for name in [name for name in sys.modules if name.startswith("paddleslim")]:
        logging.getLogger(name).setLevel(logging.ERROR)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, seconds of wall time, seconds of processor time."""
    start, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start, time.process_time() - cpu


def compare(count: int, quick: bool, folder: Path) -> dict[str, Any]:
    """Both engines, one after the other, in this process."""
    from prune.filters import kept_count
    from slim.pipeline.opening import open_model
    from slim.progress import Silent

    bundle = open_model(MODEL, None, Silent())
    lines = Lines(folder / "lines", bundle, count)
    theirs = Theirs(bundle.clone(), lines)
    weights = list(theirs.layers)
    if quick:  # the third, a gate of two channels, is among them: some ratios cut nothing there
        weights = weights[2 :: len(weights) // QUICK_GROUPS][:QUICK_GROUPS]
    ours = Ours(bundle, lines, [theirs.layers[name] for name in weights])
    matched = {ours.master[g.name]: g for g in ours.groups}
    say(f"ours: {len(ours.groups)} groups at {len(RATIOS)} ratios, {count} lines")
    (_, seen), our_wall, our_cpu = timed(lambda: ours.run(RATIOS))
    say(f"ours took {our_wall:.1f} s; paddleslim: the same")
    wanted = [name for name in weights if theirs.layers[name] in matched]
    outcomes, their_wall, their_cpu = timed(lambda: theirs.run(wanted, folder))
    say(f"paddleslim took {their_wall:.1f} s; adaptive curves")
    (curves, _), adaptive_wall, _ = timed(lambda: ours.run(COARSE, refine=3, collapsed=0.5))
    differing = {}
    for (path, tenths), right in outcomes.items():
        group = matched[path]
        other = seen[group.name, kept_count(group.size, tenths / 10)]
        differing[f"{path} {tenths / 10:g}"] = sum(a != b for a, b in zip(right, other, strict=True))
    worst = max(differing, key=lambda name: differing[name])
    return {
        "lines": count,
        "groups": len(matched),
        "points": len(outcomes),
        "left_out": {
            "measured by paddleslim alone": sorted({theirs.layers[n] for n in weights} - set(matched)),
            "measured by us alone": [] if quick else ours.left_out,
        },
        "ours_seconds": round(our_wall, 2),
        "paddleslim_seconds": round(their_wall, 2),
        "times_faster": round(their_wall / our_wall, 2),
        "times_faster_cpu": round(their_cpu / our_cpu, 2),
        "most_images_differing": differing[worst],
        "where": worst,
        "points_differing": sum(1 for number in differing.values() if number),
        "adaptive": {
            "seconds": round(adaptive_wall, 2),
            "points": sum(map(len, curves.curves.values())),
            "times_faster": round(their_wall / adaptive_wall, 2),
            "widest_interval_points": round(widest(curves), 2),
        },
    }


def widest(curves: Any) -> float:
    """Width of the widest 95% interval in points of the metric."""
    spans = [p.high - p.low for points in curves.curves.values() for p in points if p.low is not None]
    return float(max(spans) * curves.baseline)


def verdict(result: dict[str, Any]) -> dict[str, Any]:
    """Both targets."""
    fast, same = result["times_faster"] >= TIMES, result["most_images_differing"] <= IMAGES
    return {"least_times": TIMES, "most_images": IMAGES, "fast": fast, "same": same, "passed": fast and same}


def table(report: dict[str, Any]) -> str:
    """For people."""
    r, v = report["result"], report["verdict"]
    a = r["adaptive"]
    return "\n".join(
        [
            f"{r['groups']} groups, {r['points']} points, {r['lines']} lines",
            f"  paddleslim  {r['paddleslim_seconds']:9.1f} s",
            f"  ours        {r['ours_seconds']:9.1f} s   {r['times_faster']:.1f} times faster "
            f"(processor time {r['times_faster_cpu']:.1f}), at least {v['least_times']:g}",
            f"  images whose outcome differs: {r['most_images_differing']} at most ({r['where']}), "
            f"at {r['points_differing']} points; at most {v['most_images']}",
            f"  left out: {r['left_out']}",
            f"  apart, adaptive: {a['seconds']:.1f} s, {a['points']} points, widest 95% interval "
            f"{a['widest_interval_points']:.1f} points",
            "passed" if v["passed"] else "MISSED",
        ]
    )


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Parse, measure, print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_GROUPS} groups instead of all")
    parser.add_argument("--lines", type=int, default=256, help="rendered lines")
    args = parser.parse_args()
    if args.lines < 1:
        parser.error("lines must be at least 1")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        result = compare(args.lines, args.quick, Path(folder))
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    report = {"machine": machine(), "threads": threads, "result": result, "verdict": verdict(result)}
    print(json.dumps(report, indent=1) if args.json else table(report))
    return 0 if report["verdict"]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())

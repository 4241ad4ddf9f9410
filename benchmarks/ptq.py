"""Our calibration against PaddleSlim's quant_post_static on the same images, both models, in one run.

    python -m benchmarks.ptq [--json] [--quick] [--kinds cls rec] [--algos kl hist mse absmax] [--lines N]

For each algorithm that both have: seconds from the float model in memory or on disk to the saved quantized
program (the whole way on both sides, imports not counted), and the accuracy of both on the same evaluation
lines with the paired 95% interval of the difference. Processor seconds stand beside wall seconds: other load
on the machine moves them less. Both programs become ARM files, which the nb executor runs; where opt does not
take PaddleSlim's program its own simulation in Paddle's Predictor is scored instead, and the table says so.
PaddleSlim's `avg` crashes (IndexError) and its `min_max` quantizes nothing, so both are left out. Exit code 1
when cls KL is less than 20 times faster, or one of our algorithms is less accurate beyond the interval.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.executor import ROOT, machine

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.evaluate import EvalResult

SEED = 1
SPEEDUP = 20.0  # cls, KL
BATCH = 8
ZOO = {"cls": "zoo:ch_ppocr_mobile_v2.0_cls", "rec": "zoo:en_number_synthetic_crnn"}
ALGOS = {"kl": "KL", "hist": "hist", "mse": "mse", "absmax": "abs_max"}
EXCLUDED = {"avg": "crashes with IndexError", "min_max": "returns a model in which nothing is quantized"}
# kind -> calibration images, evaluation lines; the quick version proves nothing about the target.
SIZES = {"cls": (320, 2000), "rec": (64, 1000)}
QUICK = {"cls": (32, 200), "rec": (8, 100)}


class Clock:
    """Wall and processor seconds (all threads) since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Seconds so far."""
        return {"wall": time.perf_counter() - self.wall, "cpu": time.process_time() - self.cpu}


def measure(kind: str, algos: Sequence[str], sizes: tuple[int, int], work: Path) -> dict[str, Any]:
    """Everything about one model."""
    from export.program import save_program
    from slim.evaluate import evaluate
    from slim.pipeline.datasets import open_labels
    from slim.pipeline.opening import open_model
    from slim.progress import Silent
    from slim.synth.sets import synthesize

    images, lines = sizes
    synthesize(kind, work / "data", {"train": images, "eval": lines, "calib": images}, SEED)
    model = open_model(ZOO[kind], None, Silent())
    held = open_labels(work / "data" / "eval.txt", kind)
    save_program(model, work / "float" / "inference")
    _write_inputs(model, work, images)
    original = evaluate(model.run, held, model.spec, batch_size=BATCH)
    rows = {name: _one(name, model, work, held, images) for name in algos}
    return {
        "images": images,
        "lines": lines,
        "float_accuracy": round(100 * original.metrics["acc"], 2),
        "algorithms": rows,
    }


def _one(name: str, model: Bundle, work: Path, held: Any, images: int) -> dict[str, Any]:
    from slim.statistics import paired_drop

    _say(f"{model.spec.name}, {name}: ours")
    ours = _ours(name, model, work, images)
    _say(f"{model.spec.name}, {name}: paddleslim")
    theirs = _paddleslim(name, work)
    our_result, _ = _score(work / f"ours-{name}", model, held)
    their_result, judged = _score(work / f"paddleslim-{name}", model, held)
    drop = paired_drop(their_result.correct, our_result.correct)
    _say(f"{model.spec.name}, {name}: ours {ours}, paddleslim {theirs}")
    return {
        "seconds": round(ours["wall"], 2),
        "paddleslim_seconds": round(theirs["wall"], 2),
        "ratio": round(theirs["wall"] / ours["wall"], 1),
        "cpu_seconds": round(ours["cpu"], 2),
        "paddleslim_cpu_seconds": round(theirs["cpu"], 2),
        "cpu_ratio": round(theirs["cpu"] / ours["cpu"], 1),
        "accuracy": round(100 * our_result.metrics["acc"], 2),
        "paddleslim_accuracy": round(100 * their_result.metrics["acc"], 2),
        "paddleslim_judged_by": judged,
        "lost_points": round(drop.points, 2),
        "interval": [round(drop.low, 2), round(drop.high, 2)],
        "as_accurate": drop.low <= 0.0,
    }


def _write_inputs(model: Bundle, work: Path, images: int) -> None:
    """The calibration tensors that PaddleSlim's process reads: the ones ours sees, in the same order."""
    import numpy as np

    from quant import ptq

    data = _calibration(work, model.spec.kind)
    batches = list(ptq.batches(data, model.spec.input, images, SEED, batch=BATCH))
    np.save(work / "inputs.npy", np.concatenate(batches))


def _calibration(work: Path, kind: str) -> Any:
    from slim.pipeline.datasets import open_labels

    return open_labels(work / "data" / "calib.txt", kind)


def _ours(name: str, model: Bundle, work: Path, images: int) -> dict[str, float]:
    """Seconds to the saved program, images read and decoded included."""
    import paddleslim  # noqa: F401

    from export.program import input_shape
    from quant import stage
    from quant.freeze import save_inference
    from slim.config.ours import QuantSection
    from slim.stage import StageContext

    section = QuantSection.model_validate({"mode": "ptq", "algo": name, "images": images, **_PLAIN})
    context = StageContext(work / "stage", SEED, calibration=_calibration(work, model.spec.kind))
    clock = Clock()
    done = stage.apply(model, stage.plan(model, section, context), section, context)
    save_inference(done, work / f"ours-{name}" / "inference", input_shape(model.spec.input))
    return clock.read()


# Clips only: what is compared is calibration, not what else we do to the weights.
_PLAIN = {"equalize": False, "bias_correction": False, "rounding": "nearest"}


def _paddleslim(name: str, work: Path) -> dict[str, float]:
    """Seconds, from a process of its own: quant_post_static needs static mode, which is global."""
    command = [sys.executable, "-m", "benchmarks.ptq", "--paddleslim", name, str(work)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"quant_post_static({ALGOS[name]}) failed:\n{ended.stderr[-2000:]}")
    seconds: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return seconds


def run_paddleslim(name: str, work: Path) -> dict[str, float]:
    """quant_post_static on work/float with the tensors of work/inputs.npy; imports are not timed."""
    import numpy as np
    import paddle
    from paddleslim.quant import quant_post_static

    paddle.enable_static()
    images = np.load(work / "inputs.npy")
    place = paddle.CPUPlace()
    out = work / f"paddleslim-{name}"
    clock = Clock()
    feed = paddle.static.data("x", [None, *images.shape[1:]], "float32")
    quant_post_static(
        paddle.static.Executor(place),
        str(work / "float"),
        str(out),
        data_loader=paddle.io.DataLoader(
            [(image,) for image in images], [feed], places=[place], batch_size=BATCH, return_list=False
        ),
        model_filename="inference.pdmodel",
        params_filename="inference.pdiparams",
        save_model_filename="inference.pdmodel",
        save_params_filename="inference.pdiparams",
        batch_size=BATCH,
        algo=ALGOS[name],
        activation_quantize_type="moving_average_abs_max",
        weight_quantize_type="channel_wise_abs_max",
        onnx_format=False,
    )
    return clock.read()


def _score(folder: Path, model: Bundle, held: Any) -> tuple[EvalResult, str]:
    """The ARM file's accuracy, or the simulation's where opt does not take the program.

    Both sides go the same way: program fixes, opt, nothing behind it (LSTM weights stay float).
    """
    from export.fixes import fix_program
    from export.opt import run_opt
    from export.runtimes import nb, paddle
    from slim.errors import SlimError
    from slim.evaluate import evaluate

    prefix, fixed = folder / "inference", folder / "fixed"
    try:
        fix_program(prefix, fixed)
        runtime = nb.load(run_opt(fixed, "arm", folder / "model.nb"))
    except SlimError as error:
        _say(f"{folder.name}: no ARM file ({error})")
        return evaluate(paddle.load(prefix).run, held, model.spec, batch_size=BATCH), "simulation"
    return evaluate(runtime.run, held, model.spec, batch_size=BATCH), "ARM file"


def verdict(results: dict[str, dict[str, Any]], quick: bool = False) -> dict[str, Any]:
    """Every miss in words; a quick run is too short to judge the speed."""
    misses = []
    for kind, found in results.items():
        for name, row in found["algorithms"].items():
            if not row["as_accurate"]:
                misses.append(f"{kind} {name} loses {row['lost_points']} points, interval {row['interval']}")
            if (kind, name) == ("cls", "kl") and row["ratio"] < SPEEDUP and not quick:
                misses.append(f"cls kl is {row['ratio']} times faster, the target is {SPEEDUP:g}")
    return {"misses": misses, "passed": not misses}


def table(report: dict[str, Any]) -> str:
    """For people."""
    lines = []
    for kind, found in report["results"].items():
        lines.append(
            f"{kind}: {found['images']} images, {found['lines']} lines, float {found['float_accuracy']}%"
        )
        lines.append(
            "  algorithm      seconds  paddleslim  ratio  cpu ratio   ours %  paddleslim %  judged by"
            "    ours loses [95%]"
        )
        for name, row in found["algorithms"].items():
            low, high = row["interval"]
            lines.append(
                f"  {name:10} {row['seconds']:11.2f} {row['paddleslim_seconds']:11.2f} {row['ratio']:6.1f} "
                f"{row['cpu_ratio']:10.1f} {row['accuracy']:8.2f} {row['paddleslim_accuracy']:13.2f}  "
                f"{row['paddleslim_judged_by']:10} {row['lost_points']:7.2f} [{low:.2f}, {high:.2f}]"
            )
    lines += [f"left out: paddleslim {name}, which {why}" for name, why in report["excluded"].items()]
    lines += [f"MISSED: {miss}" for miss in report["verdict"]["misses"]]
    lines.append("all targets met" if report["verdict"]["passed"] else "targets missed")
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Parse, measure, print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="few images and lines: does it run at all")
    parser.add_argument("--kinds", nargs="+", choices=tuple(ZOO), default=list(ZOO))
    parser.add_argument("--algos", nargs="+", choices=tuple(ALGOS), default=list(ALGOS))
    parser.add_argument("--lines", type=int, help="evaluation lines instead of the usual ones")
    parser.add_argument("--paddleslim", nargs=2, metavar=("ALGO", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.paddleslim:
        name, folder = args.paddleslim
        print(json.dumps(run_paddleslim(name, Path(folder))))
        return 0
    report: dict[str, Any] = {"machine": machine(), "quick": args.quick, "excluded": EXCLUDED}
    sizes = QUICK if args.quick else SIZES
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        report["results"] = {
            kind: measure(
                kind, args.algos, (sizes[kind][0], args.lines or sizes[kind][1]), Path(folder) / kind
            )
            for kind in args.kinds
        }
    report["verdict"] = verdict(report["results"], args.quick)
    print(json.dumps(report, indent=1) if args.json else table(report))
    return 0 if report["verdict"]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())

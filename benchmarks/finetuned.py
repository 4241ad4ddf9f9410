"""The other float original: finetuned, uncut, by the recipe that a pruned model was finetuned by.

    python -m benchmarks.finetuned -c RECIPE --work FOLDER [--shipped FILE ...] [-o A.B=v ...]

Finetuning alone may help on the data at hand, and that gain is not compression's: a published drop counts
against the better of the original and this one. Distilling from itself is no way round it: rounding alone
moves weights, and augmented pictures teach. Trains the original by all that the recipe teaches a net, in
float and with itself as its teacher: `Prune.Finetune`, as often as there are rounds, then `Quant.Finetune`
where `Quant.mode` is qat (`-o Quant.mode=ptq` where training kept the calibrated weights). Scores both and
every shipped file on the same `Check.images` lines or pages of `Eval`, and prints each file's drop against
both with its paired 95% interval. FOLDER keeps the training; the same command goes on there. Exit code 1 when
a file lost more than `Check.max_drop` points against the better.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.executor import machine

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import Config, TrainRecipe
    from slim.evaluate import EvalResult
    from slim.progress import Reporter

BATCH = 8


def lessons(config: Config, seed: int) -> list[tuple[str, TrainRecipe, int]]:
    """What a recipe teaches a net, in order: a name for its folder, the schedule, its seed."""
    found: list[tuple[str, TrainRecipe, int]] = []
    if config.Prune is not None and config.Prune.Finetune is not None:
        # Each round on batches of its own, as `slim.pipeline.pruning` seeds them.
        found += [(f"round-{n + 1}", config.Prune.Finetune, seed + n) for n in range(config.Prune.rounds)]
    if config.Quant is not None and config.Quant.mode == "qat" and config.Quant.Finetune is not None:
        found.append(("quant", config.Quant.Finetune, seed))
    if not found:
        raise SystemExit("the recipe trains nothing: the original is the better float")
    return found


def finetuned(config: Config, model: Bundle, work: Path, progress: Reporter) -> Bundle:
    """A trained copy: the recipe's schedules, batches and teacher, no cut and no integers."""
    from slim.cli.common import DEFAULT_SEED
    from slim.pipeline import datasets
    from slim.training import fit
    from slim.training.sources import batches

    seed = DEFAULT_SEED if config.Global.seed is None else config.Global.seed
    copy, kind = model.clone(), model.spec.kind
    train = datasets.dataset(config, "train", kind, seed)
    for name, recipe, own in lessons(config, seed):
        source = batches(copy.spec, train, recipe, own)
        teacher = model.net if recipe.distill else None
        fit(
            copy.net, recipe, source, kind=kind, out=work / name, teacher=teacher, seed=own, progress=progress
        )
    copy.net.eval()
    return copy


def scores(
    config: Config, model: Bundle, other: Bundle, shipped: list[Path], progress: Reporter
) -> dict[str, EvalResult]:
    """The two floats and the files, on the same images."""
    from export.runtimes.base import open_runtime
    from slim.evaluate import evaluate
    from slim.pipeline import datasets

    held = datasets.dataset(config, "eval", model.spec.kind)
    images = None if config.Check is None else config.Check.images
    runs = {"original": model.run, "finetuned": other.run}
    runs |= {str(path): open_runtime(path).run for path in shipped}
    return {
        name: evaluate(run, held, model.spec, limit=images, batch_size=BATCH, progress=progress)
        for name, run in runs.items()
    }


def report(found: dict[str, EvalResult], limit: float | None) -> dict[str, Any]:
    """Metrics, drops against both floats, and whether each file holds ``limit`` against the better one."""
    from slim.evaluate import drop_between

    floats = ("original", "finetuned")
    better = max(floats, key=lambda name: found[name].main)
    rows = {}
    for name in [name for name in found if name not in floats]:
        drops = {f: drop_between(found[f], found[name]) for f in floats}
        rows[name] = {
            f"against {f}": [round(v, 2) for v in (d.points, d.low, d.high)] for f, d in drops.items()
        }
        rows[name]["holds"] = limit is None or drops[better].points <= limit
    metrics = {name: round(100 * result.main, 2) for name, result in found.items()}
    images = next(iter(found.values())).images
    return {"images": images, "metrics": metrics, "better": better, "files": rows, "machine": machine()}


def main() -> int:
    """Train, score, print; the exit code."""
    from slim.cli.console import ConsoleReporter
    from slim.config import find_config, load_config
    from slim.pipeline.opening import open_model

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("-o", "--override", nargs="+", default=[], metavar="A.B=v")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--shipped", type=Path, nargs="*", default=[], metavar="FILE")
    args = parser.parse_args()
    progress = ConsoleReporter(sys.stderr)
    config = load_config(find_config(args.config), args.override)
    model = open_model(None, config, progress)
    other = finetuned(config, model, args.work, progress)
    found = scores(config, model, other, args.shipped, progress)
    result = report(found, None if config.Check is None else config.Check.max_drop)
    print(json.dumps(result, indent=1))
    return 0 if all(row["holds"] for row in result["files"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

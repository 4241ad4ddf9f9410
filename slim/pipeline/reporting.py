"""report.json put together: what the harness measured, the model's past, what a reader needs beside them.

docs/REPORT.md describes every key. A key that goes or changes its meaning raises `FORMAT`; a new one does
not.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.errors import ArtifactError
from slim.pipeline import lineage
from slim.progress import Reporter
from slim.report import RUN_STAGES

if TYPE_CHECKING:
    from export.check_report import CheckReport
    from slim.evaluate import EvalResult

FORMAT = 2
SENSITIVITY = "sensitivity.json"


def assemble(
    found: CheckReport,
    kind: str,
    past: list[dict[str, Any]],
    recipe: Mapping[str, Any],
    name: str | None,
    seed: int,
    progress: Reporter,
) -> dict[str, Any]:
    """The report as plain data.

    Args:
        kind: of the model: cls, rec or det.
        past: lineage entries, oldest first.
        recipe: sections by name; those of earlier stages are read from their folders, where these still are.
        name: of the model; None: that of the harness.
    """
    data = found.to_json()
    stages, notes = _with_history(data["stages"], past, found.results.get("original"), found.data)
    kept, replaced = lineage.folders(past)
    for folder in replaced:
        notes.append(f"{folder} holds another model by now: its recipe and curves are not shown")
        progress.warn(notes[-1])
    scored = next((name for name in tuple(RUN_STAGES)[1:] if name in found.results), None)
    report = {
        "format": FORMAT,
        **data,
        "model": name if name is not None else data["model"],
        "kind": kind,
        "stages": [{**row, **_interval(row)} for row in stages],
        "steps": past,
        "metrics": metrics_of(stages),
        "notes": [*data["notes"], *notes],
        "recipe": {**_earlier_recipes(kept), **recipe},
        "tools": artifact.tool_versions(),
        "machine": machine(),
        "seed": seed,
    }
    if scored is not None:
        report["predictions"] = {"of": scored, "images": found.results[scored].images}
    measured = sensitivity(kept, progress)
    return report | ({"sensitivity": measured} if measured is not None else {})


def machine() -> dict[str, Any]:
    """What latencies are those of: processor, cores, system."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:  # not Linux, or no /proc: the architecture's name stands for it
        name = name or "unknown"
    return {"processor": name, "cores": os.cpu_count() or 1, "system": platform.platform(terse=True)}


def _interval(row: Mapping[str, Any]) -> dict[str, float]:
    """Wilson's 95% interval of a stage's accuracy, as shares; a detector's row has its own already."""
    from slim.statistics import wilson

    if row.get("accuracy") is None or "accuracy_low" in row:
        return {}
    low, high = wilson(round(row["accuracy"] * row["images"]), row["images"])
    return {"accuracy_low": low, "accuracy_high": high}


def _earlier_recipes(kept: Sequence[lineage.Left]) -> dict[str, Any]:
    names = {"train": "Train", "prune": "Prune", "quant": "Quant"}
    return {names[s.entry["stage"]]: dict(s.manifest.recipe) for s in kept if s.entry["stage"] in names}


def sensitivity(kept: Sequence[lineage.Left], progress: Reporter) -> dict[str, Any] | None:
    """Curves of the last pruning that measured some: group -> [{"removed": share, "loss": share}, ...].

    Shares are of the net that pruning started from. Curves of a file may name what is no group of it, or
    more channels than it has: those are left out.
    """
    from prune.sensitivity import Sensitivity

    found = [s for s in kept if s.entry["stage"] == "prune" and (s.folder / SENSITIVITY).is_file()]
    if not found:
        return None
    path = found[-1].folder / SENSITIVITY
    try:
        measured = Sensitivity.from_json(artifact.read_json(path), where=path)
        sizes = _sizes_before(found[-1])
    except ArtifactError as error:
        progress.warn(f"{error}: the report has no sensitivity curves")
        return None
    groups = {}
    for name, points in measured.curves.items():
        size = sizes.get(name, 0)
        shares = [{"removed": 1 - p.kept / size, "loss": p.loss} for p in points if p.kept < size]
        if shares:
            groups[name] = shares
    return {"baseline": measured.baseline, "groups": groups}


def _sizes_before(pruned: lineage.Left) -> dict[str, int]:
    """Channels of each group of the net a pruning started from: the folder's net without the stage's cuts.

    Raises:
        ArtifactError: the folder was changed, or no plan of it was made for that net.
    """
    from prune.groups import find_groups
    from slim.arch import build_net
    from slim.arch.cuts import apply_cuts
    from slim.bundle import from_artifact

    model = from_artifact(pruned.folder)
    made_for = [plan.get("weights") for plan in model.cuts]
    if pruned.entry.get("before") not in made_for:
        raise ArtifactError("has no plan for the weights that were pruned", where=pruned.folder)
    net = build_net(model.spec.arch, model.spec.classes)
    for plan in model.cuts[: made_for.index(pruned.entry["before"])]:
        apply_cuts(net, plan["cuts"])
    net.eval()
    return {group.name: group.size for group in find_groups(net, model.spec.input.shape)}


def metrics_of(stages: list[dict[str, Any]]) -> dict[str, float]:
    """Flat numbers for ``slim compare``: accuracies and drops in points, bytes, latency, parameters, FLOPs.

    >>> metrics_of([{"stage": "arm nb", "accuracy": 0.9, "arm_bytes": 10}])
    {'arm_accuracy': 90.0, 'arm_nb_bytes': 10}
    """
    metrics: dict[str, float] = {}
    rows = {row["stage"]: row for row in stages}
    for name, stage in RUN_STAGES.items():
        row = rows.get(stage)
        if row is None:
            continue
        if row.get("accuracy") is not None:
            metrics[f"{name}_accuracy"] = 100.0 * row["accuracy"]
        if row.get("drop") is not None:
            metrics[f"{name}_drop"] = row["drop"]["points"]
        if row.get("latency_ms") is not None:
            metrics |= _latency(name, row, rows.get(RUN_STAGES["original"], {}))
        if name in ("arm", "x86"):
            metrics[f"{name}_nb_bytes"] = row[f"{name}_bytes"]
        if name == "program":
            metrics |= {key: row[key] for key in ("inference_bytes", "params", "flops") if key in row}
    return metrics


def _latency(name: str, row: dict[str, Any], original: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of this machine, and their ratio to those of the original in the same run."""
    found = {f"{name}_latency_ms": row["latency_ms"]}
    if name != "original" and original.get("latency_ms"):
        found[f"{name}_latency_ratio"] = row["latency_ms"] / original["latency_ms"]
    return found


def _with_history(
    rows: list[dict[str, Any]],
    past: list[dict[str, Any]],
    original: EvalResult | None,
    data: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], list[str]]:
    """The stages between original and shipped file, from the manifests, in their place; and notes on them."""
    between, notes = [], []
    for entry in past:
        if not entry.get("metrics"):
            continue
        why = None if original is None else _unpaired(entry, original, data)
        if why is not None:
            notes.append(f"{entry['stage']} {why}: its drop is not known")
        facts = {name: entry[name] for name in ("stage", "params", "flops", "images")}
        between.append({**facts, **_scored(entry, original if why is None else None)})
    first = [row for row in rows if row["stage"] == "original"]
    return [*first, *between, *[row for row in rows if row["stage"] != "original"]], notes


def _unpaired(entry: Mapping[str, Any], original: EvalResult, data: Mapping[str, Any]) -> str | None:
    """Why a stage's marks are not of the images the original was scored on now; None: they are."""
    marks = len(entry.get("correct", ""))
    if not marks or "eval" not in entry:
        return "was written before a stage kept the lines it was scored on"
    if entry["eval"] != lineage.lines_of(data):
        return "was scored on other lines than this check"
    if marks > original.images:
        return f"was scored on {marks} lines and the original on {original.images}"
    return None


def _scored(entry: Mapping[str, Any], original: EvalResult | None) -> dict[str, Any]:
    """Accuracy, and the drop paired on the images both saw; None without an original that saw them."""
    from slim.statistics import hmean_interval, paired_drop, paired_hmean_drop

    pages = [(int(matched), int(found), int(wanted)) for matched, found, wanted in entry.get("pages", [])]
    marks = [mark == "1" for mark in entry.get("correct", "")]
    row: dict[str, Any] = {"accuracy": entry["metrics"]["hmean" if pages else "acc"]}
    if pages:
        low, high = hmean_interval(pages)
        row |= {"metric": "hmean", "accuracy_low": low, "accuracy_high": high}
    lost = None
    if original is not None:
        lost = (
            paired_hmean_drop(original.pages[: len(pages)], pages)
            if pages
            else paired_drop(original.correct[: len(marks)], marks)
        )
    return {**row, "drop": dict(lost.__dict__) if lost else None}

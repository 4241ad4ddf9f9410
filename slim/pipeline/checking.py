"""slim check: the exported files of a folder against the float original they came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.errors import CheckpointError, InputError
from slim.pipeline import lineage
from slim.pipeline.datasets import dataset, open_labels
from slim.pipeline.opening import open_model
from slim.progress import Reporter
from slim.report import RUN_STAGES, report_markdown

if TYPE_CHECKING:
    from export.check_report import CheckReport
    from slim.bundle import Bundle
    from slim.config import CheckSection, Config
    from slim.data.dataset import Dataset

FORMAT = 1
REPORT, MARKDOWN, PREDICTIONS = "report.json", "report.md", "predictions.jsonl"
LAYERS_PLOT = "layers.png"


def check_artifact(
    folder: Path,
    config: Config | None,
    *,
    data: Path | None = None,
    original: str | None = None,
    baseline: Path | None = None,
    images: int | None = None,
    runtime_version: str | None = None,
    per_layer: bool = False,
    out: Path | None = None,
    seed: int,
    progress: Reporter,
) -> dict[str, Any]:
    """Run the harness and write report.json, report.md and predictions.jsonl.

    Args:
        folder: an artifact of export-nb, or a bare folder with .nb files and an inference program.
        original: the model to compare with; None: the float original named by the manifest's lineage.
        baseline: the original exported with the same options.
        per_layer: also compare every layer of model.arm.nb with the float net, and draw layers.png.
        out: where the report goes; None: ``folder``.
    Raises:
        ArtifactError: files were changed after they were written. InputError: nothing to compare with.
    """
    from export import check as harness
    from quant.wrap import float_view

    manifest = _manifest(folder, progress)
    facts = manifest.facts if manifest is not None else {}
    _make(out)
    past = list(facts.get(lineage.LINEAGE, []))
    source = original or (lineage.origin(past) if past else None)
    before = _before(source, config, progress)
    after = _shipped(past, progress)
    section = _section(config, images)
    found = harness.check(
        folder,
        _data(config, data, before, after, progress),
        section,
        original=before,
        shipped=after,
        baseline=baseline if baseline is not None and (baseline / artifact.MANIFEST).is_file() else None,
        runtime_version=runtime_version,
        per_layer=per_layer,
        float_view=float_view,
        seed=seed,
        progress=progress,
    )
    files = {} if manifest is None else {n: h for n, h in manifest.files.items() if n.endswith(".nb")}
    if past:
        past.append({"stage": "export-nb", "before": past[-1]["weights"], "files": files})
    report = assemble(found, past, section, config, seed)
    _write(report, found, out or folder)
    return report


def assemble(
    found: CheckReport, past: list[dict[str, Any]], section: CheckSection, config: Config | None, seed: int
) -> dict[str, Any]:
    """The report: what the harness measured, the model's history, and the flat metrics CI compares."""
    data = found.to_json()
    name = config.name if config is not None else data["model"]
    known = found.results.get("original")
    stages = _with_history(data["stages"], past, known.correct if known is not None else [])
    return {
        "format": FORMAT,
        **data,
        "model": name,
        "stages": stages,
        "steps": past,
        "metrics": metrics_of(stages),
        "recipe": {"Check": section.model_dump(mode="json")},
        "tools": artifact.tool_versions(),
        "seed": seed,
    }


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
    rows: list[dict[str, Any]], past: list[dict[str, Any]], original: list[bool]
) -> list[dict[str, Any]]:
    """The stages between original and shipped file, from the manifests, in their place."""
    between = [
        {
            "stage": entry["stage"],
            "params": entry["params"],
            "flops": entry["flops"],
            "accuracy": entry["metrics"]["acc"],
            "images": entry["images"],
            "drop": _drop(original, entry.get("correct", "")),
        }
        for entry in past
        if entry.get("metrics")
    ]
    first = [row for row in rows if row["stage"] == "original"]
    return [*first, *between, *[row for row in rows if row["stage"] != "original"]]


def _drop(original: list[bool], correct: str) -> dict[str, Any] | None:
    """Paired on the lines both saw; None where the original was not scored on them."""
    from slim.statistics import paired_drop

    if not correct or len(original) < len(correct):
        return None
    return dict(paired_drop(original[: len(correct)], [mark == "1" for mark in correct]).__dict__)


def _make(out: Path | None) -> None:
    """The report's folder, before the work that fills it."""
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write ({error.strerror})", where=out, remedy="choose another --out"
        ) from error


def _manifest(folder: Path, progress: Reporter) -> artifact.Manifest | None:
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, remedy="give a folder written by slim export-nb")
    if not (folder / artifact.MANIFEST).is_file():
        progress.warn(f"{folder} has no manifest: damage to plain weight bytes cannot be seen")
        return None
    return artifact.verify(folder)


def _before(source: str | None, config: Config | None, progress: Reporter) -> Bundle | None:
    if source is None:
        return None
    try:
        return open_model(source, _for_original(source, config), progress)
    except CheckpointError:
        raise
    except InputError as error:
        raise InputError(error.what, where=error.where, remedy="name the original with --original") from error


def _for_original(source: str | None, config: Config | None) -> Config | None:
    """A checkpoint on disk needs the config; bundled models and artifacts describe themselves."""
    from slim import zoo

    return None if source is not None and source.startswith(zoo.PREFIX) else config


def _shipped(past: list[dict[str, Any]], progress: Reporter) -> Bundle | None:
    """The model behind the exported files, for parameters and FLOPs; None when its folder is gone."""
    if not past:
        return None
    last = str(past[-1]["out"]) if past[-1].get("out") else str(past[-1]["source"])
    try:
        return open_model(last, None, progress)
    except InputError:
        progress.warn(f"{last} is gone: parameters and FLOPs of the exported model are not counted")
        return None


def _section(config: Config | None, images: int | None) -> CheckSection:
    from slim.config import CheckSection

    section = (config.Check if config is not None else None) or CheckSection()
    return section if images is None else section.model_copy(update={"images": images})


def _data(
    config: Config | None, data: Path | None, before: Bundle | None, after: Bundle | None, progress: Reporter
) -> Dataset | None:
    known = before or after
    if data is not None:
        if known is None:
            raise InputError("the kind of the model is unknown", remedy="give --original")
        return open_labels(data, known.spec.kind)
    if config is not None and config.Eval is not None:
        return dataset(config, "eval", config.kind)
    progress.warn("no data: only tensors are compared; give --data or -c for accuracy")
    return None


def _write(report: dict[str, Any], found: CheckReport, out: Path) -> None:
    from export.check import shipped_name
    from slim.evaluate import write_predictions

    if found.layers is not None:
        from export.layers_plot import draw_layers

        words = f"{found.layers.reference}; {found.layers.inputs}"
        draw_layers(report["layers"], out / LAYERS_PLOT, title=found.model, reference=words)
    if found.results:
        write_predictions(found.results[shipped_name(found)].predictions, out / PREDICTIONS)
    artifact.write_text(out / MARKDOWN, report_markdown(report))
    artifact.write_json(out / REPORT, report)

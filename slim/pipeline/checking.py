"""slim check: the exported files of a folder against the float original they came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.contents import LAYERS_PLOT, MARKDOWN, PAGE, PREDICTIONS, REPORT
from slim.errors import CheckpointError, InputError, UsageError
from slim.pipeline import lineage
from slim.pipeline.datasets import dataset, open_labels
from slim.pipeline.opening import open_model, open_original
from slim.pipeline.pictures import pictures
from slim.pipeline.reporting import assemble
from slim.progress import Reporter
from slim.report import report_markdown
from slim.report.page import report_html

if TYPE_CHECKING:
    from export.check_report import CheckReport
    from slim.bundle import Bundle
    from slim.config import CheckSection, Config
    from slim.data.dataset import Dataset


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
    """Run the harness and write report.json, report.md, report.html and predictions.jsonl.

    Args:
        folder: an artifact of export-nb, or a bare folder with .nb files and an inference program.
        original: the model to compare with; None: the float original named by the manifest's lineage.
        baseline: the original exported with the same options.
        per_layer: also compare every layer of model.arm.nb with the float net, and draw layers.png.
        out: where the report goes; None: ``folder``.
    Raises:
        ArtifactError: files were changed after they were written. InputError: nothing to compare with, or
            what the manifest names as the original holds other weights by now.
    """
    from export import check as harness
    from quant.wrap import float_view

    manifest = _manifest(folder, progress)
    facts = manifest.facts if manifest is not None else {}
    _make(out)
    past = list(facts.get(lineage.LINEAGE, []))
    before = _before(original, past, config, progress)
    section = _section(config, images)
    after, notes = _shipped(past, section, progress)
    scored = _data(config, data, before, after, progress)
    found = harness.check(
        folder,
        scored,
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
    found.warnings += notes
    files = {} if manifest is None else {n: h for n, h in manifest.files.items() if n.endswith(".nb")}
    if past:
        past.append({"stage": "export-nb", "before": past[-1]["weights"], "files": files})
    recipe = {"Check": section.model_dump(mode="json")}
    if manifest is not None and manifest.stage == "export":
        recipe["Export"] = dict(manifest.recipe)
    name = config.name if config is not None else None
    report = assemble(found, _kind(folder, before), past, recipe, name, seed, progress)
    _write(report, found, out or folder, pictures(report, scored, found.results))
    return report


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


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot remove it ({error.strerror})", where=path, remedy="remove it") from error


def _manifest(folder: Path, progress: Reporter) -> artifact.Manifest | None:
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, remedy="give a folder written by slim export-nb")
    if not (folder / artifact.MANIFEST).is_file():
        progress.warn(f"{folder} has no manifest: damage to plain weight bytes cannot be seen")
        return None
    return artifact.verify(folder)


def _before(
    original: str | None, past: list[dict[str, Any]], config: Config | None, progress: Reporter
) -> Bundle | None:
    """The model to compare with: the one the user names, or else the one the lineage names."""
    if original is not None:
        return open_original(original, config, progress)
    source = lineage.origin(past)
    if source is None:
        return None
    try:
        before = open_original(source, config, progress)
    except CheckpointError:
        raise
    except InputError as error:
        raise InputError(error.what, where=error.where, remedy="name the original with --original") from error
    _require_same(before, past[0])
    return before


def _require_same(before: Bundle, entry: dict[str, Any]) -> None:
    """Refuse an original whose file was replaced since: every drop would be against another model."""
    if before.sha256() != entry.get("weights"):
        raise InputError(
            "holds other weights than those this model was made from",
            where=entry["source"],
            remedy="name the original with --original",
        )


def _shipped(
    past: list[dict[str, Any]], section: CheckSection, progress: Reporter
) -> tuple[Bundle | None, list[str]]:
    """The model behind the exported files, for parameters and FLOPs.

    None with a note when its folder is gone or holds another model.
    """
    if not past:
        return None, []
    last = str(past[-1]["out"]) if past[-1].get("out") else str(past[-1]["source"])
    try:
        found = open_model(last, None, progress)
    except UsageError:
        fact = "is gone"
    else:
        if found.sha256() == past[-1].get("weights"):
            return found, []
        fact = "holds another model by now"
    note = f"{last} {fact}: parameters and FLOPs of the exported model are not counted"
    if section.min_flops_cut is not None:
        note += ", Check.min_flops_cut is not checked"
    progress.warn(note)
    return None, [note]


def _kind(folder: Path, before: Bundle | None) -> str:
    """cls, rec or det, by the spec the harness has read."""
    from export.stage import read_spec

    spec = read_spec(folder) or (before.spec if before is not None else None)
    assert spec is not None
    return spec.kind


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


def _write(report: dict[str, Any], found: CheckReport, out: Path, images: dict[int, str]) -> None:
    from export.check import shipped_name
    from slim.evaluate import write_predictions

    if found.layers is not None:
        from export.layers_plot import draw_layers

        words = f"{found.layers.reference}; {found.layers.inputs}"
        draw_layers(report["layers"], out / LAYERS_PLOT, title=found.model, reference=words)
    else:  # that of an earlier check is not of this report
        _remove(out / LAYERS_PLOT)
    if found.results:
        write_predictions(found.results[shipped_name(found)].predictions, out / PREDICTIONS)
    else:
        _remove(out / PREDICTIONS)
    artifact.write_text(out / MARKDOWN, report_markdown(report))
    artifact.write_text(out / PAGE, report_html(report, images))
    artifact.write_json(out / REPORT, report)

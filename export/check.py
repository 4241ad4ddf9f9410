"""The harness of `slim check`: the same tensors and images through the original and the exported files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export import compare, layers_folder, selftest, subjects
from export.bench import EXECUTOR, NOT_A_PHONE, RUNS, latencies
from export.check_report import (
    CheckOptions,
    CheckReport,
    cost_of,
    differing,
    drop,
    nominal_shape,
    rows,
)
from export.nb.format import read_nb
from export.program import random_input
from export.runtimes.base import Runtime
from export.second_witness import ANSWERS, second_witness
from export.stage import LSTM_INT8_BOUND, NB_FILES
from export.subjects import Exported
from slim.bundle import Bundle
from slim.errors import InputError, UnsupportedModel
from slim.evaluate import EvalResult, evaluate, same_answer
from slim.progress import Reporter, Silent
from slim.stage import Check

if TYPE_CHECKING:
    from slim.data.dataset import Dataset

# Below this share of right answers the original is no trained model for these images.
UNTRAINED = 0.05
_TIMED = ("original", "program", "arm", "x86")


def check(
    folder: Path,
    dataset: Dataset | None,
    section: CheckOptions,
    *,
    original: Bundle | None = None,
    shipped: Bundle | None = None,
    baseline: Path | None = None,
    runtime_version: str | None = None,
    per_layer: bool = False,
    float_view: Callable[[Bundle], Bundle] | None = None,
    seed: int = 0,
    latency_runs: int = RUNS,
    progress: Reporter | None = None,
) -> CheckReport:
    """Prove an exported folder against its original.

    Args:
        folder: what `export.stage.export_nb` (or ``export_inference``) wrote.
        dataset: evaluation lines or pages; None compares tensors only.
        original: the float model before compression; None (and no ``baseline``): nothing is compared with it.
        shipped: the bundle behind ``folder``, for parameters and FLOPs.
        baseline: the original exported with the same options: its program is used and its ARM bytes compared.
        runtime_version: of the app; a mismatch is a warning.
        per_layer: also compare every layer of model.arm.nb with the float net, see `export.layers`.
        float_view: takes the quantizers out of a bundle, for ``per_layer`` on a pruned and quantized model.
    Raises:
        ArtifactError, NbFormatError: the folder is damaged or not what it says.
        InputError: the original scores below 5%: wrong data or an untrained checkpoint; nothing to compare.
    """
    exported = subjects.open_exported(folder, original.spec if original is not None else None)
    report = CheckReport(exported.spec.name, data={} if dataset is None else dict(dataset.describe()))
    report.warnings += [*exported.warnings, *subjects.version_warnings(exported, runtime_version)]
    report.files = {NB_FILES[t]: facts.to_json() for t, facts in exported.facts.items()}
    same = original is not None and shipped is not None and original.sha256() == shipped.sha256()
    with subjects.opened(exported, original, baseline) as runtimes:
        _require_something(exported, runtimes, section)
        _tensors(report, exported, runtimes, section, same=same, seed=seed)
        if dataset is not None:
            _images(report, exported, runtimes, dataset, section, progress or Silent())
            _witness(report, exported, dataset, section, progress)
        x = random_input(nominal_shape(exported.spec), seed)
        timed = {name: found for name, found in runtimes.items() if name in _TIMED}
        report.latency = latencies(timed, x, runs=latency_runs)
        report.warnings += [NOT_A_PHONE, *([EXECUTOR] if "arm" in timed else [])]
    _selftest(report, exported)
    if per_layer:
        _layers(report, exported, dataset, original, shipped, float_view, seed, progress)
    _structure(report, exported, section, original, shipped, baseline)
    report.stages = rows(report, exported, original, shipped, baseline)
    return report


def _require_something(exported: Exported, runtimes: dict[str, Runtime], section: CheckOptions) -> None:
    """A lone inference program has nothing beside it: a report would say that all of no checks hold."""
    if not exported.files and "original" not in runtimes and section.max_inference_mb is None:
        raise InputError(
            "holds no .nb file, and no original to compare the program with is known",
            where=exported.folder,
            remedy="name the original with --original",
        )


def _selftest(report: CheckReport, exported: Exported) -> None:
    """The inputs and outputs the app will try on the phone; folders of older versions have none."""
    if "arm" not in exported.files:
        return
    if (exported.folder / selftest.FOLDER).is_dir():
        report.checks += selftest.verify_selftest(exported.folder)
    else:
        report.warnings.append("no self-test for the device: export again to get one")


def _layers(
    report: CheckReport,
    exported: Exported,
    dataset: Dataset | None,
    original: Bundle | None,
    shipped: Bundle | None,
    float_view: Callable[[Bundle], Bundle] | None,
    seed: int,
    progress: Reporter | None,
) -> None:
    """Which layer lost it; a layer without a counterpart is said, not left out in silence."""
    report.layers = layers_folder.measure(
        exported,
        dataset,
        original=original,
        shipped=shipped,
        float_view=float_view,
        seed=seed,
        progress=progress,
    )
    if report.layers.alone:
        names = ", ".join(report.layers.alone)
        report.warnings.append(
            f"{len(report.layers.alone)} layers of model.arm.nb have no counterpart: {names}"
        )


def _tensors(
    report: CheckReport,
    exported: Exported,
    runtimes: dict[str, Runtime],
    section: CheckOptions,
    *,
    same: bool,
    seed: int,
) -> None:
    """Same tensors through both runtimes; other widths and a batch are among them; A, B, A."""
    batch = 3 if exported.batch > 1 else 1
    inputs = compare.probes(exported.spec, section.widths, batch=batch, seed=seed)
    for name, reference, label, bound in _pairs(exported, runtimes, section, same):
        found = compare.compare(runtimes[reference], runtimes[name], inputs)
        report.tensors[label] = found
        if bound is not None:
            report.checks += compare.tensor_checks(label, found, bound)
        else:
            bad = sum(not c.finite for c in found)
            report.checks.append(Check(f"{label}: outputs not finite", bad, 0, "tensors", "=="))
    a, b = inputs[0][1], inputs[-1][1]
    for target, path in exported.files.items():
        value = compare.repeats(runtimes[target], a, b)
        report.checks.append(Check(f"{path.name}: change of the answer to A in A, B, A", value, 0.0, "abs"))


def _pairs(
    exported: Exported, runtimes: dict[str, Runtime], section: CheckOptions, same: bool
) -> list[tuple[str, str, str, float | None]]:
    """(candidate, reference, label, bound); no bound where rounding may grow through the net."""
    pairs: list[tuple[str, str, str, float | None]] = []
    if "original" in runtimes:
        # A pruned or quantized net answers differently by design: measured and shown, judged on images.
        bound = section.max_abs if same else None
        pairs.append(("program", "original", "inference program against the original", bound))
    if "x86" in runtimes:
        what = "the float view of the program" if exported.quantized else "the inference program"
        pairs.append(("x86", "x86 reference", f"model.x86.nb against {what}", section.max_abs))
    if "arm" in runtimes:
        bound = None if exported.quantized else section.max_abs
        if not exported.quantized and _lstm_int8(exported):
            bound = LSTM_INT8_BOUND
        pairs.append(("arm", "program", "model.arm.nb against the inference program", bound))
    return pairs


def _lstm_int8(exported: Exported) -> bool:
    return any(op.type == "calib_once" for op in read_nb(exported.files["arm"]).ops)


def _images(
    report: CheckReport,
    exported: Exported,
    runtimes: dict[str, Runtime],
    dataset: Dataset,
    section: CheckOptions,
    progress: Reporter,
) -> None:
    """Same images through the whole pipeline of each runtime."""
    few = min(section.simulation_images, section.images)
    limits = {"original": section.images, "program": few if exported.quantized else section.images}
    limits |= {"arm": section.images, "x86": few if exported.quantized else section.images}
    for name, limit in limits.items():
        if name not in runtimes:
            continue
        report.results[name] = evaluate(
            runtimes[name].run,
            dataset,
            exported.spec,
            limit=limit,
            batch_size=exported.batch,
            progress=progress,
        )
        if name == "original":
            _require_trained(report.results[name], report.data)
    final = shipped_name(report)
    for name in ("arm", "x86"):
        if name in runtimes and not (name == "x86" and exported.quantized):
            share, n = _agreement(report.results["program"], report.results[name])
            same = f"same {ANSWERS[exported.spec.kind]} as the inference program on {n} images"
            label = f"{NB_FILES[name]}: {same}"
            report.checks.append(Check(label, share, section.min_agreement, "share", ">="))
    if "original" in report.results:
        lost = drop(report, final)
        label = f"accuracy lost by {NB_FILES.get(final, 'the inference program')} on {lost.n} images"
        report.checks.append(Check(label, lost.points, section.max_drop, "points"))
        report.differing, report.changed = differing(report.results["original"], report.results[final])


def _witness(
    report: CheckReport,
    exported: Exported,
    dataset: Dataset,
    section: CheckOptions,
    progress: Reporter | None,
) -> None:
    """An int8 ARM file once more in another engine; a file it cannot hold is said, not passed over."""
    if not exported.quantized or "arm" not in exported.files or not section.witness_images:
        return
    path = exported.files["arm"]
    try:
        report.witness = second_witness(
            path, report.results["arm"], dataset, exported.spec, section.witness_images, progress
        )
    except UnsupportedModel as error:
        report.warnings.append(f"{path.name} was not run in Paddle-Lite x86 as a second witness: {error}")
    else:
        report.checks.append(report.witness.check(path.name, section.min_agreement))


def shipped_name(report: CheckReport) -> str:
    """The result that counts: the ARM file, else the x86 file, else the inference program."""
    return next(name for name in ("arm", "x86", "program") if name in report.results)


def _require_trained(result: EvalResult, data: dict[str, Any]) -> None:
    if result.main < UNTRAINED:
        share = f"{100 * result.main:.1f}%"
        raise InputError(
            f"the original has an hmean of {share} on {result.images} pages"
            if result.kind == "det"
            else f"the original is right on {share} of {result.images} images",
            where=str(data.get("path", "data")),
            remedy="is this checkpoint trained, and are these its images and dictionary?",
        )


def _agreement(a: EvalResult, b: EvalResult) -> tuple[float, int]:
    n = min(a.images, b.images)
    pairs = zip(a.predictions[:n], b.predictions[:n], strict=True)
    return sum(same_answer(a.kind, x, y) for x, y in pairs) / n, n


def _structure(
    report: CheckReport,
    exported: Exported,
    section: CheckOptions,
    original: Bundle | None,
    shipped: Bundle | None,
    baseline: Path | None,
) -> None:
    """Layers in int8, FLOPs, bytes."""
    if "arm" in exported.facts:
        facts = exported.facts["arm"]
        report.checks.append(
            Check(
                "model.arm.nb: layers computed in int8", facts.int8_layers, exported.quantized, "layers", "=="
            )
        )
        left = len(set(exported.quantized_weights) - set(facts.int8_weights))
        report.checks.append(Check("model.arm.nb: quantized layers left in float", left, 0, "layers", "=="))
    if section.min_flops_cut is not None and original is not None and shipped is not None:
        cut = 1 - cost_of(shipped).flops / cost_of(original).flops
        report.checks.append(Check("multiply-adds pruned", cut, section.min_flops_cut, "share", ">="))
    if section.max_nb_ratio is not None and baseline is not None and "arm" in exported.facts:
        ratio = exported.facts["arm"].bytes / (baseline / NB_FILES["arm"]).stat().st_size
        report.checks.append(
            Check("model.arm.nb as a share of the original's", ratio, section.max_nb_ratio, "share")
        )
    if section.max_inference_mb is not None:
        size = exported.inference_bytes / 1e6
        report.checks.append(Check("inference folder", size, section.max_inference_mb, "MB"))

"""What a check measured, as plain data and as the rows of its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from export import compare
from export.bench import Latency
from export.layers_folder import LayerReport
from export.second_witness import WitnessReport
from export.stage import NB_FILES
from export.subjects import Exported
from slim.arch.cost import Cost, count
from slim.bundle import Bundle
from slim.evaluate import EvalResult, drop_between, same_answer, shown_answer
from slim.metrics import MAIN_INDICATORS
from slim.spec import ModelSpec
from slim.stage import Check
from slim.statistics import PairedDrop, hmean, hmean_interval

MAX_LISTED = 200
# "lost": the original is right and the shipped file wrong, or a page's own hmean fell; "gained": the reverse;
# "other": as good as before, since the metric ignores spaces and a wrong text may be another wrong one.
_KINDS = ("lost", "gained", "other")


class CheckOptions(Protocol):
    """What a check reads of the recipe (``slim.config.ours.CheckSection`` has it)."""

    @property
    def images(self) -> int: ...
    @property
    def simulation_images(self) -> int: ...
    @property
    def witness_images(self) -> int: ...
    @property
    def max_drop(self) -> float: ...
    @property
    def max_abs(self) -> float: ...
    @property
    def min_agreement(self) -> float: ...
    @property
    def widths(self) -> Sequence[int]: ...
    @property
    def min_flops_cut(self) -> float | None: ...
    @property
    def max_nb_ratio(self) -> float | None: ...
    @property
    def max_inference_mb(self) -> float | None: ...


@dataclass
class CheckReport:
    """Everything measured, as plain data by `to_json`.

    Attributes:
        stages: rows of the table: "original", "inference", "arm nb", "x86 nb".
        tensors: label -> comparisons on the same tensors.
        differing: images whose text differs between original and shipped file, at most ``MAX_LISTED``.
        changed: kind -> how many differ so, listed or not.
        results: name -> scored images, for predictions.jsonl.
        layers: the per-layer comparison, where it was asked for.
        witness: an int8 ARM file in a second engine.
    """

    model: str
    checks: list[Check] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, list[compare.TensorComparison]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)
    differing: list[dict[str, Any]] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    data: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    results: dict[str, EvalResult] = field(default_factory=dict)
    layers: LayerReport | None = None
    witness: WitnessReport | None = None

    @property
    def passed(self) -> bool:
        """Whether every check holds; without one nothing was proved."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain data without the predictions."""
        return {
            "model": self.model,
            "passed": self.passed,
            "stages": self.stages,
            "checks": [c.to_json() for c in self.checks],
            "tensors": {k: [c.to_json() for c in found] for k, found in self.tensors.items()},
            "files": self.files,
            "latency": {k: v.to_json() for k, v in self.latency.items()},
            "differing": self.differing,
            "changed": self.changed,
            "data": self.data,
            "witness": None if self.witness is None else self.witness.to_json(),
            "notes": self.warnings,
            **(self.layers.to_json() if self.layers is not None else {}),
        }


def nominal_shape(spec: ModelSpec) -> tuple[int, int, int, int]:
    if spec.input.dynamic_height:
        return 1, spec.input.channels, 320, 320
    return 1, spec.input.channels, spec.input.height, spec.input.width


def cost_of(bundle: Bundle) -> Cost:
    """Parameters and multiply-adds of the float net behind a bundle, for the input every stage counts."""
    net = bundle.net if bundle.scheme is None else replace(bundle, scheme=None).clone().net
    return count(net, bundle.spec.input.shape)


def drop(report: CheckReport, name: str) -> PairedDrop:
    return drop_between(report.results["original"], report.results[name])


def differing(original: EvalResult, shipped: EvalResult) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Images with another answer, ``index`` their place in the data set, and how many there are of each kind.

    Those that were lost come first, pages that lost most before others; at most ``MAX_LISTED`` are given.
    """
    before, now = _worth(original), _worth(shipped)
    lost = [a - b for a, b in zip(before, now, strict=False)]
    found: list[dict[str, Any]] = [
        {
            "index": index,
            "ref": a.ref,
            "expected": shown_answer(original.kind, a.expected),
            "original": shown_answer(original.kind, a.text),
            "shipped": shown_answer(original.kind, b.text),
            "kind": _kind(lost[index]),
        }
        for index, (a, b) in enumerate(zip(original.predictions, shipped.predictions, strict=False))
        if not same_answer(original.kind, a, b)
    ]
    kinds = [row["kind"] for row in found]
    listed = sorted(found, key=lambda row: (_KINDS.index(row["kind"]), -lost[row["index"]]))[:MAX_LISTED]
    return listed, {kind: kinds.count(kind) for kind in _KINDS}


def _worth(result: EvalResult) -> list[float]:
    """What each image counts: 1 right, 0 wrong; a page its own hmean, and 1 where nothing is to be found."""
    if result.kind == "det":
        return [hmean(*page) if any(page) else 1.0 for page in result.pages]
    return [float(row.correct) for row in result.predictions]


def _kind(lost: float) -> str:
    return "other" if lost == 0 else "lost" if lost > 0 else "gained"


def rows(
    report: CheckReport,
    exported: Exported,
    original: Bundle | None,
    shipped: Bundle | None,
    baseline: Path | None,
) -> list[dict[str, Any]]:
    """The table: one row per thing that was run."""
    table = []
    for name, stage, net in (
        ("original", "original", original),
        ("program", "inference", shipped),
        ("arm", "arm nb", shipped),
        ("x86", "x86 nb", shipped),
    ):
        if name not in report.latency:
            continue
        found = report.latency[name]
        row: dict[str, Any] = {
            "stage": stage,
            "latency_ms": found.p50_ms,
            "latency_p90_ms": found.p90_ms,
        }
        if net is not None:
            cost = cost_of(net)
            row |= {"params": cost.params, "flops": cost.flops}
        row |= _sizes(name, exported, baseline)
        if name in report.results:
            result = report.results[name]
            row |= {"accuracy": result.main, "images": result.images}
            if result.pages:
                low, high = hmean_interval(result.pages)
                row |= {"metric": MAIN_INDICATORS[result.kind], "accuracy_low": low, "accuracy_high": high}
            if name != "original" and "original" in report.results:
                row["drop"] = dict(drop(report, name).__dict__)
        table.append(row)
    return table


def _sizes(name: str, exported: Exported, baseline: Path | None) -> dict[str, int]:
    if name == "original":
        if baseline is None:
            return {}
        return {
            f"{t}_bytes": (baseline / f).stat().st_size
            for t, f in NB_FILES.items()
            if (baseline / f).is_file()
        }
    if name == "program":
        return {"inference_bytes": exported.inference_bytes}
    return {f"{name}_bytes": exported.facts[name].bytes}

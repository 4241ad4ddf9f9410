"""Comparing a run's report with stored references: the gate of a CI."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slim.artifact import read_json
from slim.errors import ConfigError, InputError

Verdict = Literal["ok", "regression", "gain", "missing", "new"]
_BETTER = ("higher", "lower", "equal")


@dataclass(frozen=True)
class Reference:
    """One stored number.

    Attributes:
        value: the number a run is compared with.
        tolerance: how far a run may be off, in the metric's own unit (already resolved from "2%").
        better: "higher", "lower", or "equal" when both directions are wrong.
    """

    value: float
    tolerance: float
    better: str


@dataclass(frozen=True)
class Row:
    """One comparison: model, metric, reference, measured value and what follows."""

    model: str
    metric: str
    reference: float | None
    tolerance: float | None
    value: float | None
    verdict: Verdict

    @property
    def failed(self) -> bool:
        """Whether this row fails a build: a gain or a new model is only shown."""
        return self.verdict in ("regression", "missing")


def read_references(path: Path) -> dict[str, dict[str, Reference]]:
    """Model -> metric -> Reference from a refs.yml.

    The file: ``models: {NAME: {METRIC: {value: 94.1, tolerance: 1.0 or "2%", better: higher}}}``.

    Raises:
        ConfigError: not of that form; the message names the model and metric.
    """
    from slim.config import read_yaml

    if not path.is_file():
        raise InputError("no such file", where=path, remedy="give the refs.yml as --baseline")
    data = read_yaml(path)
    models = data.get("models")
    if not isinstance(models, Mapping) or not models:
        raise ConfigError("has no models", where=path, remedy="write models: {NAME: {METRIC: {...}}}")
    return {str(model): _metrics(metrics, f"{path}: {model}") for model, metrics in models.items()}


def _metrics(metrics: Any, where: str) -> dict[str, Reference]:
    # An entry that is skipped would let its model pass whatever it measures.
    if not isinstance(metrics, Mapping) or not metrics:
        raise ConfigError("names no metric", where=where, remedy="write METRIC: {value, tolerance, better}")
    return {str(name): _reference(entry, f"{where}.{name}") for name, entry in metrics.items()}


def _reference(entry: Any, where: str) -> Reference:
    if not isinstance(entry, Mapping) or set(entry) != {"value", "tolerance", "better"}:
        raise ConfigError("needs exactly value, tolerance and better", where=where)
    if entry["better"] not in _BETTER:
        raise ConfigError(f"better is {entry['better']!r}, must be one of {', '.join(_BETTER)}", where=where)
    value = _number(entry["value"], where)
    tolerance = entry["tolerance"]
    if isinstance(tolerance, str) and tolerance.endswith("%"):
        limit = abs(value) * _number(tolerance[:-1], where) / 100.0
    else:
        limit = _number(tolerance, where)
    if limit < 0.0:
        raise ConfigError(f"tolerance is {tolerance}, must not be negative", where=where)
    return Reference(value, limit, entry["better"])


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{value!r} is not a number", where=where) from error
    if not math.isfinite(number):
        raise ConfigError(f"{value!r} is not a finite number", where=where)
    return number


def judge(reference: Reference, value: float) -> Verdict:
    """What a measured value means beside its reference.

    >>> judge(Reference(94.0, 1.0, "higher"), 92.5), judge(Reference(94.0, 1.0, "higher"), 96.0)
    ('regression', 'gain')
    """
    difference = value - reference.value
    if math.isnan(difference):
        return "regression"
    if abs(difference) <= reference.tolerance:
        return "ok"
    if reference.better == "equal":
        return "regression"
    return "gain" if (difference > 0) == (reference.better == "higher") else "regression"


def compare(references: Mapping[str, Mapping[str, Reference]], reports: Sequence[Path]) -> list[Row]:
    """Compare every report with the references of its model.

    A model of the references that no report is about is "missing", as is a metric the report lacks;
    a report about an unknown model is "new".

    Raises:
        ArtifactError: a report is not readable. InputError: two reports are about one model.
    """
    rows: list[Row] = []
    seen: dict[str, Path] = {}
    for path in reports:
        report = read_json(path)
        model, metrics = str(report.get("model", "")), report.get("metrics")
        if not model or not isinstance(metrics, Mapping):
            raise InputError("is not a report of slim (no model or metrics)", where=path)
        if model in seen:
            raise InputError(
                f"is about {model}, as is {seen[model]}", where=path, remedy="give one report a model"
            )
        seen[model] = path
        rows += _rows(model, references.get(model), metrics)
    for model in references:
        if model not in seen:
            rows.append(Row(model, "report", None, None, None, "missing"))
    return rows


def _rows(model: str, references: Mapping[str, Reference] | None, metrics: Mapping[str, Any]) -> list[Row]:
    if references is None:
        return [Row(model, "report", None, None, None, "new")]
    rows = []
    for name, reference in references.items():
        raw = metrics.get(name)
        if raw is None or isinstance(raw, bool) or not isinstance(raw, (int, float)):
            rows.append(Row(model, name, reference.value, reference.tolerance, None, "missing"))
            continue
        verdict = judge(reference, float(raw))
        rows.append(Row(model, name, reference.value, reference.tolerance, float(raw), verdict))
    return rows

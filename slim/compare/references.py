"""The refs.yml of a project: per model the numbers, tolerances and predictions a run is held to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slim.compare.reports import is_unicode
from slim.errors import ConfigError, InputError

AGREEMENT = "agreement"
PAIRED_LOSS = "paired_loss"
PAIRED = {AGREEMENT: "higher", PAIRED_LOSS: "lower"}
"""Metrics no report has, and which way of each is better: found by its predictions and the stored ones."""

PREDICTIONS, TOOLS, DEFAULTS = "predictions", "tools", "defaults"
_RESERVED = (PREDICTIONS, TOOLS)
_BETTER = ("higher", "lower", "equal")
_KEYS = ("value", "tolerance", "better")


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
class Stored:
    """Predictions of the run the references come from; ``sha256`` of the file, None: not checked."""

    path: Path
    sha256: str | None


@dataclass(frozen=True)
class References:
    """A refs.yml as read.

    Attributes:
        models: model -> metric -> Reference.
        predictions: model -> Stored, for models whose images are paired.
        tools: model -> package -> version the references were made with.
    """

    models: dict[str, dict[str, Reference]]
    predictions: dict[str, Stored]
    tools: dict[str, dict[str, str]]


def read_references(path: Path) -> References:
    """Read a refs.yml, see docs/CI.md.

    The least: ``models: {NAME: {METRIC: {value: 94.1, tolerance: 1.0 or "2%", better: higher}}}``.

    Raises:
        InputError: no such file. ConfigError: not of that form; the message names the model and metric.
    """
    from slim.config import read_yaml

    if not path.is_file():
        raise InputError(
            "no such file", where=path, remedy="give the refs.yml as --baseline, or write it with --update"
        )
    return references_from(read_yaml(path), path)


def references_from(data: Any, path: Path) -> References:
    """Check what a YAML file held; ``path`` names it in errors and is where its predictions start."""
    models = data.get("models") if isinstance(data, Mapping) else None
    if not isinstance(models, Mapping) or not models:
        raise ConfigError("has no models", where=path, remedy="write models: {NAME: {METRIC: {...}}}")
    unknown = sorted(set(data) - {"models", DEFAULTS})
    if unknown:
        raise ConfigError(
            f"has an unknown section {unknown[0]}", where=path, remedy=f"known: models, {DEFAULTS}"
        )
    defaults = _defaults(data.get(DEFAULTS), f"{path}: {DEFAULTS}")
    found = References({}, {}, {})
    for model, entries in models.items():
        _model(found, str(model), entries, defaults, path)
    return found


def _model(
    found: References, model: str, entries: Any, defaults: Mapping[str, Mapping[str, Any]], path: Path
) -> None:
    where = f"{path}: {model}"
    # An entry that is skipped would let its model pass whatever it measures.
    if not isinstance(entries, Mapping) or not set(entries) - set(_RESERVED):
        raise ConfigError("names no metric", where=where, remedy="write METRIC: {value, tolerance, better}")
    metrics = {str(name): entry for name, entry in entries.items() if name not in _RESERVED}
    found.models[model] = {
        name: _reference(entry, defaults.get(name, {}), f"{where}.{name}") for name, entry in metrics.items()
    }
    for name, better in PAIRED.items():
        if name in metrics and found.models[model][name].better not in (better, "equal"):
            raise ConfigError(f"better must be {better}, or equal", where=f"{where}.{name}")
    if PREDICTIONS in entries:
        found.predictions[model] = _stored(entries[PREDICTIONS], path.parent, f"{where}.{PREDICTIONS}")
    if (PREDICTIONS in entries) != (PAIRED_LOSS in metrics) or (
        AGREEMENT in metrics and PREDICTIONS not in entries
    ):
        raise ConfigError(
            f"{PREDICTIONS} and {PAIRED_LOSS} need each other, and {AGREEMENT} both",
            where=where,
            remedy="write all of them with slim compare --update --predictions",
        )
    tools = entries.get(TOOLS, {})
    if not isinstance(tools, Mapping):
        raise ConfigError("is no mapping of package to version", where=f"{where}.{TOOLS}")
    found.tools[model] = versions = {str(name): str(version) for name, version in tools.items()}
    if not is_unicode(model, *metrics, *versions, *versions.values()):
        raise ConfigError("a name has half a character", where=where, remedy="write it as UTF-8")


def _defaults(data: Any, where: str) -> dict[str, dict[str, Any]]:
    """Metric -> what an entry of a model may leave out."""
    if data is None:
        return {}
    if not isinstance(data, Mapping) or not all(isinstance(entry, Mapping) for entry in data.values()):
        raise ConfigError("is no mapping", where=where, remedy="write METRIC: {tolerance, better}")
    for name, entry in data.items():
        if set(entry) - {"tolerance", "better"}:
            raise ConfigError("may hold tolerance and better", where=f"{where}.{name}")
    return {str(name): dict(entry) for name, entry in data.items()}


def _stored(entry: Any, folder: Path, where: str) -> Stored:
    if not isinstance(entry, Mapping) or set(entry) - {"file", "sha256"} or "file" not in entry:
        raise ConfigError("needs file, and may have sha256", where=where)
    sha256 = entry.get("sha256")
    return Stored(folder / str(entry["file"]), None if sha256 is None else str(sha256))


def _reference(entry: Any, defaults: Mapping[str, Any], where: str) -> Reference:
    if not isinstance(entry, Mapping) or set({**defaults, **entry}) != set(_KEYS):
        raise ConfigError(f"needs exactly {', '.join(_KEYS[:2])} and {_KEYS[2]}", where=where)
    entry = {**defaults, **entry}
    if entry["better"] not in _BETTER:
        raise ConfigError(f"better is {entry['better']!r}, must be one of {', '.join(_BETTER)}", where=where)
    value = _number(entry["value"], where)
    tolerance = entry["tolerance"]
    if isinstance(tolerance, str) and tolerance.endswith("%"):
        limit, size = _number(tolerance[:-1], where) / 100.0, abs(value)
    else:
        limit, size = _number(tolerance, where), 1.0
    if limit < 0.0 or math.isinf(limit * size):
        raise ConfigError(f"tolerance is {tolerance}, must not be negative or infinite", where=where)
    return Reference(value, limit * size, entry["better"])


def _number(value: Any, where: str) -> float:
    try:
        if isinstance(value, bool):  # YAML reads yes and no as such
            raise TypeError("a boolean")
        number = float(value)
    except OverflowError as error:
        raise ConfigError("a number has more digits than can be held", where=where) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{value!r} is not a number", where=where) from error
    if not math.isfinite(number):
        raise ConfigError(f"{value!r} is not a finite number", where=where)
    return number

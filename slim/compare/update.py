"""Writing refs.yml: new values go where the old ones stand, all else stays as a person left it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import yaml

from slim.artifact import real
from slim.compare.edits import Edit, appended, applied, entry, find, inserted, number, quoted, replaced
from slim.compare.pairs import ENOUGH, predictions_of
from slim.compare.references import (
    AGREEMENT,
    PAIRED,
    PAIRED_LOSS,
    PREDICTIONS,
    TOOLS,
    References,
    read_references,
    references_from,
)
from slim.compare.reports import Report, read_reports
from slim.compare.writing import write_together
from slim.config.read import parse_yaml, read_text
from slim.errors import ConfigError, InputError
from slim.numerics import file_sha256
from slim.progress import Reporter

HEADER = """\
# References of slim compare: value, tolerance (absolute, or "2%" of the value) and which direction is better.
# slim compare --update --baseline {name} REPORT... renews the values and keeps tolerances and comments.
models:
"""
# Images that may all change for the worse before McNemar's test calls it a loss: 2 * 0.5**5 is above 5%.
_NO_PROOF = 5
_MOST = 10.0  # points; more than that is a loss on any set
# What a new model's entries get: (end of the metric's name, tolerance, better). The first that fits.
# Accuracies in points, where 1 is what a recipe allows by default, more on few images; bytes and work move
# a little with the channels another processor's rounding keeps. The original has no reason to move at all.
_NEW: tuple[tuple[str, float | str, str], ...] = (
    ("original_accuracy", 0.5, "equal"),
    ("_accuracy", 1.0, "higher"),
    ("_drop", 1.0, "lower"),
    ("_bytes", "2%", "lower"),
    ("params", "2%", "lower"),
    ("flops", "2%", "lower"),
)
# Times are another machine's; who wants them held writes the entry, and chooses how far they may be off.
_NOT_NEW = re.compile(r"_latency_(ms|ratio)$")
# Equal texts: two machines' roundings differ. The loss is judged by its test first.
_PAIRED_NEW: dict[str, tuple[float, float]] = {AGREEMENT: (100.0, 2.0), PAIRED_LOSS: (0.0, 1.0)}


@dataclass(frozen=True)
class Change:
    """One number written: ``before`` is None for a new one."""

    model: str
    metric: str
    before: float | None
    after: float


def update(
    path: Path, reports: Sequence[Path], *, predictions: bool, progress: Reporter | None = None
) -> list[Change]:
    """Write the reports' numbers and tool versions as references, with their predictions: all or nothing.

    Models and metrics that are there keep tolerance, direction and comments; models without a report stay as
    they are; a new model gets all its metrics but latencies, with the tolerances of this module.

    Args:
        predictions: also store each report's predictions.jsonl beside ``path``, for paired statistics; models
            whose references have some get new ones in any case.
    Raises:
        ConfigError: the old file is not what `read_references` reads, or uses YAML this cannot edit.
        InputError: a report lacks a metric of its references, or predictions; nothing is written then.
    """
    found = read_reports(reports)
    for report in found:
        if not report.passed and progress is not None:
            progress.warn(f"{report.path}: this run missed bounds of its own, its numbers become references")
    old = read_references(path) if path.exists() else References({}, {}, {})
    text = read_text(path) if path.exists() else HEADER.format(name=path.name)
    changes: list[Change] = []
    stored: dict[str, Path] = {}
    for report in found:
        changes += _changes(report, old)
        if predictions or report.model in old.predictions:
            stored[report.model] = _prediction_file(path, report, old, stored)
    text = _edited(text, path, found, old, stored)
    _require_written(text, path, changes)
    _require_kept(text, path, old, set(old.models) - {report.model for report in found})
    copies = {stored[report.model]: report.predictions for report in found if report.model in stored}
    write_together({**copies, path: text.encode("utf-8")})
    return changes


def _changes(report: Report, old: References) -> list[Change]:
    known = old.models.get(report.model)
    if known is None:
        names = [name for name in report.metrics if not _NOT_NEW.search(name)]
        if not names:
            raise InputError("has no metric to store", where=report.path)
        return [Change(report.model, name, None, _value(report, name)) for name in names]
    return [
        Change(report.model, name, reference.value, _value(report, name))
        for name, reference in known.items()
        if name not in PAIRED
    ]


def _value(report: Report, name: str) -> float:
    value = report.metrics.get(name)
    if value is None or not math.isfinite(value):
        what = "is missing" if value is None else f"is {value}"
        raise InputError(
            f"{name} {what}: no reference can be made of it",
            where=report.path,
            remedy="check again, or take the metric out of the references",
        )
    return float(f"{value:.12g}")  # few enough that 1.2000000000000028 is 1.2, and within judge's slack


def _prediction_file(path: Path, report: Report, old: References, stored: Mapping[str, Path]) -> Path:
    """Where the predictions go: the file the references name, else a new one, and never another model's."""
    rows = predictions_of(report)
    if isinstance(rows, str):
        raise InputError(f"{rows}: nothing to store", where=report.path, remedy="run slim check with data")
    others = {model: entry.path for model, entry in old.predictions.items() if model != report.model}
    taken = {real(place): model for model, place in {**others, **stored}.items()}
    name = re.sub(r"[^\w.-]", "_", report.model)
    names = [] if name != report.model else [name]
    names.append(f"{name}-{hashlib.sha256(report.model.encode()).hexdigest()[:8]}")
    places = [path.parent / f"{path.stem}.{name}.{report.predictions.name}" for name in names]
    if report.model in old.predictions:
        places = [old.predictions[report.model].path]
    place = next((place for place in places if real(place) not in taken), places[-1])
    if real(place) in taken:
        raise InputError(
            f"holds the predictions of {taken[real(place)]} and of {report.model}",
            where=place,
            remedy="name another file for one of them in the references",
        )
    return place


def _edited(
    text: str, path: Path, reports: Sequence[Report], old: References, stored: Mapping[str, Path]
) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    models = find(root, "models")
    edits: list[Edit] = []
    blocks: list[str] = []
    for report in reports:
        facts = _facts(path, report, stored.get(report.model))
        if report.model in old.models:
            edits += _renewed(find(models, report.model), path, report, old, facts)
        else:
            blocks.append(_block(report, facts))
    if blocks:
        edits.append(appended(text, models, blocks))
    done = applied(text, edits)
    if done is None:
        raise _shared("an entry that stands for two cannot be changed in place", path)
    return done


def _facts(path: Path, report: Report, stored: Path | None) -> dict[str, str]:
    """The entries that are no metrics, as YAML flow text."""
    facts = {TOOLS: json.dumps(report.tools, ensure_ascii=False)}
    if stored is not None:
        name = Path(os.path.relpath(stored, path.parent)).as_posix()
        facts[PREDICTIONS] = json.dumps({"file": name, "sha256": file_sha256(report.predictions)})
    return facts


def _renewed(
    model: yaml.Node | None, path: Path, report: Report, old: References, facts: Mapping[str, str]
) -> list[Edit]:
    """Edits inside a model that is there: values, then tools and predictions, then what pairing needs."""
    edits = []
    for name in old.models[report.model]:
        value = find(find(model, name), "value")
        if model is None or (value is None and name not in PAIRED):
            raise _shared(f"{report.model}.{name} cannot be changed in place", path)
        if name not in PAIRED:
            edits.append(replaced(value, number(_value(report, name))))
    added = dict(facts)
    for name in facts:
        node = find(model, name)
        if node is not None:
            edits.append(replaced(node, added.pop(name)))
    if PREDICTIONS in facts:
        missing = [name for name in PAIRED if name not in old.models[report.model]]
        added |= {name: _paired_entry(report, name) for name in missing}
    if added:
        edits.append(inserted(model, added))
    return edits


def _block(report: Report, facts: Mapping[str, str]) -> str:
    """A new model as lines: its name, then two columns in the entries."""
    lines = [f"{quoted(report.model)}:"]
    lines += [f"  {key}: {value}" for key, value in facts.items()]
    for name in report.metrics:
        if not _NOT_NEW.search(name):
            lines.append(f"  {quoted(name)}: {entry(_value(report, name), *_tolerance(report, name))}")
    if PREDICTIONS in facts:
        lines += [f"  {name}: {_paired_entry(report, name)}" for name in PAIRED]
    return "\n".join(lines)


def _tolerance(report: Report, metric: str) -> tuple[float | str, str]:
    images = report.images.get(metric.rpartition("_")[0])
    for ending, tolerance, better in _NEW:
        if metric.endswith(ending):
            # A page is no unit of hmean: a detector's points have no smallest step to make room for.
            if images and better != "equal" and not isinstance(tolerance, str) and report.kind != "det":
                tolerance = _at_least_few(tolerance, images)
            return tolerance, better
    return "5%", "equal"


def _at_least_few(tolerance: float, images: int) -> float:
    few = math.ceil(round(1e4 * _NO_PROOF / images, 6)) / 100.0  # rounded down, five would not fit
    return min(_MOST, max(tolerance, few))


def _paired_entry(report: Report, name: str) -> str:
    value, tolerance = _PAIRED_NEW[name]
    images = report.images.get(report.shipped or "")
    # From ENOUGH images on the test excuses a loss that is chance; below, only the tolerance can.
    if images and (name == AGREEMENT or (images < ENOUGH and report.kind != "det")):
        tolerance = _at_least_few(tolerance, images)
    return entry(value, tolerance, PAIRED[name])


def _require_written(text: str, path: Path, changes: Sequence[Change]) -> None:
    """The new text read again must hold every number; YAML aliases and merges would not."""
    try:
        again = references_from(parse_yaml(text, str(path)), path)
    except ConfigError as error:  # an anchor went with its value
        raise _shared("cannot be changed in place", path) from error
    for change in changes:
        reference = again.models.get(change.model, {}).get(change.metric)
        if reference is None or reference.value != change.after:
            raise _shared(f"{change.model}.{change.metric} cannot be changed in place", path)


def _require_kept(text: str, path: Path, old: References, others: Set[str]) -> None:
    """Models without a report must be what they were; by an alias they would change with another one."""
    again = references_from(parse_yaml(text, str(path)), path)
    for model in others:
        for before, now in zip(vars(old).values(), vars(again).values(), strict=True):
            if before.get(model) != now.get(model):
                raise _shared(f"{model} would change too", path)


def _shared(what: str, path: Path) -> ConfigError:
    return ConfigError(what, where=path, remedy="write every value out, without YAML anchors and merges")

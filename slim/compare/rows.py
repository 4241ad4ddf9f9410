"""Judging: each stored number beside the measured one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from slim.compare.pairs import Pairs, pair
from slim.compare.references import AGREEMENT, PAIRED, Reference, References
from slim.compare.reports import Report, read_reports

Verdict = Literal["ok", "noise", "regression", "gain", "missing", "new"]
# A stored accuracy is rounded, in points; further off, the pairs do not explain the difference.
_ROUNDED = 0.01


@dataclass(frozen=True)
class Row:
    """One comparison: model, metric, reference, measured value, what follows, and why."""

    model: str
    metric: str
    reference: float | None
    tolerance: float | None
    value: float | None
    verdict: Verdict
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether this row fails a build by itself: noise, a gain or a new model is only shown."""
        return self.verdict in ("regression", "missing")

    def to_json(self) -> dict[str, Any]:
        """Plain data; a value that is not finite becomes null, since JSON has none."""
        finite = self.value is not None and math.isfinite(self.value)
        return {**asdict(self), "value": self.value if finite else None, "failed": self.failed}


@dataclass(frozen=True)
class Comparison:
    """All rows, the pairs of each model that has stored predictions, and what a reader must know.

    ``read``: the files it comes from, but for the references themselves.
    """

    rows: tuple[Row, ...]
    pairs: Mapping[str, Pairs]
    notes: tuple[str, ...]
    read: tuple[Path, ...] = ()

    def failed(self, *, gains: bool = False) -> list[Row]:
        """Rows that fail a build; ``gains``: unexplained gains do too."""
        return [row for row in self.rows if row.failed or (gains and row.verdict == "gain")]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "pairs": {model: found.to_json() for model, found in self.pairs.items()},
            "notes": list(self.notes),
        }


def judge(reference: Reference, value: float) -> Verdict:
    """What a measured value means beside its reference.

    >>> judge(Reference(94.0, 1.0, "higher"), 92.5), judge(Reference(94.0, 1.0, "higher"), 96.0)
    ('regression', 'gain')
    """
    difference = value - reference.value
    if not math.isfinite(difference):
        return "regression"
    # 90.4 - 90.1 is 0.3 and a bit in floating point; a bound is meant in decimals.
    if abs(difference) <= reference.tolerance * (1 + 1e-9) + 1e-12 * abs(reference.value):
        return "ok"
    if reference.better == "equal":
        return "regression"
    return "gain" if (difference > 0) == (reference.better == "higher") else "regression"


def compare(references: References, reports: Sequence[Path], *, seed: int = 0) -> Comparison:
    """Compare every report with the references of its model.

    A model of the references that no report is about is "missing", as is a metric the report lacks; a report
    about an unknown model is "new". A changed accuracy that paired images show to be chance is "noise".

    Args:
        seed: of the bootstrap.
    Raises:
        ArtifactError: a report is not readable. InputError: two reports are about one model, or stored
            predictions are missing or changed.
    """
    rows: list[Row] = []
    pairs: dict[str, Pairs] = {}
    notes: list[str] = []
    found = read_reports(reports)
    for report in found:
        model = report.model
        if model not in references.models:
            rows.append(Row(model, "report", None, None, None, "new", "no references yet"))
            continue
        paired = None
        if model in references.predictions:
            paired = pair(references.predictions[model], report, seed)
        if isinstance(paired, Pairs):
            pairs[model] = paired
        rows += [_row(report, name, ref, paired) for name, ref in references.models[model].items()]
        notes += _other_tools(report, references.tools[model])
        notes += _unheld(report, references.models[model])
    absent = [model for model in references.models if model not in {report.model for report in found}]
    rows += [Row(model, "report", None, None, None, "missing", "no report about it") for model in absent]
    read = [file for report in found for file in (report.path, report.predictions)]
    read += [stored.path for stored in references.predictions.values()]
    return Comparison(tuple(rows), pairs, tuple(notes), tuple(read))


def _row(report: Report, name: str, reference: Reference, paired: Pairs | str | None) -> Row:
    row = Row(report.model, name, reference.value, reference.tolerance, None, "missing")
    if name in PAIRED:
        if not isinstance(paired, Pairs):
            return replace(row, note=str(paired))
        return _paired_row(row, reference, paired)
    value = report.metrics.get(name)
    if value is None:
        return replace(row, note="not in the report")
    row = replace(row, value=value, verdict=judge(reference, value))
    if not isinstance(paired, Pairs):
        return row
    return _excused(row, report.shipped, reference, paired)


def _paired_row(row: Row, reference: Reference, found: Pairs) -> Row:
    if row.metric == AGREEMENT:
        images, _, answer = found.words
        note = f"{len(found.changed)} of {found.n} {images} differ in their {answer}"
        return replace(row, value=found.agreement, verdict=judge(reference, found.agreement), note=note)
    verdict = judge(reference, found.points)
    note = found.evidence
    if verdict != "ok" and found.noise:
        verdict = "noise"
    elif verdict == "regression" and found.unproven:
        note += f"; {found.n} {found.words[0]} are too few to call it chance"
    return replace(row, value=found.points, verdict=verdict, note=note)


def _excused(row: Row, shipped: str | None, reference: Reference, found: Pairs) -> Row:
    """An accuracy or drop whose whole difference is the paired one, and that one is noise."""
    if row.verdict not in ("regression", "gain") or row.value is None or not found.noise:
        return row
    signs = {f"{shipped}_accuracy": -1.0, f"{shipped}_drop": 1.0}
    lost = signs.get(row.metric, math.nan) * (row.value - reference.value)
    if abs(lost - found.points) <= _ROUNDED:  # false for NaN: another metric
        note = f"the paired images cannot tell it from chance ({found.evidence})"
        return replace(row, verdict="noise", note=note)
    return row


def _unheld(report: Report, known: Mapping[str, Reference]) -> list[str]:
    """A file that ships and that no reference holds: nothing would tell when it breaks."""
    files = [kind for kind in ("arm", "x86") if f"{kind}_nb_bytes" in report.metrics]
    bare = [kind for kind in files if not any(name.startswith(f"{kind}_") for name in known)]
    return [f"{report.model}: no reference is about its {kind} file, write some" for kind in bare]


def _other_tools(report: Report, known: Mapping[str, str]) -> list[str]:
    other = [
        f"{name} {version} then, {report.tools[name]} now"
        for name, version in known.items()
        if report.tools.get(name, version) != version
    ]
    return [f"{report.model}: other tool versions ({'; '.join(other)})"] if other else []

"""What a comparison reads of a run: its report.json, and the predictions beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slim.artifact import read_json
from slim.contents import PREDICTIONS, REPORT
from slim.errors import InputError
from slim.metrics import MAIN_INDICATORS
from slim.report import RUN_STAGES

# The file whose texts predictions.jsonl holds is the first of these that was scored.
SHIPPED = ("arm", "x86", "program")
# The first format of report.json that says how many rows predictions.jsonl has.
_SAYS_SCORED = 2


@dataclass(frozen=True)
class Report:
    """One report.json.

    Attributes:
        metrics: name -> number; what is no number is left out, and so is missing.
        shipped: "arm", "x86" or "program": whose texts the predictions are; None: nothing was scored.
        tools: package -> version.
        images: "original", "arm", ... -> how many images its accuracy is of.
        kind: "cls", "rec" or "det"; empty where an older report does not say, and no detector then.
        scored: images its predictions are of, 0: none; None: an older report does not say.
        passed: whether the run held its own bounds.
    """

    path: Path
    model: str
    metrics: dict[str, float]
    shipped: str | None
    tools: dict[str, str]
    images: dict[str, int]
    kind: str
    scored: int | None
    passed: bool

    @property
    def predictions(self) -> Path:
        """Where the run left its texts."""
        return self.path.parent / PREDICTIONS


def read_reports(paths: Sequence[Path]) -> list[Report]:
    """Read reports, one a model.

    Raises:
        ArtifactError: a report is not readable. InputError: not a report, or two are about one model.
    """
    seen: dict[str, Report] = {}
    for path in paths:
        report = _read(path)
        if report.model in seen:
            raise InputError(
                f"is about {report.model}, as is {seen[report.model].path}",
                where=path,
                remedy="give one report a model",
            )
        seen[report.model] = report
    return list(seen.values())


def _read(path: Path) -> Report:
    path = path / REPORT if path.is_dir() else path
    if not path.is_file():
        raise InputError("no such report", where=path, remedy="give what slim check or slim run wrote")
    data = read_json(path)
    model, metrics = data.get("model"), data.get("metrics")
    if not isinstance(model, str) or not model or not isinstance(metrics, Mapping):
        raise InputError("is not a report of slim (no model or metrics)", where=path)
    numbers = {str(name): _float(value) for name, value in metrics.items() if _is_number(value)}
    shipped = next((name for name in SHIPPED if f"{name}_accuracy" in numbers), None)
    tools = data.get("tools")
    versions = {str(k): str(v) for k, v in tools.items()} if isinstance(tools, Mapping) else {}
    if not is_unicode(model, *numbers, *versions, *versions.values()):
        raise InputError("half a character is in the name of its model, a metric or a tool", where=path)
    # Only a report that says it failed is one that failed: other tools' reports may not say.
    passed = data.get("passed") is not False
    images = _images(data.get("stages"))
    return Report(path, model, numbers, shipped, versions, images, _kind(data, path), _scored(data), passed)


def _images(stages: Any) -> dict[str, int]:
    rows = stages if isinstance(stages, list) else ()
    named = {str(row.get("stage")): row for row in rows if isinstance(row, Mapping)}
    counts = {name: named.get(stage, {}).get("images") for name, stage in RUN_STAGES.items()}
    return {name: _count(count) for name, count in counts.items() if _count(count)}


def _kind(data: Mapping[str, Any], path: Path) -> str:
    kind = data.get("kind")
    if kind is None:
        return ""
    if kind not in tuple(MAIN_INDICATORS):
        raise InputError(f"kind is {kind!r}, must be one of {', '.join(MAIN_INDICATORS)}", where=path)
    return str(kind)


def _scored(data: Mapping[str, Any]) -> int | None:
    form, said = data.get("format"), data.get("predictions")
    if not isinstance(form, (int, float)) or form < _SAYS_SCORED:
        return None
    return _count(said.get("images")) if isinstance(said, Mapping) else 0


def is_unicode(*texts: str) -> bool:
    r"""Whether all texts can be written as UTF-8; half a character, as JSON's "\ud800", cannot."""
    return not any("\ud800" <= character <= "\udfff" for text in texts for character in text)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _float(value: float) -> float:
    """A whole number of more digits than a float holds is infinite, and so never within a tolerance."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def shown(value: float | None) -> str:
    """A metric for people: whole numbers in full, others to six digits; "-" for None.

    >>> shown(168078.0), shown(1234567.0), shown(94.15), shown(None), shown(float("nan"))
    ('168078', '1234567', '94.15', '-', 'nan')
    """
    if value is None:
        return "-"
    whole = math.isfinite(value) and value == int(value) and abs(value) < 2**53
    return str(int(value)) if whole else f"{value:g}"

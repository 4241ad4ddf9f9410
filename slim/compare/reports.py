"""What a comparison reads of a run: its report.json, and the predictions beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slim.artifact import read_json
from slim.errors import InputError
from slim.report import RUN_STAGES

PREDICTIONS_FILE = "predictions.jsonl"
# The file whose texts predictions.jsonl holds is the first of these that was scored.
SHIPPED = ("arm", "x86", "program")


@dataclass(frozen=True)
class Report:
    """One report.json.

    Attributes:
        metrics: name -> number; what is no number is left out, and so is missing.
        shipped: "arm", "x86" or "program": whose texts the predictions are; None: nothing was scored.
        tools: package -> version.
        images: "original", "arm", ... -> how many images its accuracy is of.
        passed: whether the run held its own bounds.
    """

    path: Path
    model: str
    metrics: dict[str, float]
    shipped: str | None
    tools: dict[str, str]
    images: dict[str, int]
    passed: bool

    @property
    def predictions(self) -> Path:
        """Where the run left its texts."""
        return self.path.parent / PREDICTIONS_FILE


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
    data = read_json(path)
    model, metrics = data.get("model"), data.get("metrics")
    if not isinstance(model, str) or not model or not isinstance(metrics, Mapping):
        raise InputError("is not a report of slim (no model or metrics)", where=path)
    numbers = {str(name): float(value) for name, value in metrics.items() if _is_number(value)}
    shipped = next((name for name in SHIPPED if f"{name}_accuracy" in numbers), None)
    tools = data.get("tools")
    versions = {str(k): str(v) for k, v in tools.items()} if isinstance(tools, Mapping) else {}
    # Only a report that says it failed is one that failed: other tools' reports may not say.
    passed = data.get("passed") is not False
    return Report(path, model, numbers, shipped, versions, _images(data.get("stages")), passed)


def _images(stages: Any) -> dict[str, int]:
    rows = {row.get("stage"): row for row in stages or () if isinstance(row, Mapping)}
    counts = {name: rows.get(stage, {}).get("images") for name, stage in RUN_STAGES.items()}
    return {name: count for name, count in counts.items() if isinstance(count, int) and count > 0}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: float | None) -> str:
    """A metric for people: whole numbers in full, others to six digits; "-" for None.

    >>> shown(168078.0), shown(1234567.0), shown(94.15), shown(None), shown(float("nan"))
    ('168078', '1234567', '94.15', '-', 'nan')
    """
    if value is None:
        return "-"
    whole = math.isfinite(value) and value == int(value) and abs(value) < 2**53
    return str(int(value)) if whole else f"{value:g}"

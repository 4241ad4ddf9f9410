"""Tables from a report: for a terminal, for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slim.report.escaping import markdown_safe

HEADERS = (
    "model",
    "stage",
    "params",
    "FLOPs",
    "inference",
    "arm nb",
    "x86 nb",
    "accuracy",
    "drop",
    "p50 / p90",
)

RUN_STAGES = {"original": "original", "arm": "arm nb", "x86": "x86 nb", "program": "inference"}
"""Prefix of a flat metric -> the row of the stages it is of: what was truly run, in that order."""

LAYER_HEADERS = ("layer", "op", "precision", "SNR dB", "cosine", "max abs", "with all before, dB")
WORST_LAYERS = 15
WORST_IMAGES = 24
"""Changed images listed, and shown in the page with their picture."""
CHANGES = {"lost": "lost", "gained": "gained", "other": "another text, right or wrong as before"}
"""Kind of a changed image -> its words."""
_CHANGES_DET = {"lost": "lost", "gained": "gained", "other": "other regions, as good as before"}


def kilo(count: float | None) -> str:
    """A count in thousands or millions; "-" for None.

    >>> kilo(113_000), kilo(2_600_000), kilo(None)
    ('113.0k', '2.60M', '-')
    """
    if count is None:
        return "-"
    return f"{count / 1e6:.2f}M" if count >= 1e6 else f"{count / 1e3:.1f}k"


def stage_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The stages of one report as cells in the order of HEADERS."""
    return [_cells(str(report["model"]), row) for row in report["stages"]]


def _cells(model: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        model,
        str(row["stage"]),
        kilo(row.get("params")),
        kilo(row.get("flops")),
        _bytes(row.get("inference_bytes")),
        _bytes(row.get("arm_bytes")),
        _bytes(row.get("x86_bytes")),
        _accuracy(row),
        _drop(row.get("drop")),
        _latency(row),
    )


def _latency(row: Mapping[str, Any]) -> str:
    if row.get("latency_ms") is None:
        return "-"
    return f"{row['latency_ms']:.1f} / {row['latency_p90_ms']:.1f} ms"


def _bytes(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _accuracy(row: Mapping[str, Any]) -> str:
    if row.get("accuracy") is None:
        return "-"
    return f"{named(row)}{100 * row['accuracy']:.2f}% of {row['images']:,}"


def named(row: Mapping[str, Any]) -> str:
    """ "hmean " before the value of a row that is no share of right answers, else nothing."""
    return f"{row['metric']} " if "metric" in row else ""


def _drop(drop: Mapping[str, Any] | None) -> str:
    if drop is None:
        return "-"
    return f"{drop['points']:+.2f} [{drop['low']:+.2f}, {drop['high']:+.2f}]"


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces; a column of numbers to the right, any other to the left.

    >>> print(text_table(("a", "b"), [("x", "1")]))
    a  b
    x  1
    """
    columns = list(zip(*[headers, *rows], strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [len(column) > 1 and all(cell[:1] in "-+0123456789" for cell in column[1:]) for column in columns]
    lines = []
    for row in [headers, *rows]:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [headers, ["---"] * len(headers), *rows]]
    return "\n".join(lines)


def report_text(report: Mapping[str, Any]) -> str:
    """Table of the stages, then the checks, then what a reader must know."""
    parts = [text_table(HEADERS, stage_rows(report)), ""]
    parts += [check_line(check) for check in report["checks"]]
    parts += ["", *tensor_lines(report)] if report.get("tensors") else []
    parts += [f"note: {note}" for note in report.get("notes", [])]
    if report.get("layers"):
        parts += ["", _layers_line(report), text_table(LAYER_HEADERS, layer_rows(report))]
    return "\n".join(parts)


def report_markdown(report: Mapping[str, Any]) -> str:
    """The report for a pull request."""
    stages = [(markdown_safe(row[0]), markdown_safe(row[1]), *row[2:]) for row in stage_rows(report)]
    parts = [f"# {markdown_safe(report['model'])}", "", markdown_table(HEADERS, stages), "", "## Checks", ""]
    parts += _list(check_line(check) for check in report["checks"])
    if report.get("tensors"):
        parts += ["", "## Tensors", "", *_list(tensor_lines(report))]
    if report.get("notes"):
        parts += ["", "## Notes", "", *_list(report["notes"])]
    if report.get("differing"):
        parts += ["", "## Changed images", "", *_changed_lines(report)]
    if report.get("layers"):
        layers = [tuple(map(markdown_safe, row)) for row in layer_rows(report)]
        parts += ["", "## Layers", "", markdown_safe(_layers_line(report)), ""]
        parts += [markdown_table(LAYER_HEADERS, layers)]
    return "\n".join(parts) + "\n"


def _list(lines: Iterable[str]) -> list[str]:
    return [f"- {markdown_safe(line)}" for line in lines]


def changed_line(report: Mapping[str, Any]) -> str:
    """How many images have another answer, in all and of each kind, and how many of them are listed.

    >>> changed_line({"changed": {"lost": 2, "gained": 1, "other": 0}, "differing": [{}, {}, {}]})
    '3 changed: 2 lost, 1 gained, 0 another text, right or wrong as before.'
    """
    changed, listed = report["changed"], len(report["differing"])
    total = sum(changed.values())
    parts = ", ".join(f"{changed[kind]:,} {words}" for kind, words in changes(report).items())
    cut = f" The first {listed:,} are listed." if listed < total else ""
    judged = " A page is lost where its own hmean fell." if of_pages(report) else ""
    return f"{total:,} changed: {parts}.{judged}{cut}"


def of_pages(report: Mapping[str, Any]) -> bool:
    """Whether a detector is reported: its images are pages and its answers regions."""
    return report.get("kind") == "det"


def changes(report: Mapping[str, Any]) -> Mapping[str, str]:
    """Kind of a changed image -> its words for this kind of model."""
    return _CHANGES_DET if of_pages(report) else CHANGES


def _changed_lines(report: Mapping[str, Any]) -> list[str]:
    """The first changed images with both texts, labels escaped."""
    rows = report["differing"]
    names = ("kind", "ref", "expected", "original", "shipped")
    cells = [tuple(markdown_safe(str(row[name])) for name in names) for row in rows[:WORST_IMAGES]]
    left = len(rows) - WORST_IMAGES
    more = ["", f"and {left} more in report.json"] if left > 0 else []
    headers = ("change", "image", "expected", "original", "shipped")
    return [changed_line(report), "", markdown_table(headers, cells), *more]


def tensor_lines(report: Mapping[str, Any]) -> list[str]:
    """Per pair of runtimes the worst of its inputs: distance, angle, share of equal decisions."""
    lines = []
    for label, found in report["tensors"].items():
        distances = [row["max_abs"] for row in found]
        cosines = [row["cosine"] for row in found]
        worst = "NaN" if None in distances else f"{max(distances):.3g}"
        angle = "NaN" if None in cosines else f"{min(cosines):.6f}"
        agreement = min(row["argmax_agreement"] for row in found)
        lines.append(
            f"{label}: max abs {worst}, cosine {angle}, argmax agreement {100 * agreement:.2f}% "
            f"(worst of {len(found)} inputs)"
        )
    return lines


def layer_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The worst layers of a report made with ``--per-layer`` as cells in the order of LAYER_HEADERS."""
    return [
        (
            str(row["layer"]),
            str(row["op"]),
            str(row["precision"]),
            f"{row['snr_db']:.1f}",
            "-" if row["cosine"] is None else f"{row['cosine']:.6f}",
            "-" if row["max_abs"] is None else f"{row['max_abs']:.3g}",
            f"{row['arrived_snr_db']:.1f}",
        )
        for row in report["layers"][:WORST_LAYERS]
    ]


def _layers_line(report: Mapping[str, Any]) -> str:
    count = len(report["layers"])
    shown = f"the worst {WORST_LAYERS} of {count} layers" if count > WORST_LAYERS else f"all {count} layers"
    return (
        f"{shown} of model.arm.nb, each given its float input, against {report['layers_reference']}; "
        f"{report['layers_inputs']}"
    )


def check_line(check: Mapping[str, Any]) -> str:
    """One check as JSON data, as a line."""
    value = "NaN" if check["value"] is None else f"{check['value']:g}"
    verdict = "pass" if check["passed"] else "FAIL"
    return f"{verdict}  {check['name']}: {value} {check['relation']} {check['bound']:g} {check['unit']}"

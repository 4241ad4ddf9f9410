"""report.html: one file that needs nothing else, to be read on a desk or a phone, in the light or the dark.

No script and no address outside the file: the page's own policy forbids both, so a label that got through the
escaping could still load and run nothing. Well-formed as XML, which a test holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from slim.report.escaping import html_safe
from slim.report.panels import images_panel, layers_panel, plots_panel
from slim.report.parts import section, table
from slim.report.tables import RUN_STAGES, check_line, kilo, named, tensor_lines

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STAGE_HEADERS = (
    "stage",
    "file",
    "bytes",
    "params",
    "FLOPs",
    "accuracy, 95%",
    "drop, points",
    "p50 / p90, ms",
)
_MARKS = ("correct", "pages")
_NOT_RUN = "prune and quant are nets between two files: scored after their finetuning, not timed."


def report_html(report: Mapping[str, Any], pictures: Mapping[int, str] | None = None) -> str:
    """The page of a report.

    Args:
        report: what report.json holds (docs/REPORT.md).
        pictures: place in the data set -> ``data:image/...;base64,...`` of images among ``differing``.
    """
    title = html_safe(f"{report['model']}: slim report")
    style = resources.files("slim.report").joinpath("page.css").read_text(encoding="utf-8")
    body = [
        _head(report),
        _lineage(report),
        plots_panel(report),
        _checks(report),
        layers_panel(report),
        images_panel(report, pictures or {}),
        _facts(report),
    ]
    content = "\n".join(part for part in body if part)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{title}</title><style>{style}</style></head>\n<body>\n{content}\n</body></html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    verdict = '<span class="good">all checks passed</span>'
    missed = [check for check in report["checks"] if not check["passed"]]
    if missed:
        verdict = f'<span class="bad">{len(missed)} of {len(report["checks"])} checks missed</span>'
    tiles = "".join(
        f'<div class="tile"><span>{a}</span><b>{b}</b><span>{c}</span></div>' for a, b, c in _tiles(report)
    )
    return f'<h1>{html_safe(report["model"])}</h1><p>{verdict}</p><div class="tiles">{tiles}</div>'


def _tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, value, beside it), escaped."""
    rows = {row["stage"]: row for row in report["stages"]}
    original = rows.get("original", {})
    found = []
    for name in ("arm", "x86"):
        row = rows.get(RUN_STAGES[name])
        if row is None:
            continue
        before = original.get(f"{name}_bytes")
        share = f"{100 * row[f'{name}_bytes'] / before:.1f}% of the original's {before:,}" if before else ""
        found.append((f"model.{name}.nb, bytes", f"{row[f'{name}_bytes']:,}", share))
    runs = [rows[stage] for stage in list(RUN_STAGES.values())[1:] if stage in rows]
    shipped = next((row for row in runs if row.get("accuracy") is not None), None)
    if shipped is not None:
        said = f"{shipped['stage']}, {shipped['images']:,} images"
        found.append((shipped.get("metric", "accuracy"), f"{100 * shipped['accuracy']:.2f}%", said))
        if shipped.get("drop"):
            drop = shipped["drop"]
            said = f"points, 95% [{drop['low']:+.2f}, {drop['high']:+.2f}]"
            found.append(("lost against the original", f"{drop['points']:+.2f}", said))
    cut = _cut(rows)
    return [(html_safe(a), html_safe(b), html_safe(c)) for a, b, c in [*found, *cut]]


def _cut(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    before, after = (rows.get(s, {}).get("flops") for s in ("original", "inference"))
    if not before or not after:
        return []
    return [("multiply-adds", kilo(after), f"{100 * (1 - after / before):.1f}% less than {kilo(before)}")]


def _lineage(report: Mapping[str, Any]) -> str:
    rows = [_stage(row) for row in report["stages"]]
    note = f'<p class="soft">{_NOT_RUN} A drop is paired on the same images; a negative one is a gain. '
    note += "Latencies are of one image on one thread.</p>"
    return section("From float to phone", table(_STAGE_HEADERS, rows, kind="stages", stack=True) + note)


def _stage(row: Mapping[str, Any]) -> list[str]:
    """One stage; the original stands with its float ARM file."""
    file, count = "-", None
    float_or = "float " if row["stage"] == "original" else ""
    for key, name in (
        ("arm_bytes", f"{float_or}arm nb"),
        ("x86_bytes", f"{float_or}x86 nb"),
        ("inference_bytes", "program"),
    ):
        if count is None and row.get(key) is not None:
            file, count = name, row[key]
    accuracy = "-"
    if row.get("accuracy") is not None:
        low, high = 100 * row["accuracy_low"], 100 * row["accuracy_high"]
        accuracy = f"{named(row)}{100 * row['accuracy']:.2f}% [{low:.1f}, {high:.1f}] of {row['images']:,}"
    drop = row.get("drop")
    return [
        str(row["stage"]),
        file,
        "-" if count is None else f"{count:,}",
        kilo(row.get("params")),
        kilo(row.get("flops")),
        accuracy,
        "-" if not drop else f"{drop['points']:+.2f} [{drop['low']:+.2f}, {drop['high']:+.2f}]",
        "-" if row.get("latency_ms") is None else f"{row['latency_ms']:.1f} / {row['latency_p90_ms']:.1f}",
    ]


def _checks(report: Mapping[str, Any]) -> str:
    lines = []
    for check in report["checks"]:
        kind = "good" if check["passed"] else "bad"
        verdict, _, rest = check_line(check).partition("  ")
        lines.append(f'<li><span class="{kind}">{html_safe(verdict)}</span> {html_safe(rest)}</li>')
    lines += [f"<li>note: {html_safe(note)}</li>" for note in report.get("notes", [])]
    body = f"<ul>{''.join(lines)}</ul>"
    if report.get("tensors"):
        rows = "".join(f"<li>{html_safe(line)}</li>" for line in tensor_lines(report))
        body += f"<details><summary>Same tensors through both runtimes</summary><ul>{rows}</ul></details>"
    return section("Checks", body)


def _facts(report: Mapping[str, Any]) -> str:
    machine = [(name, str(value)) for name, value in report.get("machine", {}).items()]
    tools = [(name, str(version)) for name, version in report["tools"].items()]
    data = [(f"data {name}", str(value)) for name, value in report.get("data", {}).items()]
    rows = [*tools, *machine, *data, ("seed", str(report["seed"])), ("report format", str(report["format"]))]
    body = table(("what", "value"), rows, kind="left")
    body += _json("Recipe", report["recipe"])
    if report.get("steps"):
        # The marks of single lines and pages are for pairing drops; nobody reads two thousand of them.
        steps = [{k: v for k, v in step.items() if k not in _MARKS} for step in report["steps"]]
        body += _json("Steps, with the hashes of their weights", steps)
    return section("Environment and recipe", body)


def _json(title: str, data: Mapping[str, Any] | Sequence[Any]) -> str:
    text = json.dumps(data, indent=1, ensure_ascii=False, default=str)
    lines = "\n".join(html_safe(line) for line in text.split("\n"))
    return f"<details><summary>{html_safe(title)}</summary><pre>{lines}</pre></details>"

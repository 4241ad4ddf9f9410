"""The page's pictures: plots, layers as bars, the worst images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slim.report import charts
from slim.report.escaping import html_safe
from slim.report.parts import section, table
from slim.report.tables import WORST_IMAGES, WORST_LAYERS, changed_line, changes, of_pages

MARKED = 5

_FULL_DB = 60.0
_BYTES = {
    "original": "arm_bytes",
    "arm nb": "arm_bytes",
    "x86 nb": "x86_bytes",
    "inference": "inference_bytes",
}
_NAMES = {"original": "float arm nb", "inference": "inference program"}
_CLASSES = {"lost": "bad", "gained": "good", "other": "soft"}
_OUTLINES = " Regions of the original are outlined in blue, those of the shipped file in orange, inside."
_PRECISIONS = ("int8", "float", "float, int8 weights")


def plots_panel(report: Mapping[str, Any]) -> str:
    """Size against accuracy, and sensitivity curves where they were measured; empty without both."""
    figures = []
    spots = _spots(report["stages"])
    if len(spots) > 1:
        figures.append(_sizes(spots, "bootstrap over pages" if of_pages(report) else "Wilson"))
    if report.get("sensitivity"):
        figures.append(_sensitivity(report["sensitivity"]))
    return section("Plots", f'<div class="plots">{"".join(figures)}</div>') if figures else ""


def _spots(stages: Sequence[Mapping[str, Any]]) -> list[charts.Spot]:
    found = []
    for row in stages:
        stage = str(row["stage"])
        count = row.get(_BYTES.get(stage, ""))
        if count is None or row.get("accuracy") is None:
            continue
        share = [100 * row[key] for key in ("accuracy", "accuracy_low", "accuracy_high")]
        found.append(charts.Spot(_NAMES.get(stage, stage), count / 1e3, *share))
    return found


def _sizes(spots: Sequence[charts.Spot], interval: str) -> str:
    lines = []
    for i, spot in enumerate(spots):
        name = html_safe(f"{i + 1} {spot.label}: {spot.x:,.1f} KB, {spot.y:.2f}%")
        lines.append(f'<li class="c{i % 5}"><span>{name}</span></li>')
    words = f"Bytes of each file against its accuracy; bars are 95% intervals ({interval})."
    caption = f'<figcaption>{words}<ul class="key">{"".join(lines)}</ul></figcaption>'
    return f"<figure>{charts.size_accuracy(spots)}{caption}</figure>"


def _sensitivity(measured: Mapping[str, Any]) -> str:
    groups = {
        name: [(100 * point["removed"], 100 * point["loss"]) for point in points]
        for name, points in measured["groups"].items()
    }
    worst = sorted(groups, key=lambda name: -max((loss for _, loss in groups[name]), default=0.0))[:MARKED]
    key = "".join(f'<li class="c{i}"><span>{html_safe(name)}</span></li>' for i, name in enumerate(worst))
    words = (
        f"Sensitivity of {len(groups)} groups of channels, each cut alone and not finetuned; the metric was "
        f"{measured['baseline']:.1f}% before. The most sensitive in colour:"
    )
    rows = [(name, ", ".join(f"{x:.0f}%: {y:+.1f}%" for x, y in points)) for name, points in groups.items()]
    every = table(("group", "removed: lost"), rows, kind="left")
    details = f"<details><summary>All groups</summary>{every}</details>"
    caption = f'<figcaption>{html_safe(words)}<ul class="key">{key}</ul>{details}</figcaption>'
    return f"<figure>{charts.curves(groups, worst)}{caption}</figure>"


def layers_panel(report: Mapping[str, Any]) -> str:
    """Per-layer loss as bars, the worst first; empty where it was not measured."""
    layers = report.get("layers")
    if not layers:
        return ""
    words = (
        f"Signal to noise of each layer of model.arm.nb against {report['layers_reference']}; "
        f"{report['layers_inputs']}. Short bars lose most; a full bar is {_FULL_DB:.0f} dB."
    )
    head = "".join(f"<th>{name}</th>" for name in ("layer", "kind", "own, dB", "", "arrived, dB"))
    shown = "".join(_layer(row) for row in layers[:WORST_LAYERS])
    rest = "".join(_layer(row) for row in layers[WORST_LAYERS:])
    body = f'<p class="soft">{html_safe(words)}</p>{_layer_table(head, shown)}'
    if rest:
        title = f"The other {len(layers) - WORST_LAYERS} layers"
        body += f"<details><summary>{title}</summary>{_layer_table(head, rest)}</details>"
    return section("Loss by layer", body)


def _layer_table(head: str, rows: str) -> str:
    return f'<table class="left stack num"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _layer(row: Mapping[str, Any]) -> str:
    share = max(0.0, min(1.0, row["snr_db"] / _FULL_DB))
    colour = _PRECISIONS.index(row["precision"]) if row["precision"] in _PRECISIONS else 3
    return (
        f'<tr><td data-name="layer">{html_safe(row["layer"])}</td>'
        f'<td data-name="kind">{html_safe(row["op"])}, {html_safe(row["precision"])}</td>'
        f'<td data-name="own, dB">{row["snr_db"]:.1f}</td>'
        f'<td class="wide bars"><div class="bar c{colour}" style="width:{100 * share:.1f}%"></div></td>'
        f'<td data-name="arrived, dB">{row["arrived_snr_db"]:.1f}</td></tr>'
    )


def images_panel(report: Mapping[str, Any], pictures: Mapping[int, str]) -> str:
    """Images whose text or regions changed, lost ones first, with both answers."""
    rows = report.get("differing", [])
    if not rows:
        what = "No page has other regions than" if of_pages(report) else "No text differs from"
        same = f"<p>{what} the original's.</p>"
        return section("Changed images", same) if _scored(report) else ""
    cards = "".join(_card(report, row, pictures.get(row["index"])) for row in rows[:WORST_IMAGES])
    words = changed_line(report) + (_OUTLINES if of_pages(report) else "")
    kind = "images pages" if of_pages(report) else "images"
    body = f'<p class="soft">{html_safe(words)}</p><div class="{kind}">{cards}</div>'
    rest = rows[WORST_IMAGES:]
    if rest:
        cells = [(r["kind"], r["ref"], r["expected"], r["original"], r["shipped"]) for r in rest]
        headers = ("change", "image", "expected", "original", "shipped")
        title = f"{len(rest)} more"
        inner = table(headers, cells, kind="left", stack=True)
        body += f"<details><summary>{title}</summary>{inner}</details>"
    return section("Changed images", body)


def _scored(report: Mapping[str, Any]) -> bool:
    return any(row.get("drop") for row in report["stages"])


def _card(report: Mapping[str, Any], row: Mapping[str, Any], picture: str | None) -> str:
    image = f'<img src="{html_safe(picture)}" alt="{html_safe(row["ref"])}"/>' if picture else ""
    texts = "".join(
        f"<dt>{name}</dt><dd>{html_safe(row[name])}</dd>" for name in ("expected", "original", "shipped")
    )
    kind = f'<span class="{_CLASSES[row["kind"]]}">{changes(report)[row["kind"]]}</span>'
    label = f'{kind} <span class="soft">{html_safe(row["ref"])}</span>'
    return f'<div class="image">{image}<div>{label}</div><dl>{texts}</dl></div>'

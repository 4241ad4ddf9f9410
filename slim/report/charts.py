"""Small charts as inline SVG: no library in the page, colours from its style sheet, text that stays text.

matplotlib's SVG draws letters as paths and fixes its colours, so it can follow neither a dark page nor a
reader's font, and weighs ten times as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slim.report.escaping import html_safe

# Units of the drawing; a phone shows them 0.85 : 1, so that text of 12 stays readable.
WIDTH, HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 40
_LABEL_GAP = 15


@dataclass(frozen=True)
class Spot:
    """A point with a vertical interval: ``low`` .. ``high`` around ``y``."""

    label: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """A scale from values to units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Place of a value, rounded to a tenth of a unit."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round values inside the scale, four to eight of them.

        >>> Axis(0, 550, 0, 1).ticks()
        [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]
        """
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step = next(step * k for k in (1, 2, 5, 10) if (self.high - self.low) / (step * k) <= 8)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def size_accuracy(spots: Sequence[Spot]) -> str:
    """Kilobytes against accuracy in percent, with intervals; spots are numbered in their order from 1."""
    low = min(spot.low for spot in spots)
    high = max(spot.high for spot in spots)
    pad = max(0.5, 0.08 * (high - low))
    x = Axis(0.0, 1.15 * max(spot.x for spot in spots), _LEFT, WIDTH - _RIGHT)
    y = Axis(max(0.0, low - pad), min(100.0, high + pad), HEIGHT - _BOTTOM, _TOP)
    parts = _frame(x, y, "file, KB (1000 bytes)", "accuracy, %")
    taken: list[tuple[float, float]] = []
    labels = []
    for number, spot in enumerate(spots):
        parts.append(_spot(spot, x, y, number))
        labels.append(_number(spot, x, y, number, taken))
    # Numbers last, on a ground of their own: a whisker must not cross one.
    return _svg([*parts, *labels], "Size of each file against its accuracy, with 95% intervals")


def _spot(spot: Spot, x: Axis, y: Axis, number: int) -> str:
    at = x.at(spot.x)
    tip = f"{spot.label}: {spot.x:,.1f} KB, {spot.y:.2f}% [{spot.low:.2f}, {spot.high:.2f}]"
    return (
        f'<g class="c{number % 5}"><title>{html_safe(tip)}</title>'
        f'<line class="whisker" x1="{at}" x2="{at}" y1="{y.at(spot.low)}" y2="{y.at(spot.high)}"/>'
        f'<circle class="dot" cx="{at}" cy="{y.at(spot.y)}" r="5"/></g>'
    )


def _number(spot: Spot, x: Axis, y: Axis, number: int, taken: list[tuple[float, float]]) -> str:
    """The spot's number beside it, below one that is there already; names would cover their neighbours."""
    at, height = x.at(spot.x) + 8, y.at(spot.y) - 6
    while any(abs(at - a) < _LABEL_GAP and abs(height - b) < _LABEL_GAP for a, b in taken):
        height += _LABEL_GAP
    taken.append((at, height))
    return f'<text class="label" x="{at:.1f}" y="{height:.1f}">{number + 1}</text>'


def curves(groups: Mapping[str, Sequence[tuple[float, float]]], marked: Sequence[str]) -> str:
    """Channels removed against the metric lost, both in percent: marked groups in colour, others grey."""
    points = [point for line in groups.values() for point in line]
    right = max([1.0, *[p[0] for p in points]])
    x = Axis(0.0, 1.02 * right, _LEFT, WIDTH - _RIGHT)
    bottom, top = min([0.0, *[p[1] for p in points]]), max([1.0, *[p[1] for p in points]])
    y = Axis(bottom, 1.05 * top, HEIGHT - _BOTTOM, _TOP)
    parts = _frame(x, y, "channels removed, %", "metric lost, % of it")
    for name in [*[name for name in groups if name not in marked], *marked]:
        path = " ".join(f"{x.at(a)},{y.at(b)}" for a, b in [(0.0, 0.0), *groups[name]])
        kind = f"line c{marked.index(name) % 5}" if name in marked else "line rest"
        parts.append(f'<g class="{kind}"><title>{html_safe(name)}</title><polyline points="{path}"/></g>')
    return _svg(parts, "What the metric loses when channels of one group go")


def _frame(x: Axis, y: Axis, below: str, beside: str) -> list[str]:
    parts = []
    for value in x.ticks():
        at = x.at(value)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{y.start}" y2="{y.end}"/>')
        parts.append(f'<text x="{at}" y="{y.start + 15}" text-anchor="middle">{value:,g}</text>')
    for value in y.ticks():
        at = y.at(value)
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{x.start - 6}" y="{at + 4}" text-anchor="end">{value:,g}</text>')
    parts.append(f'<text x="{x.end}" y="{HEIGHT - 6}" text-anchor="end">{html_safe(below)}</text>')
    parts.append(f'<text x="{x.start + 4}" y="{y.end + 10}">{html_safe(beside)}</text>')
    return parts


def _svg(parts: Sequence[str], title: str) -> str:
    name = html_safe(title)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">{"".join(parts)}</svg>'

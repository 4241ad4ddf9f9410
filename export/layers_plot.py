"""A picture of a per-layer comparison: the layers from input to output, how much each of them loses."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slim.artifact import write_bytes

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = {"int8": "#0072B2", "float": "#E69F00", "float, int8 weights": "#009E73"}
_OTHER, _ARRIVED, _WORST = "#999999", "#444444", "#D55E00"
_MARKED = 5
_SHOWN_DB = 60.0
_NAME = 48
_LINE = 110


def draw_layers(layers: Sequence[Mapping[str, Any]], path: Path, *, title: str, reference: str) -> None:
    """Write a PNG: one row a layer in the order they run, its own SNR as a bar, what arrived as a line.

    Args:
        layers: rows of `export.layers.LayerLoss.to_json`, in any order.
        reference: what was compared with, in words.
    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(layers, key=lambda row: row["index"])
    figure = Figure(figsize=(10.0, 1.9 + 0.19 * len(rows)), dpi=110)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _bars(axes, rows)
    words = textwrap.wrap(f"against {reference}", _LINE)
    axes.set_title("\n".join([f"{title}: signal to noise of each layer", *words]), fontsize=9, loc="left")
    figure.tight_layout()
    data = io.BytesIO()
    canvas.print_png(data)
    write_bytes(path, data.getvalue())


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    at = range(len(rows))
    own = [row["snr_db"] for row in rows]
    # A float layer is 140 dB from its original and a broken one -200: the axis ends where nothing is lost.
    right = max(_SHOWN_DB, min(160.0, max(own, default=0.0) + 5.0))
    left = max(
        -20.0, min(0.0, *[row["snr_db"] for row in rows], *[row["arrived_snr_db"] for row in rows]) - 2
    )
    worst = sorted(at, key=lambda i: own[i])[:_MARKED]
    for precision in dict.fromkeys(row["precision"] for row in rows):
        chosen = [i for i in at if rows[i]["precision"] == precision]
        axes.barh(
            chosen,
            [max(left, min(right, own[i])) for i in chosen],
            color=_COLOURS.get(precision, _OTHER),
            height=0.7,
            label=f"own loss, {precision}",
        )
    arrived = [max(left, min(right, row["arrived_snr_db"])) for row in rows]
    axes.plot(
        arrived, at, color=_ARRIVED, marker=".", markersize=4, linewidth=0.8, label="with all before it"
    )
    axes.set_yticks(at, [_short(row["layer"]) for row in rows], fontsize=7)
    for rank, i in enumerate(worst, 1):
        axes.get_yticklabels()[i].set_color(_WORST)
        axes.annotate(
            f"{rank}: {own[i]:.1f} dB",
            (max(0.0, min(right, own[i])), i),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=_WORST,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
    axes.set_xlim(left, right)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("dB (more is better; the worst are numbered)", fontsize=8)
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.6 / (0.19 * len(rows) + 1)), ncols=4)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else "..." + name[3 - _NAME :]

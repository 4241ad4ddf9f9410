"""A picture of the per-layer analysis: what each layer costs in int8, and which ones fell back to float."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from quant.analysis import LayerEffect
from slim.artifact import write_bytes

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_INT8, _FLOAT, _ALONE = "#0072B2", "#E69F00", "#999999"
_NAME = 48


def draw_analysis(effects: Sequence[LayerEffect], floats: Collection[str], path: Path, *, title: str) -> None:
    """Write a PNG: a row a layer in the net's order, its distance among the others as a bar, alone as a dot.

    Args:
        effects: of all quantized layers.
        floats: those that the search keeps float.
    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 1.9 + 0.19 * len(effects)), dpi=110)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _rows(axes, effects, frozenset(floats))
    axes.set_title(title, fontsize=9, loc="left")
    figure.tight_layout()
    data = io.BytesIO()
    canvas.print_png(data)
    write_bytes(path, data.getvalue())


def _rows(axes: Any, effects: Sequence[LayerEffect], floats: frozenset[str]) -> None:
    at = range(len(effects))
    positive = [v for e in effects for v in (e.off_moved, e.on_moved) if v > 0]
    # Where int8 takes nothing away (or one rounding happens to undo another) there is no bar on a log axis.
    left = min(positive, default=1e-9) / 2
    for kind, colour in ((False, _INT8), (True, _FLOAT)):
        chosen = [i for i in at if (effects[i].path in floats) == kind]
        label = "kept float by the search" if kind else "int8"
        widths = [max(effects[i].off_moved, left) - left for i in chosen]
        axes.barh(chosen, widths, left=left, color=colour, height=0.7, label=f"distance it makes, {label}")
    axes.plot(
        [max(e.on_moved, left) for e in effects], at, ".", color=_ALONE, markersize=6, label="alone in int8"
    )
    axes.set_xscale("log")
    axes.set_yticks(at, [_label(e) for e in effects], fontsize=7)
    axes.set_ylim(len(effects) - 0.4, -0.6)
    axes.set_xlabel("mean squared distance of the outputs to the float original's", fontsize=8)
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.legend(
        fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.6 / (0.19 * len(effects) + 1)), ncols=3
    )


def _label(effect: LayerEffect) -> str:
    name = effect.path if len(effect.path) <= _NAME else "..." + effect.path[3 - _NAME :]
    return f"{name}  {effect.off_gain:+.2f}" if effect.off_gain else name

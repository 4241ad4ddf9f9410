"""A picture of sensitivity curves: one small panel for each group, the most sensitive first."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from prune.groups import Group
from prune.sensitivity import COLLAPSED, Point, Sensitivity
from slim.errors import InputError, ToolMissing

_COLUMNS = 5
_BLUE, _RED, _GREY = "#1f5fa8", "#b8312f", "#8a8a8a"


def require_drawable(path: Path) -> None:
    """Refuse a picture that `plot_curves` could not write, before hours of work go into its curves.

    Leaves no trace, but for folders above ``path`` that did not exist.

    Raises:
        InputError: an ending matplotlib does not write, or no place for a file.
        ToolMissing: matplotlib is not installed.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError("has an ending that cannot be drawn", where=path, remedy="use .png, .svg or .pdf")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ToolMissing(
            f"matplotlib cannot be imported ({error})", remedy="pip install matplotlib"
        ) from error
    if path.is_dir():
        raise InputError("is a folder", where=path, remedy="name a file")
    _aside(path, lambda aside: aside.touch())


def plot_curves(curves: Sensitivity, groups: Sequence[Group], path: Path) -> None:
    """Write ``path`` (.png, .svg or .pdf by its ending), aside first.

    Each panel shows the relative loss in percent of the baseline over the share of channels removed, with
    its 95% interval where the lines were counted; the grey line is where a curve ends (collapsed).

    Raises:
        InputError: nothing measured. As `require_drawable`.
    """
    sizes = {g.name: g.size for g in groups}
    shown = {n: points for n, points in curves.curves.items() if points and n in sizes}
    if not shown:
        raise InputError("there are no curves to draw", where=path)
    require_drawable(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = sorted(shown, key=lambda name: -_steepness(shown[name], sizes[name]))
    rows = -(-len(order) // _COLUMNS)
    figure = Figure(figsize=(3.0 * min(_COLUMNS, len(order)), 1.9 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, min(_COLUMNS, len(order)), sharex=True, sharey=True, squeeze=False)
    for panel, name in zip(grid.flat, order, strict=False):
        _draw(panel, name, shown[name], sizes[name])
    _label_the_lowest(grid, len(order))
    figure.suptitle(
        f"Sensitivity of {len(order)} groups, most sensitive first (baseline {curves.baseline:.1f}%)\n"
        "band: 95% interval; red: lost more than the dotted line, where a curve ends; (n): channels",
        fontsize=9,
    )
    figure.supxlabel("channels removed, %", fontsize=9)
    figure.supylabel("relative loss, % of the baseline", fontsize=9)
    _write(figure, path)


def _draw(panel, name: str, points: Sequence[Point], size: int) -> None:  # type: ignore[no-untyped-def]
    x = [0.0] + [100.0 * (1 - p.kept / size) for p in points]
    y = [0.0] + [100.0 * p.loss for p in points]
    colour = _RED if points[-1].loss > COLLAPSED else _BLUE
    if all(p.low is not None and p.high is not None for p in points):
        low = [0.0] + [100.0 * (p.low or 0.0) for p in points]
        high = [0.0] + [100.0 * (p.high or 0.0) for p in points]
        panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.axhline(100.0 * COLLAPSED, color=_GREY, linewidth=0.7, linestyle=":")
    panel.axhline(0.0, color=_GREY, linewidth=0.5)
    panel.plot(x, y, color=colour, marker="o", markersize=2.5, linewidth=1.2)
    panel.set_title(f"{_short(name)} ({size})", fontsize=7)
    panel.tick_params(labelsize=7)
    panel.set_xlim(0, 100)
    panel.set_ylim(-15, 105)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _label_the_lowest(grid, shown: int) -> None:  # type: ignore[no-untyped-def]
    """Hide the panels behind the last; a column that is one shorter gets its numbers all the same."""
    rows, columns = grid.shape
    for number in range(shown, rows * columns):
        grid.flat[number].set_visible(False)
        if number >= columns:
            grid.flat[number - columns].tick_params(labelbottom=True)


def _short(name: str, longest: int = 36) -> str:
    """The end of a path says more than its beginning.

    >>> _short("backbone.blocks.10.linear_conv.conv", 20)
    '..0.linear_conv.conv'
    """
    return name if len(name) <= longest else f"..{name[2 - longest :]}"


def _steepness(points: Sequence[Point], size: int) -> float:
    """Loss for a share of channels removed, at the worst point."""
    return max(p.loss / (1 - p.kept / size) for p in points)


def _write(figure, path: Path) -> None:  # type: ignore[no-untyped-def]
    def draw(aside: Path) -> None:
        figure.savefig(aside, format=path.suffix[1:], dpi=130)
        os.replace(aside, path)

    _aside(path, draw)


def _aside(path: Path, write: Callable[[Path], None]) -> None:
    """``write`` a file beside ``path``, which is gone afterwards."""
    aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(aside)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write ({error.strerror or error})", where=path) from error

"""A picture of the graph of an ``.nb`` file as SVG: one box per operator, its precision by colour."""

from __future__ import annotations

from html import escape

from export.nb.model import NbModel, Op

COLOURS = {"int8": "#7fc97f", "float": "#fdc086", "any": "#e0e0e0", "calib": "#beaed4"}
_WIDTH, _HEIGHT, _GAP, _LANE = 260, 26, 14, 14
_TEXT = 'font-family="sans-serif" font-size="11"'


def draw_svg(model: NbModel) -> str:
    """The operators from top to bottom in the order they run; lines join a tensor's writer with its readers.

    int8 kernels are green, float kernels orange, conversions between both purple, the rest grey. The text of
    a box is op type, alias of the kernel and shape of its weights.

    Returns:
        An SVG document.
    """
    ops = model.ops
    edges = _edges(ops)
    lanes = _lanes(edges)
    left = 20 + _LANE * (max(lanes, default=0) + 2)
    top = 40
    height = top + len(ops) * (_HEIGHT + _GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + _WIDTH + 20}" height="{height}">',
        '<rect width="100%" height="100%" fill="white"/>',
        *_legend(left),
    ]
    for (source, target), lane in zip(edges, lanes, strict=True):
        parts.append(_line(source, target, lane, left, top))
    for index, op in enumerate(ops):
        parts += _box(op, model, left, top + index * (_HEIGHT + _GAP))
    return "\n".join([*parts, "</svg>", ""])


def _edges(ops: list[Op]) -> list[tuple[int, int]]:
    """Pairs (writer, reader); names are reused, so that the latest writer counts.

    Second outputs such as XShape share names with live tensors and are not followed.
    """
    writer: dict[str, int] = {}
    found: dict[tuple[int, int], None] = {}
    for index, op in enumerate(ops):
        for names in op.inputs.values():
            for name in names:
                if name in writer:
                    found[writer[name], index] = None
        for slot, names in op.outputs.items():
            if slot in ("Out", "Output", "Y"):
                writer.update(dict.fromkeys(names, index))
    return list(found)


def _lanes(edges: list[tuple[int, int]]) -> list[int]:
    """A column for each line, left of the boxes: 0 for neighbours, else the first that is free on its way."""
    busy: list[int] = []
    lanes = []
    for source, target in edges:
        if target == source + 1:
            lanes.append(0)
            continue
        free = next((i for i, until in enumerate(busy) if until <= source), len(busy))
        busy[free : free + 1] = [target]
        lanes.append(free + 1)
    return lanes


def _line(source: int, target: int, lane: int, left: int, top: int) -> str:
    step = _HEIGHT + _GAP
    start, end = top + source * step + _HEIGHT, top + target * step
    if lane == 0:
        x = left + _WIDTH // 2
        return f'<line x1="{x}" y1="{start}" x2="{x}" y2="{end}" stroke="#555"/>'
    x = left - _LANE * lane
    y1, y2 = start - _HEIGHT // 2, end + _HEIGHT // 2
    return f'<path d="M{left} {y1}H{x}V{y2}H{left}" fill="none" stroke="#999"/>'


def _box(op: Op, model: NbModel, x: int, y: int) -> list[str]:
    shapes = [model.params[n].shape for names in op.inputs.values() for n in names if n in model.params]
    largest = max(shapes, key=len, default=())
    alias = op.kernel.alias if op.kernel is not None else ""
    label = " ".join([op.type, "" if alias == "def" else alias, "x".join(map(str, largest))])
    return [
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="{_colour(op)}" '
        'stroke="#555"/>',
        f'<text x="{x + 8}" y="{y + 17}" {_TEXT}>{escape(" ".join(label.split()))}</text>',
    ]


def _colour(op: Op) -> str:
    if op.type.startswith("calib"):
        return COLOURS["calib"]
    precision = op.kernel.precision if op.kernel is not None else "any"
    return COLOURS.get(precision, COLOURS["any"])


def _legend(left: int) -> list[str]:
    parts = []
    for index, (name, colour) in enumerate(COLOURS.items()):
        x = left + index * 65
        parts.append(f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}" stroke="#555"/>')
        parts.append(f'<text x="{x + 16}" y="20" {_TEXT}>{name}</text>')
    return parts

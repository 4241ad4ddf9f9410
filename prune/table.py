"""A cut layer by layer: channels, parameters and multiply-adds before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paddle import nn

from slim.arch.cost import count
from slim.report.tables import kilo, text_table


def by_layer(before: nn.Layer, after: nn.Layer, input_shape: Sequence[int]) -> list[dict[str, Any]]:
    """One row a layer that computes, in the order they run.

    Args:
        input_shape: C, H, W of one input.
    Returns:
        ``layer``, and of ``in`` and ``out`` (channels; an LSTM's ``out`` is its hidden units), ``params``,
        ``flops`` (multiply-adds of one input) a pair [before, after].

    >>> nets = [nn.Sequential(nn.Conv2D(3, n, 1), nn.ReLU(), nn.Conv2D(n, 2, 1)) for n in (8, 4)]
    >>> by_layer(*nets, (3, 2, 2))[0]
    {'layer': '0', 'in': [3, 3], 'out': [8, 4], 'params': [32, 16], 'flops': [96, 48]}
    """
    costs = [count(net, input_shape).by_layer for net in (before, after)]
    layers = [dict(net.named_sublayers()) for net in (before, after)]
    rows = []
    for path in costs[0]:
        ins, outs = zip(*(_channels(found[path]) for found in layers), strict=True)
        both = [cost[path] for cost in costs]
        params, flops = [c.params for c in both], [c.flops for c in both]
        rows.append({"layer": path, "in": list(ins), "out": list(outs), "params": params, "flops": flops})
    return rows


def layers_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The layers that changed, and all of them in one last line."""
    changed = [row for row in rows if any(row[key][0] != row[key][1] for key in ("in", "out"))]
    cells = [
        (row["layer"], *(_pair(row[key], str) for key in ("in", "out")), *_costs(row)) for row in changed
    ]
    total = {key: [sum(row[key][i] for row in rows) for i in (0, 1)] for key in ("params", "flops")}
    headers = ("layer", "in", "out", "params", "FLOPs", "FLOPs cut")
    return text_table(headers, [*cells, (f"all {len(rows)} layers", "", "", *_costs(total))])


def _costs(row: Mapping[str, Any]) -> tuple[str, str, str]:
    before, after = row["flops"]
    return _pair(row["params"], kilo), _pair(row["flops"], kilo), f"{1 - after / before:.1%}"


def _pair(values: Sequence[int], show: Any) -> str:
    first, second = (show(value) for value in values)
    return first if first == second else f"{first} -> {second}"


def _channels(layer: nn.Layer) -> tuple[int, int]:
    if isinstance(layer, nn.LSTM):
        return layer.input_size, layer.hidden_size
    if isinstance(layer, nn.Linear):
        rows, columns = layer.weight.shape
        return rows, columns
    return layer._in_channels, layer._out_channels

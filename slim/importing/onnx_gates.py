"""Hardswish as older ONNX exporters write it: in pieces."""

from __future__ import annotations

import math

from slim.importing.graph import Node

HARDSWISH = {"threshold": 6.0, "scale": 6.0, "offset": 3.0}


def join_hardswish(nodes: list[Node]) -> None:
    """Make one hardswish of x * hardsigmoid(x), and of x * clip(x + 3, 0, 6) / 6, in place."""
    for node in nodes:
        x = None
        if node.kind == "mul":
            x = _gated(nodes, node, 1.0)
        elif node.kind == "mul of a constant" and math.isclose(node.attrs.get("by", 0), 1 / 6, rel_tol=1e-5):
            x = _gated(nodes, nodes[node.inputs[0]], 6.0)
        if x is not None:
            node.kind, node.inputs, node.attrs = "hardswish", [x], dict(HARDSWISH)


def _gated(nodes: list[Node], product: Node, high: float) -> int | None:
    """The x of ``x * gate(x)`` whose gate rises from 0 to ``high``; None for any other product."""
    if product.kind != "mul":
        return None
    for x, gate in (product.inputs, product.inputs[::-1]):
        if _is_gate(nodes, nodes[gate], x, high):
            return x
    return None


def _is_gate(nodes: list[Node], gate: Node, x: int, high: float) -> bool:
    if gate.kind == "mul of a constant" and high == 1.0:
        sixth = math.isclose(gate.attrs.get("by", 0), 1 / 6, rel_tol=1e-5)
        return sixth and _is_gate(nodes, nodes[gate.inputs[0]], x, 6.0)
    if gate.kind == "hardsigmoid" and high == 1.0:
        slope, offset = gate.attrs["slope"], gate.attrs["offset"]
        return gate.inputs == [x] and math.isclose(slope, 1 / 6, rel_tol=1e-4) and offset == 0.5
    if gate.kind == "clip" and high == 6.0 and (gate.attrs["low"], gate.attrs["high"]) == (0.0, 6.0):
        plus = nodes[gate.inputs[0]]
        return plus.kind == "add of a constant" and plus.attrs.get("by") == 3.0 and plus.inputs == [x]
    return False

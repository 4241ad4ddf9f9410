"""Two graphs side by side, from the input on: which layer of the source is which of ours."""

from __future__ import annotations

from slim.errors import UnsupportedModel
from slim.importing.graph import COMMUTATIVE, WEIGHTED, Graph, Node

Pairs = list[tuple[Node, Node]]


def match(ours: Graph, source: Graph) -> Pairs:
    """Pair every layer of our net with the one of the source that computes the same from the same.

    Going forward, a layer is known by its kind, attributes, weight shape and what it reads. Where several
    fit, they are taken in the order in which both graphs compute them; running the result settles it.

    Raises:
        UnsupportedModel: the first layer of ours that has no counterpart, and what the source has there.
    """
    partner = {0: 0}
    for number, node in enumerate(ours.nodes[1:], 1):
        reads = _reads(node, [partner[i] for i in node.inputs])
        free = [
            (k, other)
            for k, other in enumerate(source.nodes)
            if k not in partner.values() and k > 0 and _reads(other, other.inputs) == reads
        ]
        found = next((k for k, other in free if difference(node, other) is None), None)
        if found is None:
            raise _first_difference(ours, node, source, [other for _, other in free])
        partner[number] = found
    if partner[ours.result] != source.result:
        after = [n for n in source.nodes if partner[ours.result] in n.inputs]
        goes_on = after[0].describe() if after else "another layer"
        raise UnsupportedModel(
            f"is another net: behind our last layer, a {ours.nodes[ours.result].kind}, it has {goes_on}",
            where=source.where,
            remedy=_REMEDY,
        )
    return [(ours.nodes[a], source.nodes[b]) for a, b in partner.items() if a > 0]


_REMEDY = "give the config of this model (--config)"


def _reads(node: Node, inputs: list[int]) -> list[int]:
    return sorted(inputs) if node.kind in COMMUTATIVE else inputs


def difference(node: Node, other: Node) -> str | None:
    """Why two layers that read the same cannot be the same; None when they can.

    A BatchNorm of ours may be folded into the weight and bias of the source's layer.
    """
    if node.kind != other.kind:
        return f"is {other.describe()}, the net's {node.describe()}"
    if node.weight_shape != other.weight_shape:
        return f"its weight is {list(other.weight_shape)}, the net's {list(node.weight_shape)}"
    for key in node.attrs:
        folded = key == "epsilon" and not other.has_norm
        if not folded and node.attrs[key] != other.attrs.get(key):
            return f"{key} is {other.attrs.get(key)}, the net's {node.attrs[key]}"
    if other.has_norm and not node.has_norm:
        return "has a BatchNorm, the net's none"
    if "bias" in other.tensors and "bias" not in node.tensors and (other.has_norm or not node.has_norm):
        return "has a bias, the net's none"
    if (
        node.kind in WEIGHTED
        and "bias" in node.tensors
        and "bias" not in other.tensors
        and not other.has_norm
    ):
        return "has no bias, the net's has one"
    return None


def _first_difference(ours: Graph, node: Node, source: Graph, free: list[Node]) -> UnsupportedModel:
    alike = sorted(free, key=lambda other: other.kind != node.kind)
    if alike:
        text = f"{alike[0].name()} {difference(node, alike[0])}"
    else:
        text = f"nothing here reads what the net's {node.describe()} reads"
    return UnsupportedModel(
        f"is another net, first at {_place(ours, node)}: {text}", where=source.where, remedy=_REMEDY
    )


def _place(ours: Graph, node: Node) -> str:
    """A layer with weights by its path; any other by the path behind which it stands."""
    if node.weight_shape:
        return _path(node)
    step = node
    while step.inputs:
        step = ours.nodes[max(step.inputs)]
        if step.weight_shape:
            return f"the {node.kind} behind {_path(step)}"
    return f"the {node.kind} behind the input"


def _path(node: Node) -> str:
    for key in ("weight", "w_ih"):
        if key in node.tensors:
            return node.tensors[key].name.removesuffix(".weight")
    return node.output

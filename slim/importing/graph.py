"""What a deployed model computes, told the same way whoever exported it.

A graph holds the layers that calculate. A bias behind a convolution or matrix product and a BatchNorm behind
a convolution belong to that layer; reshapes, transpositions and the shape arithmetic around an LSTM are left
out: running both models shows whether they agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from slim.errors import InputError

INPUT = "input"
COMMUTATIVE = frozenset({"add", "mul"})
WEIGHTED = frozenset({"conv", "deconv", "linear", "lstm"})
NORM = ("scale", "shift", "mean", "variance")
LSTM = ("w_ih", "w_hh", "b_ih", "b_hh")


@dataclass(frozen=True)
class Tensor:
    """A weight: the name it has in its model, and its numbers."""

    name: str
    array: npt.NDArray[Any]


@dataclass
class Node:
    """One layer.

    Attributes:
        kind: conv, deconv, linear, lstm, add, mul, concat, relu, hardswish, hardsigmoid, sigmoid, softmax,
            max_pool, avg_pool, global_pool, upsample, input; or the exporter's own name of another op.
        inputs: numbers of the nodes it reads, in order.
        attrs: what must be equal for two layers to compute the same.
        tensors: "weight", "bias", those of NORM; for an LSTM those of LSTM, forward and ``_reverse``.
        output: name of the variable that holds its result.
    """

    kind: str
    inputs: list[int]
    attrs: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    output: str = ""

    @property
    def has_norm(self) -> bool:
        """Whether a BatchNorm belongs to it."""
        return "variance" in self.tensors

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of its weight, () without one."""
        for name in ("weight", "w_ih"):
            if name in self.tensors:
                return self.tensors[name].array.shape
        return ()

    @property
    def channels(self) -> int:
        """Width of its result, 0 for a layer without weights."""
        shape = self.weight_shape
        if self.kind == "deconv":
            return int(shape[1]) * int(self.attrs["groups"])
        return int(shape[1 if self.kind == "linear" else 0]) if shape else 0

    def name(self) -> str:
        """How a message calls it: by its weight, else by its result."""
        for key in ("weight", "w_ih"):
            if key in self.tensors:
                return f"{self.kind} of {self.tensors[key].name!r}"
        return f"{self.kind} writing {self.output!r}"

    def describe(self) -> str:
        """Kind, weight shape and attributes."""
        facts = [f"{key} {_short(value)}" for key, value in self.attrs.items()]
        if self.weight_shape:
            facts.insert(0, "x".join(map(str, self.weight_shape)))
        return f"{self.kind} ({', '.join(facts)})" if facts else self.kind


@dataclass(frozen=True)
class Graph:
    """Nodes in the order they are computed; node 0 is the input, ``result`` the number of the output's.

    Attributes:
        shape: of the input, a number below 1 where any size is taken; () unknown.
    """

    nodes: list[Node]
    result: int
    where: str
    shape: tuple[int, ...] = ()

    def accepted(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The nearest input shape the model takes: its own sizes where they are fixed."""
        if len(self.shape) != len(shape):
            return shape
        return tuple(own if own > 0 else wanted for own, wanted in zip(self.shape, shape, strict=True))


class Values:
    """Which node holds each variable's value, while a graph is read.

    Attributes:
        nodes: so far.
        constants: variable -> weight, for parameters and reshaped views of them.
        shapes: variables that only hold sizes.
    """

    def __init__(
        self, feed: str, weights: Mapping[str, npt.NDArray[Any]], readers: Mapping[str, int]
    ) -> None:
        self.nodes = [Node(INPUT, [], output=feed)]
        self.constants = {name: Tensor(name, array) for name, array in weights.items()}
        self.shapes: set[str] = set()
        self._of = {feed: 0}
        self._readers = readers

    def add(self, node: Node, output: str) -> None:
        """A further layer whose result is ``output``."""
        node.output = output
        self._of[output] = len(self.nodes)
        self.nodes.append(node)

    def has(self, name: str) -> bool:
        """Whether a variable is a layer's result (or a view of one)."""
        return name in self._of

    def number(self, name: str) -> int:
        """The node that holds a variable."""
        return self._of[name]

    def view(self, source: str, target: str) -> None:
        """``target`` holds the numbers of ``source`` in another shape."""
        if source in self._of:
            self._of[target] = self._of[source]
        elif source in self.constants:
            self.constants[target] = self.constants[source]
        else:
            self.shapes.add(target)

    def absorb(self, source: str, target: str, tensors: Mapping[str, Tensor], **attrs: Any) -> bool:
        """Give tensors to the layer that computes ``source``, whose result becomes ``target``.

        Only a layer with weights takes them, once, before its BatchNorm, and if nobody else reads it.
        """
        number = self._of.get(source)
        node = None if number is None else self.nodes[number]
        if (
            node is None
            or number is None
            or node.kind not in WEIGHTED - {"lstm"}
            or node.has_norm
            or set(tensors) & set(node.tensors)
            or any(tensor.array.size != node.channels for tensor in tensors.values())
            or self._readers.get(source, 0) != 1
        ):
            return False
        node.tensors.update(tensors)
        node.attrs.update(attrs)
        node.output = target
        self._of[target] = number
        return True


@contextmanager
def reading(where: str, op: str) -> Iterator[None]:
    """An op without the inputs, outputs or attributes it needs is a damaged file, not a bug of ours."""
    try:
        yield
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{op} is incomplete or damaged ({type(error).__name__}: {error})",
            where=where,
            remedy="export the model again",
        ) from error


def flat(tensor: Tensor) -> Tensor:
    """A bias kept as 1 x C x 1 x 1 (or C) as C."""
    return Tensor(tensor.name, np.ascontiguousarray(tensor.array.reshape(-1)))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return "x".join(_short(part) for part in value)
    return str(value)

"""Which tensor of a float program an operator of an ARM file must equal: pairs by weight names and op order.

Names of activations say nothing in an ARM file: its memory optimiser reuses them. Names of weights are kept
by opt and by compaction, and in our exports they are the layers' paths. So the k-th operator that computes
with a weight is paired with the k-th operator of the float program that does.

The float side is the unfused *program* (Paddle's own file of the float net), neither hooks on the net nor a
float ARM file: hooks would have to know where each layer's code calls its activation, and opt fuses a float
file otherwise than an int8 one (two 1x1 convs with no activation between become one, named as the first).
In the program every tensor has a name of its own: the right point is found by walking on from the layer:

- what was folded into the ARM operator is passed: the bias, the batch norm, and a conv whose weights are in
  no operator of the ARM file (it was merged into the one before);
- an activation is passed unless it is an operator of its own in the ARM file. What the operator says of its
  activation (``with_act``) is not asked: a lost one shall be seen as a loss;
- the walk never passes a tensor that two operators read: a residual sum is an operator of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from export import proto
from export.nb.format import NbModel
from export.nb.model import Op

# Operator with weights -> the inputs that may hold them.
_WEIGHTS = {
    "conv2d": ("Filter",), "depthwise_conv2d": ("Filter",), "conv2d_transpose": ("Filter",), "fc": ("W",),
    "mul": ("Y",), "matmul": ("Y",), "matmul_v2": ("Y",), "rnn": ("WeightList",),
}  # fmt: skip
_SOURCES = ("Input", "X")
_RESULTS = ("Output", "Out", "Y")
_CONVS = ("conv2d", "depthwise_conv2d", "conv2d_transpose")
_LINEAR = ("elementwise_add", "batch_norm")
_ACTIVATIONS = frozenset({
    "relu", "relu6", "leaky_relu", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "swish", "gelu", "prelu",
})  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One layer on both sides.

    Attributes:
        index: of the operator in the ARM file.
        layer: path of the layer, from the name of its weight.
        merged: paths of layers that opt merged into it.
        reads, writes: names of its input and its output in the ARM file, valid only at that operator.
        float_input, float_output: the same tensors in the float program.
    """

    index: int
    layer: str
    merged: tuple[str, ...]
    reads: str
    writes: str
    float_input: str
    float_output: str


def weights_of(model: NbModel) -> dict[int, str]:
    """Operator number -> name of the weight it computes with, for every operator with weights.

    The weights of an LSTM may come through ``calib_once``; its first matrix stands for it.
    """
    found: dict[int, str] = {}
    stored: dict[str, str] = {}
    for index, op in enumerate(model.ops):
        for slot in _WEIGHTS.get(op.type, ()):
            name = next(iter(op.inputs.get(slot, ())), "")
            name = stored.get(name, name)
            if name in model.params:
                found[index] = name
        written = [name for names in op.outputs.values() for name in names]
        for name in written:
            stored.pop(name, None)
        if op.type == "calib_once":
            stored[written[0]] = op.inputs["Input"][0]
    return found


def layer_name(weight: str) -> str:
    """The layer's path from the name of its weight; a foreign name stays.

    >>> layer_name("head.fc.weight"), layer_name("neck.encoder.lstm.weight_ih_l0"), layer_name("conv2d_0.w_0")
    ('head.fc', 'neck.encoder.lstm', 'conv2d_0.w_0')
    """
    path, _, last = weight.rpartition(".")
    return path if path and last.startswith("weight") else weight


def pair(model: NbModel, program: Any) -> tuple[list[Pair], list[str]]:
    """Pairs in the order of the ARM file, and the layers for which the program has no such tensor.

    Args:
        program: ProgramDesc of a float net with the same layers (see `export.proto.read_program`).
    """
    weights = weights_of(model)
    walk = _Walk(model, program, frozenset(weights.values()))
    pairs, alone = [], []
    seen: Counter[str] = Counter()
    for index, weight in weights.items():
        op, number = model.ops[index], seen[weight]
        seen[weight] += 1
        others = walk.layers.get(weight, [])
        if number >= len(others):
            alone.append(layer_name(weight))
            continue
        name, merged = walk.end(others[number], stop=_activation_follows(model.ops, index))
        pairs.append(
            Pair(index, layer_name(weight), merged, _first(op.inputs, _SOURCES), _first(op.outputs, _RESULTS),
                 _argument(others[number], _SOURCES), name)
        )  # fmt: skip
    return pairs, alone


class _Walk:
    """The float program, indexed for walking from a layer to the tensor that its ARM operator writes."""

    def __init__(self, model: NbModel, program: Any, kept: frozenset[str]) -> None:
        self._kept = kept
        self._constants = {v.name for v in program.blocks[0].vars if v.persistable}
        self._readers: dict[str, list[Any]] = {}
        self.layers: dict[str, list[Any]] = {}
        for op in proto.ops(program):
            for slot in op.inputs:
                for name in slot.arguments:
                    self._readers.setdefault(name, []).append(op)
            if op.type == "reshape2" and set(proto.inputs(op, "X")) <= self._constants:
                self._constants |= set(proto.outputs(op, "Out"))
            weight = next((n for slot in _WEIGHTS.get(op.type, ()) for n in proto.inputs(op, slot)), None)
            if weight in self._constants:
                self.layers.setdefault(str(weight), []).append(op)
        # Constants of biases and batch norms that stayed operators of their own in the ARM file.
        self._standing = {
            name
            for op in model.ops
            if op.type in _LINEAR
            for names in op.inputs.values()
            for name in names
            if name in model.params
        }

    def end(self, layer: Any, *, stop: bool) -> tuple[str, tuple[str, ...]]:
        """The tensor that the ARM operator writes, and the layers merged into it.

        Args:
            stop: in front of the activation.
        """
        name, merged = _output(layer), []
        if layer.type == "rnn":
            return name, ()
        while (after := self._only_reader(name)) is not None and self._is_folded(after, name):
            if after.type in _CONVS:
                merged.append(layer_name(proto.inputs(after, "Filter")[0]))
            name = _output(after)
        if not stop and after is not None and after.type in _ACTIVATIONS:
            name = _output(after)
        return name, tuple(merged)

    def _only_reader(self, name: str) -> Any | None:
        found = self._readers.get(name, [])
        return found[0] if len(found) == 1 else None

    def _is_folded(self, op: Any, name: str) -> bool:
        """Whether the operator is linear, reads only constants beside ``name``, and left the ARM file."""
        others = {n for slot in op.inputs for n in slot.arguments} - {name}
        if not others <= self._constants or others & self._standing:
            return False
        return op.type in _LINEAR or (op.type in _CONVS and not others & self._kept)


def _activation_follows(ops: list[Op], index: int) -> bool:
    """Whether an operator's output is read by an activation before another operator takes its name."""
    name = _first(ops[index].outputs, _RESULTS)
    for op in ops[index + 1 :]:
        if op.type in _ACTIVATIONS and name in op.inputs.get("X", ()):
            return True
        if name in {n for slot in _RESULTS for n in op.outputs.get(slot, ())}:
            return False
    return False


def _first(slots: dict[str, tuple[str, ...]], names: tuple[str, ...]) -> str:
    return next(slots[n][0] for n in names if slots.get(n))


def _argument(op: Any, names: tuple[str, ...]) -> str:
    return str(next(n for parameter in names for n in proto.inputs(op, parameter)))


def _output(op: Any) -> str:
    return str(next(n for parameter in _RESULTS for n in proto.outputs(op, parameter)))

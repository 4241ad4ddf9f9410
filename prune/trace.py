"""From a net to the ops it runs: paddle's own static trace, with parameters named by layer path.

Both modes are traced, because a training branch (the threshold map of DB) reads channels that the
inference graph does not show. Tracing builds a program and runs nothing: no weight, no BatchNorm
statistic changes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn

from slim.errors import UnsupportedModel

# Another number than 1, so that a reshape never mistakes the batch axis for a squeezed one.
_BATCH = 2
_INFERENCE, _TRAINING = "eval", "train"
_RECURRENT = (nn.LSTM, nn.GRU, nn.SimpleRNN)
_KINDS: tuple[type[nn.Layer], ...] = (nn.Conv2D, nn.Conv2DTranspose, nn.BatchNorm2D, nn.Linear, nn.LSTM)


@dataclass(frozen=True)
class Op:
    """One op: slot -> variable names, and its plain attributes."""

    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    attrs: Mapping[str, Any]

    def first(self, slot: str) -> str | None:
        """The first variable of an input slot, None when the slot is empty."""
        names = self.inputs.get(slot, ())
        return names[0] if names else None

    def all_inputs(self) -> Iterator[str]:
        for names in self.inputs.values():
            yield from names

    def all_outputs(self) -> Iterator[str]:
        for names in self.outputs.values():
            yield from names


@dataclass(frozen=True)
class Graph:
    """The ops of a net in the order they run, inference first, then training.

    Attributes:
        shapes: variable -> shape with a batch of 2.
        owners: parameter variable -> path of the layer that holds it (an LSTM holds all of its own).
        kinds: layer path -> "Conv2D", "Conv2DTranspose", "BatchNorm2D", "Linear", "LSTM" or the
            layer's class name.
        inputs, outputs: variables the net is fed and gives back.
    """

    ops: tuple[Op, ...]
    shapes: Mapping[str, tuple[int, ...]]
    owners: Mapping[str, str]
    kinds: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def inference_layers(self) -> set[str]:
        """Paths of the layers whose parameters inference reads: not those of a training branch."""
        # BatchNorm also writes its statistics, which have one name in both programs.
        ops = (op for op in self.ops if any(n.startswith(f"{_INFERENCE}:") for n in op.all_outputs()))
        return {self.owners[name] for op in ops for name in op.all_inputs() if name in self.owners}


def trace(net: nn.Layer, input_shape: Sequence[int]) -> Graph:
    """Trace ``net`` for inputs of C, H, W.

    Raises:
        UnsupportedModel: paddle cannot turn the net's forward into a static graph.

    >>> graph = trace(nn.Sequential(nn.Conv2D(3, 4, 1, bias_attr=False), nn.ReLU()), (3, 8, 8))
    >>> [op.type for op in graph.ops], graph.kinds["0"]
    (['conv2d', 'relu', 'conv2d', 'relu'], 'Conv2D')
    """
    owners, kinds = _owners(net)
    ops: list[Op] = []
    shapes: dict[str, tuple[int, ...]] = {}
    inputs: list[str] = []
    outputs: list[str] = []
    with untouched(net):
        for mode in (_INFERENCE, _TRAINING):
            getattr(net, mode)()
            program, fed, fetched = _program(net, input_shape)
            rename = _renamer(mode, set(owners))
            ops += [_op(op, rename) for op in program.global_block().ops]
            for name, var in program.global_block().vars.items():
                shapes[rename(name)] = _shape(var)
            inputs += [rename(name) for name in fed]
            outputs += [rename(name) for name in fetched]
    return Graph(tuple(ops), shapes, owners, kinds, tuple(inputs), tuple(outputs))


@contextmanager
def untouched(net: nn.Layer) -> Iterator[None]:
    """Put back what paddle's tracer leaves on every layer: its mode, and a rewritten ``forward``."""
    layers = net.sublayers(include_self=True)
    before = [
        (layer.training, layer.__dict__.get("forward"), dict(layer._original_funcs)) for layer in layers
    ]
    try:
        yield
    finally:
        for layer, (training, forward, originals) in zip(layers, before, strict=True):
            layer.training = training
            layer._original_funcs.clear()
            layer._original_funcs.update(originals)
            layer.__dict__.pop("forward", None)
            if forward is not None:
                layer.__dict__["forward"] = forward


def _program(net: nn.Layer, input_shape: Sequence[int]) -> tuple[Any, list[str], list[str]]:
    spec = paddle.static.InputSpec([_BATCH, *input_shape], "float32")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            static = paddle.jit.to_static(net.forward, input_spec=[spec], full_graph=True)
            program = static.concrete_program
    except Exception as error:
        # dy2static raises whatever the user's forward raises, so no narrower class exists.
        raise UnsupportedModel(
            f"paddle cannot trace {type(net).__name__}.forward ({error})",
            remedy="write its control flow with paddle ops, or prune a net of this toolkit",
        ) from error
    if len(program.main_program.blocks) > 1:
        raise UnsupportedModel(
            f"{type(net).__name__}.forward branches on tensor values, so its channels cannot be followed"
        )
    return program.main_program, _names(program.inputs), _names(program.outputs)


def _names(tree: Any) -> list[str]:
    return [leaf.name for leaf in paddle.utils.flatten(tree) if hasattr(leaf, "shape")]


def _renamer(mode: str, parameters: set[str]) -> Any:
    """Parameters are the same in both programs, everything else is another variable."""
    return lambda name: name if name in parameters else f"{mode}:{name}"


def _shape(var: Any) -> tuple[int, ...]:
    try:
        return tuple(int(side) for side in var.shape)
    except (ValueError, TypeError):  # LoD arrays and readers have none
        return ()


def _op(op: Any, rename: Any) -> Op:
    attrs = {name: op.attr(name) for name in op.attr_names if not name.startswith("op_")}
    return Op(
        op.type,
        {slot: tuple(rename(n) for n in op.input(slot)) for slot in op.input_names},
        {slot: tuple(rename(n) for n in op.output(slot)) for slot in op.output_names},
        attrs,
    )


def _owners(net: nn.Layer) -> tuple[dict[str, str], dict[str, str]]:
    owners: dict[str, str] = {}
    kinds: dict[str, str] = {}
    inside = ""
    for path, layer in net.named_sublayers(include_self=True):
        if inside and path.startswith(inside):
            continue
        kinds[path] = _kind(layer)
        whole = isinstance(layer, _RECURRENT)
        inside = f"{path}." if whole else ""
        held = layer.parameters() if whole else [*layer._parameters.values(), *layer._buffers.values()]
        for tensor in held:
            if tensor is not None:
                owners.setdefault(tensor.name, path)
    return owners, kinds


def _kind(layer: nn.Layer) -> str:
    for kind in _KINDS:
        if isinstance(layer, kind):
            return kind.__name__
    return type(layer).__name__

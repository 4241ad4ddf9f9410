"""The graph of a Paddle inference program (`.pdmodel`, `.pdiparams`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export import proto
from export.params import read_params
from slim.errors import UnsupportedModel
from slim.importing.graph import LSTM, Graph, Node, Tensor, Values, flat, reading

_VIEWS = frozenset(
    {
        "reshape2", "reshape", "squeeze2", "squeeze", "unsqueeze2", "unsqueeze", "transpose2", "transpose",
        "flatten_contiguous_range", "flatten2", "flatten", "assign",
    }
)  # fmt: skip
_SIZES = frozenset({"shape", "fill_constant", "fill_constant_batch_size_like"})
_QUANTIZED = ("fake_", "quantize_linear", "dequantize_linear")
# Field of an attribute message by its type number (framework.proto, AttrType).
_FIELDS = {
    0: "i", 1: "f", 2: "s", 3: "ints", 4: "floats", 5: "strings", 6: "b", 7: "bools", 9: "l", 11: "longs",
    12: "float64s", 15: "float64",
}  # fmt: skip
_LISTS = (3, 4, 5, 7, 11, 12)


def paddle_graph(prefix: Path) -> Graph:
    """Read a program and its parameters.

    Raises:
        InputError: the files are missing or damaged.
        UnsupportedModel: control flow, several inputs or outputs, or a quantized model.
    """
    program = proto.read_program(proto.model_path(prefix))
    names = [variable.name for variable in proto.parameters(program)]
    weights = read_params(proto.params_path(prefix), names)
    readers = Counter(name for op in proto.ops(program) for slot in op.inputs for name in slot.arguments)
    values = Values(proto.feed_name(program), weights, readers)
    where = str(proto.model_path(prefix))
    for op in proto.ops(program):
        if op.type in ("feed", "fetch"):
            continue
        if op.type.startswith(_QUANTIZED):
            raise UnsupportedModel(
                f"{proto.layer_of(op)}: the model is quantized", where=where,
                remedy="import the float model it was made from",
            )  # fmt: skip
        with reading(where, proto.layer_of(op)):
            _read(op, values)
    result = proto.fetch_name(program)
    if not values.has(result):
        raise UnsupportedModel(f"its output {result!r} is no layer's result", where=where)
    feed = proto.var(program, proto.feed_name(program))
    return Graph(values.nodes, values.number(result), where, proto.dims(feed) if feed is not None else ())


def _read(op: Any, values: Values) -> None:
    source = _first(op, "X") or _first(op, "Input")
    target = _first_output(op)
    if op.type in _VIEWS or _is_identity(op):
        values.view(source, target)
    elif op.type in _SIZES or _only_sizes(op, values):
        values.shapes.update(name for slot in op.outputs for name in slot.arguments)
    elif op.type in _READERS:
        _READERS[op.type](op, values, source, target)
    else:
        _other(op, values, op.type, target)


def _is_identity(op: Any) -> bool:
    """A scale by 1, a dropout that does nothing in inference."""
    if op.type == "scale":
        return value(op, "scale", 1.0) == 1.0 and value(op, "bias", 0.0) == 0.0
    if op.type == "dropout":
        kept = value(op, "dropout_implementation", "downgrade_in_infer") == "upscale_in_train"
        return bool(kept or value(op, "dropout_prob", 0.5) == 0.0)
    return False


def _only_sizes(op: Any, values: Values) -> bool:
    names = [name for slot in op.inputs for name in slot.arguments]
    return bool(names) and all(name in values.shapes for name in names)


def _conv(op: Any, values: Values, source: str, target: str) -> None:
    weight = values.constants.get(_first(op, "Filter"))
    if weight is None or not values.has(source):
        _other(op, values, op.type, target)
        return
    kind = "deconv" if "transpose" in op.type else "conv"
    tensors = {"weight": weight}
    bias = values.constants.get(_first(op, "Bias"))
    if bias is not None:
        tensors["bias"] = flat(bias)
    attrs = {
        "stride": tuple(value(op, "strides", [1, 1])),
        "padding": _padding(op),
        "dilation": tuple(value(op, "dilations", [1, 1])),
        "groups": int(value(op, "groups", 1)),
    }
    values.add(Node(kind, [values.number(source)], attrs, tensors), target)


def _padding(op: Any) -> tuple[Any, ...] | str:
    """Top, bottom, left, right."""
    rule = value(op, "padding_algorithm", "EXPLICIT")
    given = list(value(op, "paddings", [0, 0]))
    if rule == "VALID":
        return (0, 0, 0, 0)
    if rule != "EXPLICIT":
        return str(rule)
    return tuple(given) if len(given) == 4 else (given[0], given[0], given[1], given[1])


def _batch_norm(op: Any, values: Values, source: str, target: str) -> None:
    slots = {"scale": "Scale", "shift": "Bias", "mean": "Mean", "variance": "Variance"}
    found = {key: values.constants.get(_first(op, slot)) for key, slot in slots.items()}
    tensors = {key: tensor for key, tensor in found.items() if tensor is not None}
    target = proto.outputs(op, "Y")[0]
    eps = round(float(value(op, "epsilon", 1e-5)), 9)
    if len(tensors) != 4 or not values.absorb(source, target, tensors, epsilon=eps):
        _other(op, values, "batch_norm", target)


def _elementwise(op: Any, values: Values, source: str, target: str) -> None:
    other = _first(op, "Y")
    kind = {"elementwise_add": "add", "elementwise_mul": "mul"}[op.type]
    if values.has(source) and values.has(other):
        values.add(Node(kind, [values.number(source), values.number(other)]), target)
        return
    data, constant = (source, other) if values.has(source) else (other, source)
    weight = values.constants.get(constant)
    absorbed = kind == "add" and weight is not None and values.absorb(data, target, {"bias": flat(weight)})
    if not absorbed:
        _other(op, values, f"{kind} of a constant", target)


def _linear(op: Any, values: Values, source: str, target: str) -> None:
    weight = values.constants.get(_first(op, "Y"))
    turned = value(op, "trans_x", value(op, "transpose_X", False)) or value(op, "alpha", 1.0) != 1.0
    if weight is None or weight.array.ndim != 2 or turned or not values.has(source):
        _other(op, values, op.type, target)
        return
    if value(op, "trans_y", value(op, "transpose_Y", False)):
        weight = Tensor(weight.name, np.ascontiguousarray(weight.array.T))
    values.add(Node("linear", [values.number(source)], {}, {"weight": weight}), target)


def _rnn(op: Any, values: Values, source: str, target: str) -> None:
    """One node per layer: WeightList holds (w_ih, w_hh) of each layer and direction, then (b_ih, b_hh)."""
    weights = [values.constants.get(name) for name in proto.inputs(op, "WeightList")]
    layers, directions = int(value(op, "num_layers", 1)), 2 if value(op, "is_bidirec", False) else 1
    target = proto.outputs(op, "Out")[0]
    whole = len(weights) == 4 * layers * directions and all(w is not None for w in weights)
    if value(op, "mode", "") != "LSTM" or not whole or not values.has(source):
        _other(op, values, op.type, target)
        return
    half, name = len(weights) // 2, source
    for layer in range(layers):
        tensors: dict[str, Tensor] = {}
        for direction in range(directions):
            at = 2 * (layer * directions + direction)
            parts = (*weights[at : at + 2], *weights[half + at : half + at + 2])
            suffix = "_reverse" if direction else ""
            tensors |= {f"{key}{suffix}": part for key, part in zip(LSTM, parts, strict=True) if part}
        node = Node("lstm", [values.number(name)], {"directions": directions}, tensors)
        name = target if layer == layers - 1 else f"{target} of layer {layer}"
        values.add(node, name)


def _pool(op: Any, values: Values, source: str, target: str) -> None:
    kind = value(op, "pooling_type", "max")
    size = tuple(value(op, "ksize", []))
    if value(op, "global_pooling", False) or (value(op, "adaptive", False) and set(size) == {1}):
        node = Node("global_pool", [values.number(source)], {"type": kind})
    else:
        attrs = {
            "size": size,
            "stride": tuple(value(op, "strides", [1, 1])),
            "padding": _padding(op),
            "ceil": bool(value(op, "ceil_mode", False)),
        }
        if value(op, "adaptive", False):
            attrs["adaptive"] = True
        node = Node(f"{kind}_pool", [values.number(source)], attrs)
    values.add(node, target)


def _upsample(op: Any, values: Values, source: str, target: str) -> None:
    scale = value(op, "scale", [])
    scale = tuple(float(s) for s in (scale if isinstance(scale, list) else [scale])) * 2
    attrs = {"scale": scale[:2], "aligned": bool(value(op, "align_corners", False))}
    values.add(Node("upsample", [values.number(source)], attrs), target)


def _concat(op: Any, values: Values, source: str, target: str) -> None:
    names = proto.inputs(op, "X")
    if not all(values.has(name) for name in names):
        _other(op, values, op.type, target)
        return
    values.add(Node("concat", [values.number(n) for n in names], {"axis": value(op, "axis", 0)}), target)


def _activation(kind: str, **defaults: float) -> Callable[[Any, Values, str, str], None]:
    """A function of one value; its attributes with the defaults of Paddle's op."""

    def read(op: Any, values: Values, source: str, target: str) -> None:
        attrs = {key: round(float(value(op, key, default)), 6) for key, default in defaults.items()}
        values.add(Node(kind, [values.number(source)], attrs), target)

    return read


_READERS: Mapping[str, Callable[[Any, Values, str, str], None]] = {
    "conv2d": _conv,
    "depthwise_conv2d": _conv,
    "conv2d_transpose": _conv,
    "depthwise_conv2d_transpose": _conv,
    "batch_norm": _batch_norm,
    "elementwise_add": _elementwise,
    "elementwise_mul": _elementwise,
    "matmul_v2": _linear,
    "matmul": _linear,
    "mul": _linear,
    "rnn": _rnn,
    "pool2d": _pool,
    "nearest_interp_v2": _upsample,
    "nearest_interp": _upsample,
    "concat": _concat,
    "relu": _activation("relu"),
    "sigmoid": _activation("sigmoid"),
    "softmax": _activation("softmax"),
    "hard_swish": _activation("hardswish", threshold=6.0, scale=6.0, offset=3.0),
    "hard_sigmoid": _activation("hardsigmoid", slope=0.2, offset=0.5),
}


def _other(op: Any, values: Values, kind: str, target: str) -> None:
    """A layer our nets do not have: it stays in the graph, and will be the first difference."""
    names = [name for slot in op.inputs for name in slot.arguments if values.has(name)]
    values.add(Node(kind, [values.number(name) for name in names]), target)


def _first(op: Any, parameter: str) -> str:
    return next(iter(proto.inputs(op, parameter)), "")


def _first_output(op: Any) -> str:
    for parameter in ("Out", "Output", "Y"):
        for name in proto.outputs(op, parameter):
            return name
    return next((name for slot in op.outputs for name in slot.arguments), "")


def value(op: Any, name: str, default: Any) -> Any:
    """The value of an attribute, the default of Paddle's op where it is not written."""
    found = proto.attr(op, name)
    if found is None or found.type not in _FIELDS:
        return default
    given = getattr(found, _FIELDS[found.type])
    return list(given) if found.type in _LISTS else given

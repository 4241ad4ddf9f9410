"""The graph of an ONNX model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slim.errors import InputError, UnsupportedModel
from slim.importing.graph import LSTM, Graph, Node, Tensor, Values, flat, reading
from slim.importing.onnx_gates import HARDSWISH, join_hardswish

_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Identity", "Dropout"})
_SIZES = frozenset({"Shape", "ConstantOfShape", "Range", "Size"})
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinear", "ConvInteger")
# ONNX keeps an LSTM's gates as input, output, forget, cell; Paddle as input, forget, cell, output.
_GATES = (0, 2, 3, 1)


def onnx_graph(model: Any, where: str) -> Graph:
    """The graph of a parsed model.

    Raises:
        InputError: a weight is damaged.
        UnsupportedModel: several inputs or outputs, or a quantized model.
    """
    weights = {tensor.name: _array(tensor, where) for tensor in model.graph.initializer}
    feeds = [value for value in model.graph.input if value.name not in weights]
    if len(feeds) != 1 or len(model.graph.output) != 1:
        raise UnsupportedModel(
            f"has {len(feeds)} inputs and {len(model.graph.output)} outputs, exactly 1 is supported",
            where=where,
        )
    readers = Counter(name for node in model.graph.node for name in node.input)
    values = Values(feeds[0].name, weights, readers)
    for op in model.graph.node:
        if op.op_type.startswith(_QUANTIZED):
            raise UnsupportedModel(
                f"{op.op_type} writing {op.output[0]!r}: the model is quantized", where=where,
                remedy="import the float model it was made from",
            )  # fmt: skip
        with reading(where, f"{op.op_type} {op.name!r}"):
            _read(op, values, where)
    join_hardswish(values.nodes)
    result = model.graph.output[0].name
    if not values.has(result):
        raise UnsupportedModel(f"its output {result!r} is no layer's result", where=where)
    shape = tuple(int(d.dim_value) for d in feeds[0].type.tensor_type.shape.dim)
    return Graph(values.nodes, values.number(result), where, shape)


def _array(tensor: Any, where: str) -> npt.NDArray[Any]:
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise InputError(f"weight {tensor.name!r} is damaged ({error})", where=where) from error


def _read(op: Any, values: Values, where: str) -> None:
    names = [name for name in op.input if name]
    target = op.output[0]
    attrs = _attributes(op, where)
    if op.op_type == "Constant":
        if "value" in attrs:
            values.constants[target] = Tensor(target, np.asarray(attrs["value"]))
        else:
            values.shapes.add(target)
    elif op.op_type in _VIEWS or (op.op_type == "Cast" and names[0] in values.shapes):
        values.view(names[0], target)
    elif op.op_type in _SIZES or not any(values.has(name) for name in names):
        values.shapes.update(op.output)
    elif op.op_type in _READERS:
        _READERS[op.op_type](op, values, attrs)
    else:
        _other(op, values, op.op_type)


def _attributes(op: Any, where: str) -> dict[str, Any]:
    from onnx import helper

    found = {}
    for attribute in op.attribute:
        value = helper.get_attribute_value(attribute)
        if hasattr(value, "data_type"):
            value = _array(value, where)
        found[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return found


def _other(op: Any, values: Values, kind: str, **attrs: Any) -> None:
    """An op our nets do not have: it stays in the graph, and will be the first difference."""
    inputs = [values.number(name) for name in op.input if values.has(name)]
    values.add(Node(kind, inputs, attrs), op.output[0])


def _padding(attrs: Mapping[str, Any]) -> tuple[Any, ...] | str:
    """ONNX's top, left, bottom, right as top, bottom, left, right."""
    rule = attrs.get("auto_pad", "NOTSET")
    if rule == "VALID":
        return (0, 0, 0, 0)
    if rule != "NOTSET":
        return str(rule)
    top, left, bottom, right = attrs.get("pads", [0, 0, 0, 0])
    return (top, bottom, left, right)


def _conv(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    weight = values.constants.get(op.input[1])
    if weight is None or any(attrs.get("output_padding", [])):
        _other(op, values, op.op_type)
        return
    tensors = {"weight": weight}
    if len(op.input) > 2 and op.input[2] in values.constants:
        tensors["bias"] = flat(values.constants[op.input[2]])
    facts = {
        "stride": tuple(attrs.get("strides", [1, 1])),
        "padding": _padding(attrs),
        "dilation": tuple(attrs.get("dilations", [1, 1])),
        "groups": int(attrs.get("group", 1)),
    }
    kind = "conv" if op.op_type == "Conv" else "deconv"
    values.add(Node(kind, [values.number(op.input[0])], facts, tensors), op.output[0])


def _batch_norm(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    tensors = {
        key: values.constants[name]
        for key, name in zip(("scale", "shift", "mean", "variance"), op.input[1:5], strict=True)
        if name in values.constants
    }
    epsilon = round(float(attrs.get("epsilon", 1e-5)), 9)
    if len(tensors) != 4 or not values.absorb(op.input[0], op.output[0], tensors, epsilon=epsilon):
        _other(op, values, "batch_norm")


def _binary(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    first, second = op.input
    kind = op.op_type.lower()
    if values.has(first) and values.has(second):
        inputs = [values.number(first), values.number(second)]
        values.add(Node(kind, inputs), op.output[0])
        return
    data, other = (first, second) if values.has(first) else (second, first)
    constant = values.constants.get(other)
    if constant is not None and kind == "add" and values.absorb(data, op.output[0], {"bias": flat(constant)}):
        return
    attrs = {}
    if constant is not None and constant.array.size == 1 and not (kind == "div" and data == second):
        number = float(constant.array.reshape(-1)[0])
        kind, number = ("mul", 1 / number) if kind == "div" and number else (kind, number)
        attrs = {"by": number}
    _other(op, values, f"{kind} of a constant", **attrs)


def _linear(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    weight = values.constants.get(op.input[1])
    turned = attrs.get("transA", 0) or attrs.get("alpha", 1.0) != 1.0 or attrs.get("beta", 1.0) != 1.0
    if weight is None or weight.array.ndim != 2 or turned or not values.has(op.input[0]):
        _other(op, values, op.op_type)
        return
    if attrs.get("transB", 0):
        weight = Tensor(weight.name, np.ascontiguousarray(weight.array.T))
    tensors = {"weight": weight}
    if len(op.input) > 2 and op.input[2] in values.constants:
        tensors["bias"] = flat(values.constants[op.input[2]])
    values.add(Node("linear", [values.number(op.input[0])], {}, tensors), op.output[0])


def _lstm(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    """W: directions x 4H x I, R: directions x 4H x H, B: directions x 8H (the input's, then the state's)."""
    found = [values.constants.get(name) for name in op.input[1:4]]
    direction = attrs.get("direction", "forward")
    plain = direction in ("forward", "bidirectional") and not attrs.get("activations")
    if len(found) != 3 or any(part is None for part in found) or not plain:
        _other(op, values, op.op_type)
        return
    w, r, b = (part.array for part in found if part is not None)
    tensors = {}
    for k in range(w.shape[0]):
        biases = np.split(b[k], 2)
        suffix = "_reverse" if k else ""
        for key, array in zip(LSTM, (w[k], r[k], *biases), strict=True):
            rows = np.split(array, 4)
            gates = np.ascontiguousarray(np.concatenate([rows[gate] for gate in _GATES]))
            tensors[f"{key}{suffix}"] = Tensor(f"{op.output[0]}.{key}{suffix}", gates)
    node = Node("lstm", [values.number(op.input[0])], {"directions": w.shape[0]}, tensors)
    values.add(node, op.output[0])


def _pool(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    facts = {
        "size": tuple(attrs["kernel_shape"]),
        "stride": tuple(attrs.get("strides", [1, 1])),
        "padding": _padding(attrs),
        "ceil": bool(attrs.get("ceil_mode", 0)),
    }
    kind = "max_pool" if op.op_type == "MaxPool" else "avg_pool"
    values.add(Node(kind, [values.number(op.input[0])], facts), op.output[0])


def _mean(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    axes = attrs.get("axes")
    if len(op.input) > 1 and op.input[1] in values.constants:
        axes = values.constants[op.input[1]].array.reshape(-1).tolist()
    if sorted(int(axis) % 4 for axis in axes or []) != [2, 3]:
        _other(op, values, op.op_type)
        return
    _global(op, values, attrs)


def _global(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    values.add(Node("global_pool", [values.number(op.input[0])], {"type": "avg"}), op.output[0])


def _resize(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    constant = next((values.constants[n] for n in op.input[1:] if n in values.constants and
                     values.constants[n].array.size == 4), None)  # fmt: skip
    if attrs.get("mode", "nearest") != "nearest" or constant is None:
        _other(op, values, op.op_type)
        return
    scale = tuple(float(s) for s in constant.array[2:])
    aligned = attrs.get("coordinate_transformation_mode") == "align_corners"
    node = Node("upsample", [values.number(op.input[0])], {"scale": scale, "aligned": aligned})
    values.add(node, op.output[0])


def _concat(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    if not all(values.has(name) for name in op.input):
        _other(op, values, op.op_type)
        return
    inputs = [values.number(name) for name in op.input]
    values.add(Node("concat", inputs, {"axis": int(attrs["axis"]) % 4}), op.output[0])


def _clip(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    limits = [attrs.get("min"), attrs.get("max")]
    for k, name in enumerate(op.input[1:3]):
        if name in values.constants:
            limits[k] = values.constants[name].array.reshape(-1)[0]
    low, high = (None if limit is None else float(limit) for limit in limits)
    values.add(Node("clip", [values.number(op.input[0])], {"low": low, "high": high}), op.output[0])


def _activation(kind: str, **named: tuple[str, float]) -> Callable[[Any, Values, dict[str, Any]], None]:
    """A function of one value; each attribute by ONNX's name for it and its default."""

    def read(op: Any, values: Values, attrs: dict[str, Any]) -> None:
        facts = {key: round(float(attrs.get(name, default)), 6) for key, (name, default) in named.items()}
        values.add(Node(kind, [values.number(op.input[0])], facts), op.output[0])

    return read


def _hardswish(op: Any, values: Values, attrs: dict[str, Any]) -> None:
    values.add(Node("hardswish", [values.number(op.input[0])], dict(HARDSWISH)), op.output[0])


_READERS: Mapping[str, Callable[[Any, Values, dict[str, Any]], None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "BatchNormalization": _batch_norm,
    "Add": _binary,
    "Mul": _binary,
    "Div": _binary,
    "MatMul": _linear,
    "Gemm": _linear,
    "LSTM": _lstm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global,
    "ReduceMean": _mean,
    "Resize": _resize,
    "Upsample": _resize,
    "Concat": _concat,
    "Clip": _clip,
    "Relu": _activation("relu"),
    "Sigmoid": _activation("sigmoid"),
    "Softmax": _activation("softmax"),
    "HardSigmoid": _activation("hardsigmoid", slope=("alpha", 0.2), offset=("beta", 0.5)),
    "HardSwish": _hardswish,
}

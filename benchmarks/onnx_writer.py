"""Our nets as ONNX models, as two exporters would write them: to test `slim import` and to time them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slim.importing.graph import LSTM, Graph, Node


class Writer:
    """A graph of ours as an ONNX model.

    ``folded``: BatchNorms in the convolutions, MatMul and Add for a linear layer, hardswish as one op.
    Otherwise: BatchNormalization, Gemm where it fits, hardswish as x * clip(x + 3, 0, 6) / 6.
    """

    def __init__(self, graph: Graph, *, folded: bool) -> None:
        self.folded = folded
        self.ops: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.names = {0: "x"}
        self.sequence = False
        for number, node in enumerate(graph.nodes[1:], 1):
            self.names[number] = self._layer(graph, node)
        self.result = self.names[graph.result]

    def model(self, shape: list[int | str]) -> onnx.ModelProto:
        stored = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        feed = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        out = helper.make_tensor_value_info(self.result, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.ops, "net", [feed], [out], stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)

    def op(self, kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"t{len(self.ops)}"
        self.ops.append(helper.make_node(kind, list(inputs), [name], **attrs))
        return name

    def weight(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array, dtype)
        return name

    def _layer(self, graph: Graph, node: Node) -> str:
        x = [self.names[i] for i in node.inputs]
        simple = {"relu": "Relu", "add": "Add", "mul": "Mul", "global_pool": "GlobalAveragePool"}
        if node.kind in simple:
            return self.op(simple[node.kind], *x)
        if node.kind == "hardsigmoid":
            return self.op("HardSigmoid", *x, alpha=node.attrs["slope"], beta=node.attrs["offset"])
        if node.kind == "softmax":
            return self.op("Softmax", *x, axis=-1)
        if node.kind == "max_pool":
            facts = node.attrs
            return self.op("MaxPool", *x, kernel_shape=facts["size"], strides=facts["stride"])
        if node.kind == "linear" and graph.nodes[node.inputs[0]].kind == "global_pool":
            x = [self.op("Flatten", *x)]
        return getattr(self, f"_{node.kind}")(node, x[0])

    def _hardswish(self, node: Node, x: str) -> str:
        if self.folded:
            return self.op("HardSwish", x)
        low, high = self.weight(0.0), self.weight(6.0)
        gate = self.op("Clip", self.op("Add", x, self.weight([3.0])), low, high)
        return self.op("Div", self.op("Mul", x, gate), self.weight([6.0]))

    def _conv(self, node: Node, x: str) -> str:
        have = {key: tensor.array for key, tensor in node.tensors.items()}
        top, bottom, left, right = node.attrs["padding"]
        attrs = {
            "strides": node.attrs["stride"],
            "pads": [top, left, bottom, right],
            "group": node.attrs["groups"],
            "kernel_shape": have["weight"].shape[2:],
        }
        weight, bias = have["weight"], have.get("bias")
        if node.has_norm and self.folded:
            by = have["scale"] / np.sqrt(have["variance"] + 1e-5)
            weight, bias = weight * by[:, None, None, None], have["shift"] - have["mean"] * by
        biases = [] if bias is None else [self.weight(bias)]
        y = self.op("Conv", x, self.weight(weight), *biases, **attrs)
        if node.has_norm and not self.folded:
            parts = [self.weight(have[key]) for key in ("scale", "shift", "mean", "variance")]
            y = self.op("BatchNormalization", y, *parts, epsilon=1e-5)
        return y

    def _linear(self, node: Node, x: str) -> str:
        weight, bias = (node.tensors[key].array for key in ("weight", "bias"))
        if self.sequence:  # T x N x C back to N x T x C
            x = self.op("Transpose", x, perm=[1, 0, 2])
        elif not self.folded:
            return self.op("Gemm", x, self.weight(weight.T), self.weight(bias), transB=1)
        return self.op("Add", self.op("MatMul", x, self.weight(weight)), self.weight(bias))

    def _lstm(self, node: Node, x: str) -> str:
        if not self.sequence:  # N x C x 1 x T to T x N x C
            squeezed = self.op("Squeeze", x, self.weight([2], np.int64))
            x, self.sequence = self.op("Transpose", squeezed, perm=[2, 0, 1]), True
        parts: list[list[np.ndarray]] = [[], [], []]
        for suffix in ("", "_reverse"):
            w_ih, w_hh, b_ih, b_hh = (self._gates(node.tensors[f"{key}{suffix}"].array) for key in LSTM)
            for group, array in zip(parts, (w_ih, w_hh, np.concatenate([b_ih, b_hh])), strict=True):
                group.append(array)
        names = [self.weight(np.stack(group)) for group in parts]
        hidden = parts[1][0].shape[1]
        y = self.op("LSTM", x, *names, hidden_size=hidden, direction="bidirectional")
        y = self.op("Transpose", y, perm=[0, 2, 1, 3])
        return self.op("Reshape", y, self.weight([0, 0, -1], np.int64))

    @staticmethod
    def _gates(array: np.ndarray) -> np.ndarray:
        """Paddle's input, forget, cell, output as ONNX's input, output, forget, cell."""
        i, f, c, o = np.split(array, 4)
        return np.concatenate([i, o, f, c])

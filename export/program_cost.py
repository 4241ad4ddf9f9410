"""Multiply-adds of an inference program, from its operators and the shapes Paddle infers for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import proto

Shape = Callable[[Any, str], tuple[int, ...]]


def program_macs(prefix: Path, shape: Sequence[int]) -> int:
    """Multiply-adds for one input of ``shape``: convs, matrix products, LSTMs, as in `nb.inspect`.

    Raises:
        InputError: no readable program there.
    """
    from paddle.base import core

    proto.read_program(proto.model_path(prefix))  # a damaged file would kill the process in Paddle's parser
    program = core.ProgramDesc(proto.model_path(prefix).read_bytes())
    block = program.block(0)
    operators = [block.op(i) for i in range(block.op_size())]
    total = 0
    for op in operators:
        if op.type() == "feed":
            block.find_var(op.output("Out")[0].encode()).set_shape(list(shape))
        elif op.type() != "fetch":
            _know_batch(block, op)
            op.infer_shape(block)
        if op.type() in _MACS:
            total += _MACS[op.type()](op, lambda op, slot: _shape(block, op, slot))
    return total


def _know_batch(block: Any, op: Any) -> None:
    """The initial state of an LSTM takes its batch from a tensor's value, which shapes alone do not tell."""
    if op.type() == "rnn":
        batch = _shape(block, op, "Input")[1]
        for name in op.input("PreState"):
            state = block.find_var(name.encode())
            first, _, last = state.shape()
            state.set_shape([first, batch, last])


def _shape(block: Any, op: Any, slot: str) -> tuple[int, ...]:
    names = op.input(slot) if slot in op.input_names() else op.output(slot)
    return tuple(block.find_var(names[0].encode()).shape())


def _conv(op: Any, shape: Shape) -> int:
    return int(np.prod(shape(op, "Output"))) * int(np.prod(shape(op, "Filter")[1:]))


def _transposed(op: Any, shape: Shape) -> int:
    return int(np.prod(shape(op, "Input"))) * int(np.prod(shape(op, "Filter")[1:]))


def _product(op: Any, shape: Shape) -> int:
    return int(np.prod(shape(op, "X"))) * int(shape(op, "Y")[-1])


def _rnn(op: Any, shape: Shape) -> int:
    steps, batch, width = shape(op, "Input")
    hidden, layers = op.attr("hidden_size"), op.attr("num_layers")
    ways = 2 if op.attr("is_bidirec") else 1
    sizes = [width] + [ways * hidden] * (layers - 1)
    return steps * batch * ways * sum(4 * hidden * (size + hidden) for size in sizes)


_MACS: dict[str, Callable[[Any, Shape], int]] = {
    "conv2d": _conv,
    "depthwise_conv2d": _conv,
    "conv2d_transpose": _transposed,
    "matmul": _product,
    "matmul_v2": _product,
    "mul": _product,
    "rnn": _rnn,
}

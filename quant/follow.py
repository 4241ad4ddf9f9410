"""What stands behind a layer: the BatchNorm that reads its output, and the next layer it feeds alone.

Read off Paddle's own static trace of the inference graph. Tracing builds a program and runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paddle

from quant.paddle_qat import quietly

if TYPE_CHECKING:
    from slim.bundle import Bundle

_LAYERS = ("conv2d", "depthwise_conv2d", "matmul_v2")
# slot that holds the weights, slot that is fed
_WEIGHTS = {"conv2d": ("Filter", "Input"), "depthwise_conv2d": ("Filter", "Input"), "matmul_v2": ("Y", "X")}


@dataclass(frozen=True)
class Behind:
    """What follows one layer.

    Attributes:
        batch_norm: path of the BatchNorm that alone reads the layer's output, or None.
        feeds: path of the conv or linear layer that alone reads the output, with nothing in between but
            that BatchNorm, the layer's bias and ReLUs; or None. A shortcut, a pooling, a gate or a
            hardswish on the way makes it None.
    """

    batch_norm: str | None = None
    feeds: str | None = None


def behind(bundle: Bundle) -> dict[str, Behind]:
    """Path of each conv and linear layer that inference runs -> what follows it; a float bundle."""
    ops, owners, outputs = _traced(bundle)
    readers: dict[str, list[Any]] = {}
    for op in ops:
        for name in op.input_arg_names:
            readers.setdefault(name, []).append(op)
    for name in outputs:  # also read from outside, so never read by one op alone
        readers.pop(name, None)
    found = {}
    for op in ops:
        if op.type in _LAYERS and _weight(op) in owners:
            found[_path(owners, _weight(op))] = _follow(op, readers, owners)
    return found


def _follow(op: Any, readers: Mapping[str, Sequence[Any]], owners: Mapping[str, str]) -> Behind:
    batch_norm, path = None, _path(owners, _weight(op))
    for reader in _alone(op, readers):
        if reader.type == "batch_norm" and batch_norm is None:
            batch_norm = _path(owners, reader.input("Scale")[0])
        elif reader.type in _LAYERS and _is_fed(reader, readers, owners):
            return Behind(batch_norm, _path(owners, _weight(reader)))
        elif reader.type != "relu" and not _adds_bias(reader, path, owners):
            break
    return Behind(batch_norm)


def _alone(op: Any, readers: Mapping[str, Sequence[Any]]) -> Iterator[Any]:
    """The ops down the line, as long as each output has exactly one reader."""
    while True:
        slot = "Y" if op.type == "batch_norm" else "Output" if "conv2d" in op.type else "Out"
        after = readers.get(op.output(slot)[0], ())
        if len(after) != 1:
            return
        op = after[0]
        yield op


def _is_fed(op: Any, readers: Mapping[str, Sequence[Any]], owners: Mapping[str, str]) -> bool:
    return _weight(op) in owners and op.input(_WEIGHTS[op.type][1])[0] in readers


def _adds_bias(op: Any, path: str, owners: Mapping[str, str]) -> bool:
    """Whether an op adds the layer's own bias (as it is, or reshaped to the channel axis)."""
    if op.type != "elementwise_add":
        return False
    return owners.get(op.input("Y")[0]) == f"{path}.bias"


def _weight(op: Any) -> str:
    return str(op.input(_WEIGHTS[op.type][0])[0])


def _path(owners: Mapping[str, str], variable: str) -> str:
    return owners[variable].rpartition(".")[0]


def _traced(bundle: Bundle) -> tuple[list[Any], dict[str, str], list[str]]:
    """Ops of the inference graph; variable -> name of the parameter it is (or a reshape of); outputs."""
    with quietly(), paddle.utils.unique_name.guard():
        net = bundle.clone().net
        spec = [paddle.static.InputSpec([None, *bundle.spec.input.shape], "float32", "x")]
        traced = paddle.jit.to_static(net, input_spec=spec, full_graph=True).forward.concrete_program
        owners = {tensor.name: path for path, tensor in [*net.named_parameters(), *net.named_buffers()]}
    ops = list(traced.main_program.global_block().ops)
    for op in ops:
        if op.type == "reshape2" and op.input("X")[0] in owners:
            owners[op.output("Out")[0]] = owners[op.input("X")[0]]
    return ops, owners, [out.name for out in traced.outputs]

"""What an ``.nb`` file holds: target, kernels, bytes by section, work in int8, what stayed float and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from export.nb.compact import compact, is_dead
from export.nb.executor import NbRuntime
from export.nb.model import KERNEL_ATTR, KINDS, NbModel, Op
from export.nb.targets import target_of
from export.nb.verify import probe_input
from slim.errors import SlimError

__all__ = ["describe", "kernel_counts", "macs_by_op", "stayed_float", "target_of"]

# Ops for which Paddle-Lite has an int8 kernel on ARM (``lite/kernels/arm``).
_WITH_INT8 = frozenset(["conv2d", "depthwise_conv2d", "conv2d_transpose", "fc", "mul", "matmul", "matmul_v2"])
_MOVES = frozenset(
    [
        "feed",
        "fetch",
        "reshape2",
        "squeeze2",
        "unsqueeze2",
        "transpose2",
        "shape",
        "slice",
        "fill_constant",
        "cast",
    ]
)
_WEIGHTS = {
    "conv2d": "Filter", "depthwise_conv2d": "Filter", "conv2d_transpose": "Filter", "fc": "W", "mul": "Y",
    "matmul": "Y", "matmul_v2": "Y",
}  # fmt: skip


def describe(model: NbModel, size: int) -> dict[str, Any]:
    """Everything ``slim inspect --json`` prints.

    Args:
        model: a file as read.
        size: its bytes on disk.

    Returns:
        ``bytes``, ``topology_bytes``, ``parameter_bytes`` (all behind the topology), ``opt_version``,
        ``meta_version``, ``target``, ``ops`` (``type``, ``kernel``, ``precision``, ``macs``), ``parameters``
        (``name``, ``shape``, ``dtype``, ``bytes``), ``bytes_by_dtype``, ``kernels`` (op type -> precision ->
        count), ``macs``, ``int8_macs``, ``int8_share`` (0..1; None where the work cannot be counted, with
        ``macs_why``), ``input`` (the shape the work was counted for), ``stayed_float`` (``type``, ``count``,
        ``macs``, ``why``), ``dead_attributes``, ``compact_bytes`` (what the compactor makes of the file).
    """
    macs, shape, why = macs_by_op(model)
    rows = [_op_row(op, work) for op, work in zip(model.ops, macs, strict=True)]
    total = sum(macs)
    int8 = sum(row["macs"] for row in rows if row["precision"] == "int8")
    dtypes: Counter[str] = Counter()
    for array in model.params.values():
        dtypes[_dtype(array)] += array.nbytes
    return {
        "bytes": size,
        "topology_bytes": model.topology_bytes,
        "parameter_bytes": max(size - 26 - model.topology_bytes, 0),
        "opt_version": model.opt_version,
        "meta_version": model.meta_version,
        "target": target_of(model),
        "ops": rows,
        "parameters": [
            {"name": name, "shape": list(array.shape), "dtype": _dtype(array), "bytes": array.nbytes}
            for name, array in model.params.items()
        ],
        "bytes_by_dtype": dict(sorted(dtypes.items())),
        "kernels": kernel_counts(model),
        "macs": total if why is None else None,
        "int8_macs": int8 if why is None else None,
        "int8_share": int8 / total if why is None and total else None,
        "macs_why": why,
        "input": shape,
        "stayed_float": stayed_float(model, macs),
        "dead_attributes": sum(is_dead(op.type, name) for op in model.ops for name in op.attrs),
        "compact_bytes": compact(model, names="keep")[1].bytes_after,
    }


def kernel_counts(model: NbModel) -> dict[str, dict[str, int]]:
    """How many kernels of each precision each op type has, as ``{"conv2d": {"int8": 42}}``."""
    counts: dict[str, Counter[str]] = {}
    for op in model.ops:
        counts.setdefault(op.type, Counter())[_precision(op)] += 1
    return {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())}


def stayed_float(model: NbModel, macs: list[int]) -> list[dict[str, Any]]:
    """Float ops that compute, by type and reason, most work first.

    Args:
        macs: multiply-adds of each op of ``model.ops``.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for op, work in zip(model.ops, macs, strict=True):
        if op.type not in _MOVES and _precision(op) != "int8":
            groups.setdefault((op.type, _why_float(op, model)), []).append(work)
    rows = [{"type": t, "count": len(w), "macs": sum(w), "why": why} for (t, why), w in groups.items()]
    return sorted(rows, key=lambda row: (-int(row["macs"]), -int(row["count"]), str(row["type"])))


def _why_float(op: Op, model: NbModel) -> str:
    if op.type not in _WITH_INT8:
        return "Paddle-Lite has no int8 kernel for it on ARM"
    weight = op.inputs.get(_WEIGHTS[op.type], ("",))[0]
    if weight not in model.params:
        return "its second operand is no stored weight"
    if model.params[weight].dtype == np.int8:
        return "weights are int8, but opt chose a float kernel"
    return "its weights are float: the layer was not quantized"


def macs_by_op(model: NbModel, x: np.ndarray | None = None) -> tuple[list[int], list[int] | None, str | None]:
    """Multiply-adds of each op for ``x`` (float32, 1 x C x H x W); None: one image of the declared shape.

    Returns:
        One number per op (0 for ops that multiply nothing), the input shape they hold for, and None, or a
        reason why they could not be counted (then all numbers are 0).
    """
    zeros = [0] * len(model.ops)
    x = probe_input(model) if x is None else x
    try:
        runtime = NbRuntime(model, any_target=True)
        traced = {id(op): (before, after) for op, before, after in runtime.shapes(x)}
    except SlimError as error:
        return zeros, None, str(error)
    found = [_MACS[op.type](op, *traced[id(op)], model) if op.type in _MACS else 0 for op in model.ops]
    return found, list(x.shape), None


Shapes = dict[str, tuple[int, ...]]


def _conv_macs(op: Op, before: Shapes, after: Shapes, model: NbModel) -> int:
    weight = model.params[op.inputs["Filter"][0]].shape
    return int(np.prod(after[op.outputs["Output"][0]])) * int(np.prod(weight[1:]))


def _transposed_macs(op: Op, before: Shapes, after: Shapes, model: NbModel) -> int:
    weight = model.params[op.inputs["Filter"][0]].shape
    return int(np.prod(before[op.inputs["Input"][0]])) * int(np.prod(weight[1:]))


def _product_macs(op: Op, before: Shapes, after: Shapes, model: NbModel) -> int:
    left = before[op.inputs["Input" if op.type == "fc" else "X"][0]]
    right = before[op.inputs["W" if op.type == "fc" else "Y"][0]]
    return int(np.prod(left)) * int(right[-1])


def _rnn_macs(op: Op, before: Shapes, after: Shapes, model: NbModel) -> int:
    steps, batch = before[op.inputs["Input"][0]][:2]
    matrices = [before[name] for name in op.inputs["WeightList"] if len(before[name]) == 2]
    return int(steps * batch * sum(rows * cols for rows, cols in matrices))


_MACS: dict[str, Callable[[Op, Shapes, Shapes, NbModel], int]] = {
    "conv2d": _conv_macs, "depthwise_conv2d": _conv_macs, "conv2d_transpose": _transposed_macs,
    "fc": _product_macs, "mul": _product_macs, "matmul": _product_macs, "matmul_v2": _product_macs,
    "rnn": _rnn_macs,
}  # fmt: skip


def _op_row(op: Op, macs: int) -> dict[str, Any]:
    return {"type": op.type, "kernel": op.attr(KERNEL_ATTR, ""), "precision": _precision(op), "macs": macs}


def _precision(op: Op) -> str:
    return op.kernel.precision if op.kernel is not None else "none"


def _dtype(array: np.ndarray) -> str:
    return KINDS[array.dtype].name.lower()

"""Before opt runs: can this program become an nb for this target? Each answer names the op and the layer."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from export import proto
from export.params import read_params
from slim.errors import InputError, UnsupportedModel

# Operators of Paddle-Lite 2.13-rc with a kernel for the target or the host, as opt itself lists them.
OPS_FILE = Path(__file__).with_name("lite_ops.json")
# Ops that mark quantization; opt turns them into int8 kernels, so no kernel of their own is needed.
QUANTIZERS = frozenset({
    "fake_quantize_abs_max", "fake_quantize_range_abs_max", "fake_quantize_moving_average_abs_max",
    "fake_quantize_dequantize_abs_max", "fake_quantize_dequantize_moving_average_abs_max",
    "fake_channel_wise_quantize_abs_max", "fake_channel_wise_quantize_dequantize_abs_max",
    "fake_channel_wise_dequantize_max_abs", "fake_dequantize_max_abs", "moving_average_abs_max_scale",
    "quantize_linear", "dequantize_linear",
})  # fmt: skip
# An int8 conv2d_transpose followed by BN: opt multiplies its scale by |alpha| once per input channel.
_FLOAT_ONLY = ("conv2d_transpose",)
_FP32 = 5


@dataclass(frozen=True)
class Preflight:
    """What was seen.

    Attributes:
        target: "arm" or "x86".
        ops: op type -> count.
        parameters: number of parameters, ``parameter_bytes`` in the file.
        input: shape of the input, -1 where dynamic.
        quantized: weights of the layers that carry a quantizer in front of them.
        notes: facts worth a line, none of them fatal.
    """

    target: str
    ops: dict[str, int]
    parameters: int
    parameter_bytes: int
    input: tuple[int, ...]
    quantized: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def quantized_layers(self) -> int:
        """Layers that have to become int8."""
        return len(self.quantized)


@cache
def supported_ops(target: str) -> frozenset[str]:
    """Op types that Paddle-Lite 2.13-rc has a kernel for on ``target`` or on the host."""
    return frozenset(json.loads(OPS_FILE.read_text(encoding="utf-8"))[target])


def preflight(prefix: Path, target: str) -> Preflight:
    """Read the program and its parameters, without Paddle's C library, and judge them.

    Raises:
        InputError: a file is damaged, or program and parameters are not from the same export.
        UnsupportedModel: an op without a kernel, a program in training mode, an input that is not float32
            N x C x H x W, several inputs or outputs.
    """
    program = proto.read_program(proto.model_path(prefix))
    params_file = proto.params_path(prefix)
    total = _parameters(program, params_file)
    _require_ops(program, target, prefix)
    _require_inference(program, prefix)
    _require_float_only(program, prefix)
    shape = _input(program, prefix)
    return Preflight(
        target,
        dict(Counter(op.type for op in proto.ops(program))),
        total,
        params_file.stat().st_size,
        shape,
        quantized_weights(program),
        tuple(_notes(program, shape)),
    )


def quantized_weights(program: Any) -> tuple[str, ...]:
    """Parameters of the convs and linear layers whose weights pass a quantizer, in the program's order."""
    makers = {name: op for op in proto.ops(program) for slot in op.outputs for name in slot.arguments}
    found: list[str] = []
    for op in proto.ops(program):
        weights = [*proto.inputs(op, "Filter"), *(proto.inputs(op, "Y") if "mul" in op.type else [])]
        for name in weights:
            if name in makers and makers[name].type in QUANTIZERS:
                found.append(_source(makers, name))
    return tuple(found)


def _source(makers: dict[str, Any], name: str) -> str:
    """What a chain of quantizers started from."""
    while name in makers and makers[name].type in QUANTIZERS:
        name = proto.inputs(makers[name], "X")[0]
    return name


def _parameters(program: Any, path: Path) -> int:
    wanted = proto.parameters(program)
    arrays = read_params(path, [v.name for v in wanted])
    for variable in wanted:
        shape, found = proto.dims(variable), arrays[variable.name].shape
        if shape != found:
            raise InputError(
                f"{variable.name!r} has shape {found}, the program says {shape}", where=path,
                remedy="take .pdmodel and .pdiparams from the same export",
            )  # fmt: skip
    return len(wanted)


def _require_ops(program: Any, target: str, prefix: Path) -> None:
    known = supported_ops(target) | QUANTIZERS
    bad = [op for op in proto.ops(program) if op.type not in known]
    if bad:
        kinds = ", ".join(sorted({op.type for op in bad}))
        raise UnsupportedModel(
            f"Paddle-Lite has no {target} kernel for {kinds} (first: {proto.layer_of(bad[0])})", where=prefix,
            remedy="replace the layer by one of the supported ops, or choose another target",
        )  # fmt: skip


def _require_inference(program: Any, prefix: Path) -> None:
    for op in proto.ops(program):
        flag = proto.attr(op, "is_test")
        training = flag is not None and not flag.b and op.type in ("batch_norm", "dropout", "rnn")
        global_stats = proto.attr(op, "use_global_stats")
        if training and not (global_stats is not None and global_stats.b):
            raise UnsupportedModel(
                f"{proto.layer_of(op)} is in training mode", where=prefix,
                remedy="call eval() on the net before exporting",
            )  # fmt: skip


def _require_float_only(program: Any, prefix: Path) -> None:
    makers = {name: op.type for op in proto.ops(program) for slot in op.outputs for name in slot.arguments}
    for op in proto.ops(program):
        if op.type in _FLOAT_ONLY and any(makers.get(n) in QUANTIZERS for n in proto.inputs(op, "Filter")):
            raise UnsupportedModel(
                f"{proto.layer_of(op)} is quantized, which opt converts with wrong scales", where=prefix,
                remedy="exclude Conv2DTranspose from quantization",
            )  # fmt: skip


def _input(program: Any, prefix: Path) -> tuple[int, ...]:
    name = proto.feed_name(program)
    proto.fetch_name(program)
    variable = proto.var(program, name)
    shape = () if variable is None else proto.dims(variable)
    if variable is None or variable.type.lod_tensor.tensor.data_type != _FP32 or len(shape) != 4:
        raise UnsupportedModel(f"input {name!r} is not float32 N x C x H x W", where=prefix)
    if shape[1] <= 0:
        raise UnsupportedModel(
            f"input {name!r} has a dynamic number of channels {shape}", where=prefix,
            remedy="export with N x 3 x H x W",
        )  # fmt: skip
    return shape


def _notes(program: Any, shape: tuple[int, ...]) -> list[str]:
    types = {op.type for op in proto.ops(program)}
    notes = []
    if shape[0] > 0:
        notes.append(f"the batch is fixed to {shape[0]}")
    if "rnn" in types and quantized_weights(program):
        notes.append("no Paddle-Lite path quantizes rnn: its weights stay float until compaction")
    read = {name for op in proto.ops(program) for slot in op.inputs for name in slot.arguments}
    unread = [v.name for v in proto.parameters(program) if v.name not in read]
    if unread and not quantized_weights(program):  # weight scales of quantizers are stored and never read
        notes.append(f"{len(unread)} parameters are read by no op (first: {unread[0]!r})")
    return notes

"""From a quantized bundle to an inference program in the old quantization format.

The program holds float32 weights and the ops fake_channel_wise_quantize_dequantize_abs_max (weights)
and fake_quantize_dequantize_moving_average_abs_max (inputs, is_test, fixed scale) in front of each
quantized conv2d, depthwise_conv2d and matmul_v2. Paddle runs it as the simulation of int8; ``opt`` turns
it into int8 kernels. Weights in it are not yet rounded, so the inference files do not shrink.

PaddleSlim's ``save_quantized_model`` saves such a program, loads it and saves it again with the ranges
copied into ``*_threshold`` attributes. The nb files of both are equal (ops, kernels, scales, weights) but
for attributes that no runtime reads and one idle ``scale`` op, so the second round is left out; with it go
static mode, the global scope and names that change from one save to the next.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import paddle
from paddle import nn

from quant import lstm, wrap
from quant.paddle_qat import quietly
from quant.scheme import QuantScheme
from slim.errors import InputError, StageFailed

if TYPE_CHECKING:
    from slim.bundle import Bundle

SUFFIXES = (".pdmodel", ".pdiparams")
INPUT_NAME = "x"
_NOT_SAVED = "__non_persistable"
_STACK = "op_callstack"


def save_inference(bundle: Bundle, prefix: Path, input_shape: Sequence[int | None]) -> None:
    """Write ``prefix``.pdmodel and ``prefix``.pdiparams of a quantized bundle.

    Args:
        bundle: finalized, with its scheme; it is not changed.
        prefix: path without extension; both files are written aside, then renamed.
        input_shape: N, C, H, W; None where any size may come, e.g. (None, 3, 32, None).
    Raises:
        InputError: the bundle is a float model, or the folder cannot be written.
        StageFailed: the net is not finalized, or Paddle cannot save it.

    The same bundle and shape give the same bytes: the program's names come from a fresh net.
    """
    if bundle.scheme is None:
        raise InputError("is a float model", where=bundle.source, remedy="quantize it first")
    scheme = QuantScheme.from_json(bundle.scheme)
    wrap.require_clips(wrap.read_clips(bundle.net), scheme)
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{prefix.name}-", dir=prefix.parent))
    except OSError as error:
        raise InputError(
            f"cannot write here ({error.strerror})", where=prefix.parent, remedy="choose another --out"
        ) from error
    try:
        _save(bundle, aside / prefix.name, list(input_shape))
        for suffix in SUFFIXES:
            os.replace(aside / (prefix.name + suffix), prefix.with_name(prefix.name + suffix))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _save(bundle: Bundle, prefix: Path, shape: list[int | None]) -> None:
    with quietly(), paddle.utils.unique_name.guard():
        net = bundle.clone(wrap.restore).net
        lstm.bake(net)
        _name_by_path(net)
        spec = [paddle.static.InputSpec(shape, "float32", INPUT_NAME)]
        try:
            # full_graph: without it a failed trace silently falls back to running python.
            paddle.jit.save(paddle.jit.to_static(net, input_spec=spec, full_graph=True), str(prefix))
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
            raise StageFailed(f"Paddle cannot save the quantized net ({str(error)[:300]})") from error
    _drop_callstacks(prefix.with_name(prefix.name + SUFFIXES[0]))


def _name_by_path(net: nn.Layer) -> None:
    """Variables of the program are called like the state's entries, not by running numbers."""
    for path, tensor in [*net.named_parameters(), *net.named_buffers()]:
        # A buffer that is not saved (the LSTM's dropout state) is recognised by the end of its name.
        tensor.name = path + _NOT_SAVED if tensor.name.endswith(_NOT_SAVED) else path


def _drop_callstacks(path: Path) -> None:
    """Paddle writes the python call stack, with this machine's paths, into some of the ops."""
    from paddle.base.proto import framework_pb2

    program = framework_pb2.ProgramDesc.FromString(path.read_bytes())
    for block in program.blocks:
        for op in block.ops:
            kept = [
                type(attr).FromString(attr.SerializeToString()) for attr in op.attrs if attr.name != _STACK
            ]
            del op.attrs[:]
            op.attrs.extend(kept)
    path.write_bytes(program.SerializeToString(deterministic=True))

"""Program fixes: what Paddle 2.6 exports and Paddle-Lite 2.13 cannot digest, cured on the ProgramDesc.

Each pass is a function from a ProgramDesc (changed in place) to the number of places it changed. It states
what it assumes; where the assumption does not hold, it leaves the place alone. Results are bit-equal in
Paddle, which the tests show by running the program before and after.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from export import proto
from export.nb.compact import is_dead
from export.params import read_params, write_params
from slim.errors import StageFailed, UnsupportedModel

Pass = Callable[[Any], int]

_QUANTIZE_DEQUANTIZE = (
    "fake_quantize_dequantize_abs_max",
    "fake_quantize_dequantize_moving_average_abs_max",
    "fake_channel_wise_quantize_dequantize_abs_max",
)
_SHAPE_PARTS = ("ShapeTensorList", "StartsTensorList", "EndsTensorList")
_ENDS = frozenset({"feed", "fetch"})
# Marks for Paddle's own quantization passes: dead in an nb, but opt may still look at it.
_READ_BY_OPT = frozenset({"skip_quant"})


def fold_conv_bias(program: Any) -> int:
    """``reshape2(bias) + elementwise_add`` becomes ``elementwise_add(axis=1)`` on the bias itself.

    Lite keeps the reshape and the add at run time (18 + 18 ops in cls); an add on a 1-D bias behind a conv is
    folded into the conv by opt. Assumes: the reshaped variable is a parameter of shape [C], its new shape is
    [1, C, 1, 1], only this add reads it, and the other side of the add has rank 4 with C channels.
    """
    done = []
    for op in proto.ops(program):
        found = _bias_of(program, op) if op.type == "reshape2" else None
        if found is None:
            continue
        add, bias = found
        for slot in add.inputs:
            if slot.parameter == "Y":
                slot.arguments[:] = [bias]
        _set_int(add, "axis", 1)
        done.append(op)
    _remove(program, done)
    return len(done)


def _bias_of(program: Any, op: Any) -> tuple[Any, str] | None:
    source, target = proto.inputs(op, "X")[0], proto.outputs(op, "Out")[0]
    bias, shaped = proto.var(program, source), proto.var(program, target)
    if bias is None or shaped is None or not bias.persistable or len(proto.dims(bias)) != 1:
        return None
    channels = proto.dims(bias)[0]
    users = proto.readers(program, target)
    if proto.dims(shaped) != (1, channels, 1, 1) or len(users) != 1:
        return None
    add, parameter = users[0]
    if add.type != "elementwise_add" or parameter != "Y":
        return None
    other = proto.var(program, proto.inputs(add, "X")[0])
    if other is None or len(proto.dims(other)) != 4 or proto.dims(other)[1] != channels:
        return None
    return add, source


def shape_zero_rank_constants(program: Any) -> int:
    """``fill_constant(shape=[])`` becomes shape [1].

    nn.LSTM with a dynamic batch builds its initial state from such 0-D constants; Lite aborts at run time
    with "no valid out_shape". Assumes: the constant is only read as one entry of a list of shape parts, where
    Paddle accepts one-element tensors as well.
    """
    count = 0
    for op in proto.ops(program):
        tensors = [*proto.inputs(op, "ShapeTensorList"), *proto.inputs(op, "ShapeTensor")]
        if op.type != "fill_constant" or tensors:
            continue
        shape = proto.attr(op, "shape")
        if shape is None or len(shape.ints) or len(shape.longs):
            continue
        target = proto.outputs(op, "Out")[0]
        users = proto.readers(program, target)
        if not users or any(parameter not in _SHAPE_PARTS for _, parameter in users):
            continue
        (shape.longs if shape.type == proto.LONGS else shape.ints).append(1)
        variable = proto.var(program, target)
        if variable is not None:
            variable.type.lod_tensor.tensor.dims[:] = [1]
        count += 1
    return count


def complete_swish(program: Any) -> int:
    """``swish`` gets the attribute beta = 1.0 where it is missing.

    opt aborts with "No attributes called beta found". Assumes nothing: 1.0 is the op's default.
    """
    count = 0
    for op in proto.ops(program):
        if op.type == "swish" and proto.attr(op, "beta") is None:
            beta = op.attrs.add()
            beta.name, beta.type, beta.f = "beta", proto.FLOAT, 1.0
            count += 1
    return count


def give_flatten_xshape(program: Any) -> int:
    """``flatten_contiguous_range`` gets an XShape output where it has none.

    Paddle 2.6 prunes that output; Lite's type inference dereferences it and opt dies with SIGSEGV. Assumes:
    nobody reads XShape in inference.
    """
    count = 0
    for op in proto.ops(program):
        if op.type != "flatten_contiguous_range" or proto.outputs(op, "XShape"):
            continue
        source = proto.var(program, proto.inputs(op, "X")[0])
        name = proto.outputs(op, "Out")[0] + ".xshape"
        slot = next((s for s in op.outputs if s.parameter == "XShape"), None) or op.outputs.add()
        slot.parameter = "XShape"
        slot.arguments[:] = [name]
        fresh = program.blocks[0].vars.add()
        if source is not None:
            fresh.CopyFrom(source)
            fresh.type.lod_tensor.tensor.dims[:] = [0, *proto.dims(source)]
        fresh.name, fresh.persistable = name, False
        count += 1
    return count


def drop_dead_attrs(program: Any) -> int:
    """Attributes that no code of the Lite runtime reads are removed, see `export.nb.compact.is_dead`.

    opt copies every attribute into the nb, 100 to 130 bytes each. Assumes: Paddle's defaults of these
    attributes are the values it exports.
    """
    count = 0
    for op in proto.ops(program):
        kept = [a for a in op.attrs if a.name in _READ_BY_OPT or not is_dead(op.type, a.name)]
        count += len(op.attrs) - len(kept)
        copies = [_copied(a) for a in kept]
        del op.attrs[:]
        op.attrs.extend(copies)
    return count


def strip_quantizers(program: Any, weights: Collection[str] | None = None) -> int:
    """Quantize-dequantize ops are taken out: the float view of a quantized program.

    Assumes: the op maps X to Out of the same shape, as all ``fake_*quantize_dequantize_*`` ops do. Programs
    that store weights as integers (``fake_*dequantize_max_abs``) are refused by `float_program`.

    Args:
        weights: only those of the layers that own these weights; None: all.
    """
    block, gone = program.blocks[0], []
    outputs = None if weights is None else _quantizers_of(program, weights)
    renamed: dict[str, str] = {}
    for op in block.ops:
        if op.type in _QUANTIZE_DEQUANTIZE:
            if outputs is not None and proto.outputs(op, "Out")[0] not in outputs:
                continue
            source = proto.inputs(op, "X")[0]
            renamed[proto.outputs(op, "Out")[0]] = renamed.get(source, source)
            gone.append(op)
    _remove(program, gone)
    for op in block.ops:
        for slot in op.inputs:
            slot.arguments[:] = [renamed.get(name, name) for name in slot.arguments]
    return len(gone)


def _quantizers_of(program: Any, weights: Collection[str]) -> set[str]:
    """Outputs of the quantizers in front of the layers that own ``weights``.

    An input quantizer that another layer reads too stays where it is.
    """
    makers = {proto.outputs(op, "Out")[0]: op for op in proto.ops(program) if op.type in _QUANTIZE_DEQUANTIZE}
    sources = {name: proto.inputs(op, "X")[0] for name, op in makers.items()}
    found: set[str] = set()
    for op in proto.ops(program):
        read = [n for slot in op.inputs for n in slot.arguments if n in makers]
        if any(sources[name] in weights for name in read):
            found |= {name for name in read if len(proto.readers(program, name)) == 1}
    return found


PASSES: tuple[Pass, ...] = (
    fold_conv_bias,
    shape_zero_rank_constants,
    complete_swish,
    give_flatten_xshape,
    drop_dead_attrs,
)


def fix_program(source: Path, target: Path, passes: tuple[Pass, ...] = PASSES) -> dict[str, int]:
    """Apply ``passes`` to the program ``source`` and write it as ``target`` (both prefixes, not the same).

    Returns:
        Pass name -> places changed. The parameter file is copied unchanged.
    """
    if source == target:
        raise StageFailed("program fixes are written beside their source, not over it", where=source)
    program = proto.read_program(proto.model_path(source))
    counts = {step.__name__: step(program) for step in passes}
    proto.write_program(program, proto.model_path(target))
    shutil.copyfile(proto.params_path(source), proto.params_path(target))
    return counts


def float_program(source: Path, target: Path, weights: Collection[str] | None = None) -> int:
    """Write the float view of a quantized program: same weights, no quantization.

    Args:
        weights: names of the weights of the layers that become float; None: all of them.
    Returns:
        How many quantizers were taken out.
    Raises:
        UnsupportedModel: the program stores integer weights, so that its float weights are lost.
    """
    program = proto.read_program(proto.model_path(source))
    lost = [
        op.type for op in proto.ops(program) if "quantize" in op.type and op.type not in _QUANTIZE_DEQUANTIZE
    ]
    if lost:
        raise UnsupportedModel(
            f"the program holds {lost[0]}, whose weights are no longer float", where=source,
            remedy="export for the target arm only",
        )  # fmt: skip
    params = read_params(proto.params_path(source), [v.name for v in proto.parameters(program)])
    count = strip_quantizers(program, weights)
    # Written too: a quantizer that stays keeps the variable of its scale.
    used = {n for op in proto.ops(program) for s in (*op.inputs, *op.outputs) for n in s.arguments}
    kept = [_copied(v) for v in program.blocks[0].vars if not v.persistable or v.name in used | _ENDS]
    del program.blocks[0].vars[:]
    program.blocks[0].vars.extend(kept)
    proto.write_program(program, proto.model_path(target))
    write_params({v.name: params[v.name] for v in proto.parameters(program)}, proto.params_path(target))
    return count


def _set_int(op: Any, name: str, value: int) -> None:
    found = proto.attr(op, name)
    if found is None:
        found = op.attrs.add()
        found.name, found.type = name, proto.INT
    found.i = value


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _remove(program: Any, gone: list[Any]) -> None:
    """Take ops out of the block, and the variables only they wrote."""
    if not gone:
        return
    block = program.blocks[0]
    written = {name for op in gone for slot in op.outputs for name in slot.arguments}
    kept = [
        _copied(op)
        for op in block.ops
        if not any(name in written for slot in op.outputs for name in slot.arguments)
    ]
    del block.ops[:]
    block.ops.extend(kept)
    used = {n for op in block.ops for slots in (op.inputs, op.outputs) for s in slots for n in s.arguments}
    variables = [_copied(v) for v in block.vars if v.persistable or v.name in used]
    del block.vars[:]
    block.vars.extend(variables)

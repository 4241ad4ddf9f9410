"""Makes ``.nb`` files smaller without changing what they compute; works on any nb, also one made elsewhere.

Each pass is a small named function from a model to a model that states what it assumes. ``compact`` runs
them in order; the writer then stores each needed field once (see ``writer.py``). All passes but
``lstm_int8`` leave every output bit as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from export.nb.model import KERNEL_ATTR, Attr, AttrType, NbModel, Op, Var, VarKind
from export.nb.names import all_ops, fixed_names, is_tensor, names_of, reads, rename, short_names, texts
from export.nb.targets import target_of
from export.nb.verify import verify_equal
from export.nb.writer import encode_nb
from slim.errors import UsageError
from slim.numerics import MATRIX_MAX_ERROR, matrix_error, quantize_matrix

# Attributes that nothing in the runtime reads (measured: dropping them leaves the outputs of the real ARM
# runtime bit-identical, with and without dot product instructions).
DEAD_ATTRS = frozenset(
    [
        "op_device",
        "op_callstack",
        "op_namescope",
        "op_role",
        "op_role_var",
        "with_quant_attr",
        "use_cudnn",
        "use_addto",
        "use_mkldnn",
        "use_quantizer",
        "exhaustive_search",
        "force_fp32_output",
        "mkldnn_data_type",
        "out_threshold",
        "Scale_in",
        "Scale_out",
        "Scale_x",
        "Scale_y",
        "Scale_weights",
        "Scale_in_eltwise",
        "fuse_activation",
        "fuse_alpha",
        "fuse_beta",
        "fuse_residual_connection",
        "fuse_relu_before_depthwise_conv",
        "place_type",
        "str_value",
        "skip_quant",
    ]
)
LIVE_THRESHOLDS = frozenset(
    ["hard_swish_threshold", "fuse_brelu_threshold", "nms_threshold", "score_threshold"]
)
_CONVS = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "depthwise_conv2d_transpose")
# What `operators/conv_op.h`, `conv_transpose_op.cc`, `pool_op.h`, `fc_op.cc` do not read.
DEAD_BY_TYPE: dict[str, frozenset[str]] = {
    **{kind: frozenset(["fuse_relu", "is_test", "data_format", "bit_length"]) for kind in _CONVS},
    "pool2d": frozenset(["is_test", "data_format"]),
    "fc": frozenset(["X0_scale", "Y0_scale", "bit_length", "trans_x", "trans_y"]),
}


@dataclass
class PassReport:
    """What one pass did: ``changes`` things, ``note`` in words."""

    name: str
    changes: int
    note: str = ""


@dataclass
class CompactionReport:
    """Bytes before and after, and the passes in order.

    Attributes:
        names: the name a variable had in the input, by its name now (only where it changed).
        lstm_errors: relative error of each LSTM matrix as int8 (root mean square), stored so or not.
    """

    bytes_before: int
    bytes_after: int = 0
    passes: list[PassReport] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    lstm_errors: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain data for a report."""
        return {
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "passes": [{"name": p.name, "changes": p.changes, "note": p.note} for p in self.passes],
            "names": dict(self.names),
            "lstm_errors": dict(self.lstm_errors),
        }


__all__ = [
    "CompactionReport",
    "PassReport",
    "compact",
    "is_dead",
    "lstm_int8",
    "verify_equal",
]

Pass = Callable[[NbModel, CompactionReport], PassReport]


def compact(
    model: NbModel, *, lstm_weights: str = "float", names: str = "variables"
) -> tuple[NbModel, CompactionReport]:
    """Apply all passes to a copy.

    Args:
        model: any nb file; a file without an LSTM accepts ``lstm_weights`` too.
        lstm_weights: "float" keeps the matrices; "int8" stores those that bear it as int8.
        names: "keep"; "variables" shortens the names of intermediate tensors, so that weights can still be
            found by name; "all" shortens the weights' names too (``report.names`` has the old ones). Names of
            inputs and outputs always stay.

    Raises:
        UsageError: an option has another value.
    """
    if lstm_weights not in ("float", "int8"):
        raise UsageError(f"lstm_weights is {lstm_weights!r}", remedy="allowed are: float, int8")
    if names not in ("keep", "variables", "all"):
        raise UsageError(f"names is {names!r}", remedy="allowed are: keep, variables, all")
    model = model.copy()
    report = CompactionReport(model.file_bytes or len(encode_nb(model)))
    passes: list[Pass] = [drop_dead_attributes, drop_unread_parameters, merge_equal_vectors]
    if lstm_weights == "int8":
        passes.append(lstm_int8)
    if names != "keep":
        passes.append(shorten_variables if names == "variables" else shorten_all)
    for run in passes:
        report.passes.append(run(model, report))
    model.meta_version = 2
    data = encode_nb(model)
    report.bytes_after = len(data)
    model.file_bytes = len(data)
    model.topology_bytes = int.from_bytes(data[18:26], "little")
    return model, report


def is_dead(op_type: str, name: str) -> bool:
    """Whether no runtime code reads this attribute of this op.

    >>> is_dead("conv2d", "Input0_threshold"), is_dead("conv2d", "hard_swish_threshold")
    (True, False)
    """
    if name in DEAD_ATTRS or name in DEAD_BY_TYPE.get(op_type, ()):
        return True
    return name.endswith("_threshold") and name not in LIVE_THRESHOLDS


def drop_dead_attributes(model: NbModel, report: CompactionReport) -> PassReport:
    """Assumes the runtime reads attributes by name (``OpDescView::GetAttr``) and none of these names.

    Known of ARM, x86 and host kernels only: files for other targets keep their attributes.
    """
    if target_of(model) not in ("arm", "x86", "host"):
        return PassReport("drop_dead_attributes", 0, "kept: what kernels of this target read is not known")
    dropped = 0
    for op in all_ops(model):
        kept = {name: attr for name, attr in op.attrs.items() if not is_dead(op.type, name)}
        dropped += len(op.attrs) - len(kept)
        op.attrs = kept
    return PassReport("drop_dead_attributes", dropped, f"{dropped} attributes that the runtime never reads")


def drop_unread_parameters(model: NbModel, report: CompactionReport) -> PassReport:
    """Assumes a parameter or variable that no op names is never looked up."""
    used = {name for op in all_ops(model) for name in names_of(op)} | texts(model)
    unread = [name for name in model.params if name not in used]
    for name in unread:
        del model.params[name]
    for block in model.program.blocks:
        block.vars = [var for var in block.vars if var.name in used or not is_tensor(var)]
    return PassReport("drop_unread_parameters", len(unread), f"{len(unread)} parameters that no op reads")


def merge_equal_vectors(model: NbModel, report: CompactionReport) -> PassReport:
    """One copy of equal float vectors that are only read as the Bias of convs.

    Assumes conv kernels read the bias and do not change it (``kernels/arm/conv_*.cc`` copy before they
    divide it by the output scale). Weights are left alone: fc repacks its weights in place
    (``fc_compute.cc``).
    """
    readers: dict[str, list[tuple[Op, str]]] = {}
    for op in all_ops(model):
        for slot, names in [*op.inputs.items(), *op.outputs.items()]:
            for name in names:
                readers.setdefault(name, []).append((op, slot))
    elsewhere = texts(model)
    first: dict[tuple[bytes, int], str] = {}
    renamed: dict[str, str] = {}
    for name in sorted(model.params, key=str.encode):
        array = model.params[name]
        only_bias = name not in elsewhere and all(
            op.type in _CONVS and slot == "Bias" for op, slot in readers.get(name, [])
        )
        if array.ndim != 1 or array.dtype != np.float32 or not only_bias:
            continue
        kept = first.setdefault((array.tobytes(), array.size), name)
        if kept != name:
            renamed[name] = kept
    for name in renamed:
        del model.params[name]
    for block in model.program.blocks:
        block.vars = [var for var in block.vars if var.name not in renamed]
    rename(model, renamed)
    return PassReport("merge_equal_vectors", len(renamed), f"{len(renamed)} biases equal to another")


def lstm_int8(model: NbModel, report: CompactionReport) -> PassReport:
    """Weight matrices of ``rnn`` as int8 with one scale each, made float again by a calib_once in front of
    it.

    Assumes the matrix is read by ``rnn`` alone. ``calib_once`` runs once per predictor
    (``RuntimeProgram::Run``, ``run_once``), so that it costs size, not time. q = round_half_away(w / s) with
    s = max|w| / 127.
    """
    changed = 0
    for block in model.program.blocks:
        ops: list[Op] = []
        for op in block.ops:
            if op.type == "rnn":
                made, op.inputs = _quantized_weights(op, model, report)
                for conversion, var in made:
                    ops.append(conversion)
                    block.vars.append(var)
                    source = conversion.inputs["Input"][0]
                    block.vars = [
                        replace(v, data_type=VarKind.INT8) if v.name == source else v for v in block.vars
                    ]
                changed += len(made)
            ops.append(op)
        block.ops = ops
    return PassReport("lstm_int8", changed, f"{changed} LSTM matrices stored as int8")


def _quantized_weights(
    rnn: Op, model: NbModel, report: CompactionReport
) -> tuple[list[tuple[Op, Var]], dict[str, tuple[str, ...]]]:
    """The calib_once ops (with their output variables) of one rnn, and its inputs reading them."""
    made: list[tuple[Op, Var]] = []
    names: list[str] = []
    for name in rnn.inputs.get("WeightList", ()):
        weight = model.params.get(name)
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32 or reads(model, name) != 1:
            names.append(name)
            continue
        integers, scale = quantize_matrix(weight)
        report.lstm_errors[name] = error = matrix_error(weight)
        if error > MATRIX_MAX_ERROR:
            names.append(name)
            continue
        model.params[name] = integers
        attrs = {
            KERNEL_ATTR: Attr(AttrType.STRING, "calib_once/int8_to_fp32/4/2/1"),
            "scale": Attr(AttrType.FLOAT, float(scale)),
        }
        made.append(
            (
                Op("calib_once", {"Input": (name,)}, {"Out": (f"{name}/f",)}, attrs),
                Var(f"{name}/f", VarKind.LOD_TENSOR, VarKind.FP32, tuple(weight.shape)),
            )
        )
        names.append(f"{name}/f")
    return made, {**rnn.inputs, "WeightList": tuple(names)}


def shorten_variables(model: NbModel, report: CompactionReport) -> PassReport:
    """Short names for intermediate tensors.

    Assumes names carry no meaning: the runtime finds variables by equality only (``Scope::FindVar``).
    """
    return _shorten(model, report, "shorten_variables", set(model.params))


def shorten_all(model: NbModel, report: CompactionReport) -> PassReport:
    """Short names for intermediate tensors and parameters; the same assumption."""
    return _shorten(model, report, "shorten_all", set())


def _shorten(model: NbModel, report: CompactionReport, title: str, kept: set[str]) -> PassReport:
    kept = kept | fixed_names(model) | texts(model)
    order = dict.fromkeys(name for op in all_ops(model) for name in names_of(op) if name not in kept)
    fresh = short_names(kept)
    renamed = {old: next(fresh) for old in order}
    renamed = {old: new for old, new in renamed.items() if len(new.encode()) < len(old.encode())}
    rename(model, renamed)
    for block in model.program.blocks:
        block.vars = [replace(var, name=renamed.get(var.name, var.name)) for var in block.vars]
    model.params = {renamed.get(name, name): array for name, array in model.params.items()}
    report.names.update({new: old for old, new in renamed.items()})
    return PassReport(title, len(renamed), f"{len(renamed)} names shortened")

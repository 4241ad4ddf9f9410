"""The ARM files' arithmetic in the real Paddle-Lite x86 runtime."""

from __future__ import annotations

import numpy as np
import pytest

from export.nb import device_math, witness
from export.nb.executor import load
from export.nb.format import KERNEL_ATTR, Attr, AttrType, NbModel, read_nb, write_nb
from slim.errors import UnsupportedModel

# Executor (exp and division exact, as on x86) against witness: largest difference of a probability.
# int8: one unit in the last place of float32 in the last layers. float: 50 layers of sums in another order.
BOUNDS = {
    "cls_int8": 1e-6,
    "rec_int8": 1e-6,
    "rec_int8_lstm8": 1e-6,
    "det_mv3_int8": 1e-6,
    "cls_fp32": 3e-5,
    "rec_fp32": 2e-5,
}


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_executor_and_witness_agree(golden, name):
    case = golden(name)
    runtime = witness.load(case.path)
    try:
        executor = load(case.path, math=device_math.LIBM)
        for x, _ in case.runs:
            assert np.abs(runtime.run(x) - executor.run(x)).max() <= BOUNDS[name]
        # Against the device itself: exp and division are approximated there, and float sums ordered
        # otherwise.
        assert case.worst(runtime.run) <= max(case.tol, 2e-5)
    finally:
        runtime.close()


def test_a_changed_scale_parts_them(golden, tmp_path):
    case = golden("cls_int8")
    model = read_nb(case.path).copy()
    conv = next(op for op in model.ops if op.type == "conv2d" and op.kernel.precision == "int8")
    conv.attrs["Input0_scale"] = Attr(AttrType.FLOATS, (conv.attrs["Input0_scale"].value[0] * 1.01,))
    write_nb(model, tmp_path / "changed.nb")
    runtime = witness.load(tmp_path / "changed.nb")
    try:
        x = case.runs[0][0]
        assert (
            np.abs(runtime.run(x) - load(case.path, math=device_math.LIBM).run(x)).max() > BOUNDS["cls_int8"]
        )
    finally:
        runtime.close()


def test_a_rewritten_file_has_float_kernels_only(golden):
    rewritten = witness.rewrite(read_nb(golden("rec_int8_lstm8").path))
    assert {op.kernel.target for op in rewritten.ops} <= {"x86", "host"}
    assert {op.kernel.precision for op in rewritten.ops} <= {"float", "any"}
    assert {array.dtype for array in rewritten.params.values()} == {np.dtype(np.float32)}
    written = [n for op in rewritten.ops if op.type != "fetch" for v in op.outputs.values() for n in v]
    assert len(written) == len(set(written))


def _changed(model: NbModel, index: int, kernel: str) -> NbModel:
    model = model.copy()
    model.ops[index].attrs[KERNEL_ATTR] = Attr(AttrType.STRING, kernel)
    return model


def test_what_has_no_counterpart_is_named(golden):
    model = read_nb(golden("block_dw3").path)
    with pytest.raises(UnsupportedModel, match="int32_to_int8"):
        witness.rewrite(_changed(model, 1, "calib/int32_to_int8/4/2/1"))
    with pytest.raises(UnsupportedModel, match="not one of an ARM file"):
        witness.rewrite(_changed(model, 1, "calib/fp32_to_int8/2/2/1"))

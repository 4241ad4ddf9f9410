"""The ARM files' arithmetic in the real Paddle-Lite x86 runtime."""

from __future__ import annotations

import numpy as np
import pytest

from export.nb import device_math, witness
from export.nb.executor import load
from export.nb.format import (
    KERNEL_ATTR,
    Attr,
    AttrType,
    Block,
    NbModel,
    Op,
    Program,
    Var,
    VarKind,
    read_nb,
    write_nb,
)
from slim.errors import UnsupportedModel

from .test_executor import BLOCKS

# Executor (exp and division exact, as on x86) against witness: largest difference of an output value.
# Models: probabilities. int8: one unit in the last place of float32 in the last layers. float: 50 layers of
# sums in another order, 1.3e-5 measured for cls and 4.5e-6 for rec.
# Blocks: values up to 25, of which 1.9e-6 is one unit in the last place.
BLOCK = 2e-6
BOUNDS = {
    "cls_int8": 1e-6,
    "rec_int8": 1e-6,
    "rec_int8_lstm8": 1e-6,
    "det_mv3_int8": 1e-6,
    "det_mv3_fp32": 1e-6,
    "cls_fp32": 3e-5,
    "rec_fp32": 2e-5,
    **{f"block_{name}": BLOCK for name in BLOCKS},
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


@pytest.mark.parametrize("axis", ["conv", "fc"])
def test_sums_beyond_24_bits_are_cut_into_digits(tmp_path, axis):
    """5,000 products of +-127: 80 million does not fit the 24 bits of a float32 sum."""
    rng = np.random.default_rng(7)
    # Multiples of the input scale, so that calib gives +-127 and 126: odd sums, which float32 must round.
    x = (rng.choice([-127, 126, 127], (1, 5000, 1, 4)) * np.float32(0.01)).astype(np.float32)
    w = np.where(rng.random((3, 5000)) < 0.9, 127, -126).astype(np.int8)
    path = tmp_path / "long.nb"
    write_nb(_long_sums(axis, w), path)
    if axis == "fc":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    runtime = witness.load(path)
    try:
        seen, found = runtime.run(x), load(path).run(x)
    finally:
        runtime.close()
    integers = np.rint(x.astype(np.float64) / 0.01)
    exact = w.astype(np.float64) @ (integers[0, 0].T if axis == "fc" else integers[0, :, 0])
    assert np.abs(exact).max() > 2**24 and (exact.astype(np.float32) != exact).any()
    wanted = exact.astype(np.float32) * (np.float32(1e-6) * np.float32(0.01))
    wanted = (wanted.T if axis == "fc" else wanted).ravel()
    assert np.array_equal(found.ravel(), wanted)
    assert np.array_equal(seen.ravel(), wanted)


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


def _long_sums(kind: str, w: np.ndarray) -> NbModel:
    """feed, calib, an int8 conv or fc with float output, fetch."""

    def op(name: str, kernel: str, inputs: dict, outputs: dict, **attrs: Attr) -> Op:
        marks = {KERNEL_ATTR: Attr(AttrType.STRING, kernel), **attrs}
        return Op(name, {k: (v,) for k, v in inputs.items()}, {k: (v,) for k, v in outputs.items()}, marks)

    floats, ints = (lambda *v: Attr(AttrType.FLOATS, v)), (lambda *v: Attr(AttrType.INTS, v))
    scales = floats(1e-6, 1e-6, 1e-6)
    if kind == "conv":
        w = w.reshape(3, 5000, 1, 1)
        inner = op("conv2d", "conv2d/fp32_out/4/2/1", {"Input": "q", "Filter": "w"}, {"Output": "y"},
            strides=ints(1, 1), paddings=ints(0, 0), dilations=ints(1, 1), groups=Attr(AttrType.INT, 1),
            Input0_scale=floats(0.01), Filter0_scale=scales)  # fmt: skip
    else:
        w = np.ascontiguousarray(w.T)
        inner = op("fc", "fc/fp32out/4/2/1", {"Input": "q", "W": "w"}, {"Out": "y"},
            in_num_col_dims=Attr(AttrType.INT, 3), op_type=Attr(AttrType.STRING, "matmul_v2"),
            Input0_scale=floats(0.01), W0_scale=scales)  # fmt: skip
    number = Attr(AttrType.INT, 0)
    ops = [
        op("feed", "feed/def/1/4/2", {"X": "feed"}, {"Out": "x"}, col=number),
        op(
            "calib",
            "calib/fp32_to_int8/4/2/1",
            {"Input": "x"},
            {"Out": "q"},
            scale=Attr(AttrType.FLOAT, 0.01),
        ),
        inner,
        op("fetch", "fetch/def/1/4/2", {"X": "y"}, {"Out": "fetch"}, col=number),
    ]
    ends = [
        Var("feed", VarKind.FEED_MINIBATCH, persistable=True),
        Var("fetch", VarKind.FETCH_LIST, persistable=True),
    ]
    names = [Var(n, VarKind.LOD_TENSOR, VarKind.FP32, ()) for n in ("x", "q", "y")]
    names.append(Var("w", VarKind.LOD_TENSOR, VarKind.INT8, w.shape, persistable=True))
    return NbModel("v2.13-rc", Program([Block(vars=ends + names, ops=ops)]), {"w": w})


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

"""Compaction: sizes, equal outputs, and what each pass must leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from export.nb import witness
from export.nb.compact import compact, is_dead, verify_equal
from export.nb.executor import NbRuntime
from export.nb.format import (
    KERNEL_ATTR,
    Attr,
    AttrType,
    NbModel,
    Program,
    encode_nb,
    parse_nb,
    read_nb,
)
from slim.errors import NbFormatError, StageFailed, UsageError
from slim.numerics import MATRIX_MAX_ERROR, quantize_matrix

# Bytes, of files as opt writes them; the first three are the limits of the project's size promise.
LIMITS = {
    "cls_int8": 220_000,
    "rec_int8": 1_112_000,
    "cls_fp32": 570_000,
    "rec_fp32": 1_830_000,
    "det_mv3_int8": 305_000,
    "block_se": 5_500,
}


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_small_and_bit_equal(golden, name):
    case = golden(name)
    before = read_nb(case.path)
    after, report = compact(before)
    data = encode_nb(after)
    assert len(data) == report.bytes_after <= LIMITS[name]
    assert report.bytes_before == case.path.stat().st_size
    x = case.runs[0][0][:2]
    assert NbRuntime(before).run(x).tobytes() == NbRuntime(parse_nb(data)).run(x).tobytes()


def test_compaction_is_deterministic_and_ends(golden):
    once, _ = compact(read_nb(golden("cls_int8").path))
    twice, report = compact(parse_nb(encode_nb(once)))
    assert encode_nb(once) == encode_nb(twice)
    assert all(p.changes == 0 for p in report.passes)


def test_the_input_is_not_changed(golden):
    model = read_nb(golden("rec_int8").path)
    before = encode_nb(model)
    compact(model, lstm_weights="int8", names="all")
    assert encode_nb(model) == before


def test_lstm_weights_as_int8(golden):
    """The same rule as in the golden that ran on the device: its outputs hold for ours too."""
    case, device = golden("rec_int8"), golden("rec_int8_lstm8")
    model, report = compact(read_nb(case.path), lstm_weights="int8")
    assert report.bytes_after <= 550_000 and len(report.lstm_errors) == 8
    assert max(report.lstm_errors.values()) < MATRIX_MAX_ERROR
    # float32 sums in another order than on the device.
    assert device.worst(NbRuntime(parse_nb(encode_nb(model))).run) <= 1e-6
    conversions = [op for op in model.ops if op.type == "calib_once"]
    rnn = next(i for i, op in enumerate(model.ops) if op.type == "rnn")
    assert len(conversions) == 8 and [op.type for op in model.ops[rnn - 8 : rnn]] == ["calib_once"] * 8
    assert model.params[conversions[0].inputs["Input"][0]].dtype == np.int8


def test_a_matrix_that_int8_would_spoil_stays_float(golden):
    model = read_nb(golden("rec_fp32").path).copy()
    rnn = next(op for op in model.ops if op.type == "rnn")
    name = rnn.inputs["WeightList"][2]
    spoiled = model.params[name].copy()
    spoiled[0, 0] = 100.0  # one outlier takes all steps of the scale
    model.params[name] = spoiled
    after, report = compact(model, lstm_weights="int8", names="keep")
    assert report.lstm_errors[name] > MATRIX_MAX_ERROR
    assert after.params[name].dtype == np.float32
    assert sum(op.type == "calib_once" for op in after.ops) == 7


def test_a_file_without_lstm_accepts_the_flag(golden):
    model = read_nb(golden("cls_int8").path)
    assert encode_nb(compact(model, lstm_weights="int8")[0]) == encode_nb(compact(model)[0])


def test_names_of_inputs_and_outputs_stay(golden):
    model = read_nb(golden("rec_int8").path)
    for names in ("variables", "all"):
        after, report = compact(model, names=names)
        feed = next(op for op in after.ops if op.type == "feed")
        fetch = next(op for op in after.ops if op.type == "fetch")
        assert feed.outputs["Out"] == ("x",)
        assert fetch.inputs["X"] == ("save_infer_model/scale_0.tmp_0",)
        assert (set(after.params) == set(model.params)) == (names == "variables")
        assert {report.names.get(n, n) for n in after.params} == set(model.params)
        used = {n for op in after.ops for v in [*op.inputs.values(), *op.outputs.values()] for n in v}
        assert used == {v.name for v in after.program.blocks[0].vars}


def test_variables_named_in_attributes_keep_their_names(golden):
    model = read_nb(golden("block_two").path).copy()
    inner = model.ops[2].outputs[next(iter(model.ops[2].outputs))][0]
    model.ops[1].attrs["output_data_names"] = Attr(AttrType.STRINGS, (inner, "also named"))
    model.params["also named"] = np.zeros(2, np.float32)
    after, _ = compact(model, names="all")
    names = {n for op in after.ops for v in op.outputs.values() for n in v}
    assert inner in names and "also named" in after.params


def test_dead_and_live_attributes():
    assert is_dead("conv2d", "op_device") and is_dead("pool2d", "X0_threshold")
    assert not is_dead("conv2d", "hard_swish_threshold") and not is_dead("hard_swish", "threshold")
    assert is_dead("conv2d", "data_format") and not is_dead("transpose2", "data_format")
    for name in ("with_act", "act_type", "Input0_scale", "padding_algorithm", "enable_int8", KERNEL_ATTR):
        assert not is_dead("conv2d", name)


def test_other_targets_keep_their_attributes(golden):
    model = read_nb(golden("block_dw3").path).copy()
    for op in model.ops:
        op.attrs[KERNEL_ATTR] = Attr(AttrType.STRING, f"{op.type}/def/5/5/1")
    after, _ = compact(model)
    assert [set(op.attrs) for op in after.ops] == [set(op.attrs) for op in model.ops]


def test_unread_parameters_and_equal_biases_go(golden):
    case = golden("cls_int8")
    model = read_nb(case.path).copy()
    biases = [op.inputs["Bias"][0] for op in model.ops if op.type == "conv2d" and op.inputs.get("Bias")]
    first = biases[0]
    second = next(b for b in biases[1:] if model.params[b].shape == model.params[first].shape)
    model.params[second] = model.params[first].copy()
    model.params["nobody"] = np.zeros(1000, np.float32)
    after, report = compact(model, names="keep")
    changes = {p.name: p.changes for p in report.passes}
    assert changes["drop_unread_parameters"] == changes["merge_equal_vectors"] == 1
    assert set(model.params) - set(after.params) == {"nobody", max(first, second)}
    x = case.runs[0][0]
    assert np.array_equal(NbRuntime(model).run(x), NbRuntime(after).run(x))


def test_verification_sees_a_changed_output(golden):
    model = read_nb(golden("block_convbnhs").path)
    after, report = compact(model)
    result = verify_equal(model, after, report)
    assert result["executed"] and result["bit_equal"] and result["max_abs"] == 0.0
    broken = after.copy()
    name = next(n for n, a in broken.params.items() if a.dtype == np.int8)
    broken.params[name] = -broken.params[name]
    with pytest.raises(StageFailed, match="compaction moved the output"):
        verify_equal(model, broken, report)


def test_verification_says_what_it_cannot_run(golden):
    model = read_nb(golden("block_dw3").path).copy()
    for op in model.ops:
        op.attrs[KERNEL_ATTR] = Attr(AttrType.STRING, f"{op.type}/def/5/5/1")
    after, report = compact(model)
    result = verify_equal(model, after, report)
    assert not result["executed"] and "opencl" in result["why"]


@pytest.mark.parametrize(("option", "value"), [("lstm_weights", "int4"), ("names", "none")])
def test_unknown_options_list_the_known(golden, option, value):
    with pytest.raises(UsageError, match="allowed are"):
        compact(read_nb(golden("block_dw3").path), **{option: value})


def test_rounding_of_matrices():
    integers, scale = quantize_matrix(np.array([[-2.54, 2.54, 0.01, 0.0]], np.float32))
    assert integers.tolist() == [[-127, 127, 1, 0]] and scale == np.float32(0.02)
    zeros, scale = quantize_matrix(np.zeros((2, 2), np.float32))
    assert not zeros.any() and scale == 1


def test_an_empty_model_is_no_model():
    with pytest.raises(NbFormatError, match="no block"):
        parse_nb(encode_nb(NbModel("v2.13-rc", Program([]))))


def test_x86_files_are_verified_in_the_real_runtime(golden):
    model = witness.rewrite(read_nb(golden("cls_int8").path))
    after, report = compact(model)
    result = verify_equal(model, after, report)
    assert result["executed"] and result["bit_equal"]


def test_a_file_with_an_unknown_op_is_compacted_and_said_to_be_unverified(golden):
    model = read_nb(golden("block_dw3").path).copy()
    model.ops[1].type = "grid_sampler"
    after, report = compact(model)
    result = verify_equal(model, after, report)
    assert not result["executed"] and "grid_sampler" in result["why"]

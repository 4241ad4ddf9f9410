"""The executor against outputs of the real ARM kernels, and files it must refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from export.nb.executor import NbRuntime, load, output_scale
from export.nb.format import KERNEL_ATTR, Attr, AttrType, NbModel, read_nb
from slim.errors import InputError, UnsupportedModel

BLOCKS = ["conv1x1", "conv3x3", "conv3x3s2", "convbnhs", "dw3", "dw3s21", "dw5", "dw5hs", "se", "two"]
# Measured differences to the device; a wrong rule shows up above these long before the golden's own
# tolerance. float32: 24 bits, sums of up to 2,600 products in another order.
SHARP = {
    "cls_fp32": 5e-6,
    "cls_int8": 1e-8,
    "rec_fp32": 2e-6,
    "rec_int8": 1e-6,
    "rec_int8_lstm8": 1e-6,
    "det_mv3_fp32": 5e-7,
    "det_mv3_int8": 5e-7,
}


@pytest.mark.parametrize("name", [f"block_{b}" for b in BLOCKS])
def test_int8_blocks_equal_the_device_bit_by_bit(golden, name):
    case = golden(name)
    assert case.worst(load(case.path).run) == 0.0


@pytest.mark.parametrize("name", sorted(SHARP))
def test_models_agree_with_the_device(golden, name):
    case = golden(name)
    runtime = load(case.path)
    assert SHARP[name] <= case.tol
    assert case.worst(runtime.run) <= SHARP[name]
    for x, y in case.runs:
        out = runtime.run(x)
        if not name.startswith("det"):
            assert np.array_equal(out.argmax(-1), y.reshape(out.shape).argmax(-1))


def test_output_has_the_shape_of_the_fetch(golden):
    assert load(golden("cls_int8").path).run(np.zeros((3, 3, 48, 192), np.float32)).shape == (3, 2)
    rec = load(golden("rec_int8").path)
    assert rec.run(np.zeros((1, 3, 32, 160), np.float32)).shape == (1, 40, 97)


def test_a_batch_is_the_images_one_by_one(golden):
    case = golden("rec_int8")
    runtime = load(case.path)
    x = np.concatenate([case.runs[0][0]] * 5)
    alone = np.concatenate([runtime.run(x[i : i + 1]) for i in range(len(x))])
    # int8 sums are exact in any order; the LSTM's float sums (288 products) may be ordered otherwise.
    assert np.abs(runtime.run(x) - alone).max() <= 1e-6


def _int8_conv(model: NbModel) -> int:
    return next(i for i, op in enumerate(model.ops) if op.type == "conv2d" and op.kernel.precision == "int8")


def _scale(model: NbModel) -> None:
    op = model.ops[_int8_conv(model)]
    scale = op.attrs["Input0_scale"].value[0]
    op.attrs["Input0_scale"] = Attr(AttrType.FLOATS, (scale * 1.01,))


def _weight(model: NbModel) -> None:
    name = model.ops[_int8_conv(model)].inputs["Filter"][0]
    changed = model.params[name].copy()
    changed.flat[3] = -changed.flat[3] if abs(int(changed.flat[3])) > 8 else 64
    model.params[name] = changed


def _attr(model: NbModel) -> None:
    op = next(op for op in model.ops if op.type == "conv2d" and op.attr("with_act"))
    op.attrs["with_act"] = Attr(AttrType.BOOLEAN, False)


@pytest.mark.parametrize("damage", [_scale, _weight, _attr])
@pytest.mark.parametrize("name", ["block_convbnhs", "cls_int8", "rec_int8"])
def test_one_changed_scale_weight_or_attribute_is_seen(golden, name, damage):
    case = golden(name)
    model = read_nb(case.path).copy()
    damage(model)
    assert case.worst(NbRuntime(model).run) > case.tol


def test_activations_are_traced_in_order(golden):
    case = golden("block_convbnhs")
    runtime = load(case.path)
    x = case.runs[0][0]
    seen = runtime.trace(x)
    assert [op.type for op, _ in seen][:2] == ["calib", "conv2d"]
    (quantized,) = seen[0][1].values()
    assert np.array_equal(quantized, np.rint(quantized)) and np.abs(quantized).max() <= 127
    scale = output_scale(seen[0][0])
    # Half a step, and the rounding of x/scale.
    assert np.abs(quantized * scale - np.clip(x, -127 * scale, 127 * scale)).max() <= scale * 0.501
    assert output_scale(seen[1][0]) is None


def _with_op(model: NbModel, index: int, **changes: object) -> NbModel:
    model = model.copy()
    model.program.blocks[0].ops[index] = replace(model.ops[index], **changes)
    return model


def test_an_unknown_operator_is_named(golden):
    model = read_nb(golden("block_dw3").path)
    with pytest.raises(UnsupportedModel, match="grid_sampler"):
        NbRuntime(_with_op(model, 1, type="grid_sampler"))


def test_a_foreign_kernel_is_named(golden):
    model = read_nb(golden("block_dw3").path)
    op = model.ops[1]
    attrs = {**op.attrs, KERNEL_ATTR: Attr(AttrType.STRING, "calib/fp32_to_int8/2/2/1")}
    with pytest.raises(UnsupportedModel, match="is for x86 .*calib/fp32_to_int8/2/2/1"):
        NbRuntime(_with_op(model, 1, attrs=attrs))


def test_an_unknown_int8_kernel_is_named(golden):
    model = read_nb(golden("block_dw3").path)
    index = next(i for i, op in enumerate(model.ops) if op.type == "depthwise_conv2d")
    attrs = {**model.ops[index].attrs, KERNEL_ATTR: Attr(AttrType.STRING, "depthwise_conv2d/int4_out/4/2/1")}
    with pytest.raises(UnsupportedModel, match="int4_out"):
        NbRuntime(_with_op(model, index, attrs=attrs))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_scale_is_refused(golden, value):
    model = read_nb(golden("block_dw3").path)
    index = next(i for i, op in enumerate(model.ops) if op.type == "calib")
    attrs = {**model.ops[index].attrs, "scale": Attr(AttrType.FLOAT, value)}
    with pytest.raises(UnsupportedModel, match="positive and finite"):
        NbRuntime(_with_op(model, index, attrs=attrs))


@pytest.mark.parametrize(
    "x",
    [np.zeros((1, 3, 48, 192)), np.zeros((3, 48, 192), np.float32), np.zeros((0, 3, 48, 192), np.float32)],
)
def test_inputs_of_another_kind_are_refused(golden, x):
    with pytest.raises(InputError, match="float32 N x C x H x W"):
        load(golden("cls_int8").path).run(x)


def test_an_input_that_does_not_fit_is_one_line(golden):
    with pytest.raises(UnsupportedModel, match="5 channels|does not fit a filter"):
        load(golden("cls_int8").path).run(np.zeros((1, 5, 48, 192), np.float32))

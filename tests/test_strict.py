"""A checkpoint fits whole or not at all, and the one error lists everything."""

from __future__ import annotations

import numpy as np
import pytest
from paddle import nn

from slim.errors import CheckpointError
from slim.strict import generation, load_strict


def net() -> nn.Layer:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1D(4))


def state_of(layer: nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}


def test_weights_are_copied():
    layer, given = net(), {name: array + 1 for name, array in state_of(net()).items()}
    load_strict(layer, given, where="a.pdparams")
    assert {name: array.tobytes() for name, array in state_of(layer).items()} == {
        name: array.tobytes() for name, array in given.items()
    }


def test_every_misfit_is_listed_in_one_error_and_the_net_stays():
    layer = net()
    before = state_of(layer)
    given = {name: array + 1 for name, array in before.items()}
    del given["0.bias"], given["1._mean"]
    given["other"], given["0.weight"] = np.zeros(1, np.float32), np.zeros((3, 5), np.float32)
    given["1.weight"] = given["1.weight"].astype(np.float64)
    with pytest.raises(CheckpointError) as caught:
        load_strict(layer, given, where="a.pdparams")
    assert str(caught.value) == (
        "a.pdparams: the weights do not fit the net (2 missing: 0.bias, 1._mean; 1 unexpected: other;"
        " 2 of another shape or dtype: 0.weight [3, 5] instead of [3, 4],"
        " 1.weight float64 instead of float32);"
        " give the config the checkpoint was trained with (-c), or the plan it was pruned with"
    )
    assert {k: v.tobytes() for k, v in state_of(layer).items()} == {k: v.tobytes() for k, v in before.items()}


def test_a_long_list_is_not_cut_short():
    others = {f"x{k:02d}": np.zeros(1) for k in range(60)}
    with pytest.raises(CheckpointError, match=f"60 unexpected: {', '.join(others)}"):
        load_strict(net(), {**state_of(net()), **others}, where="a")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_checkpoint_of_a_diverged_training_is_refused(value):
    given = state_of(net())
    given["0.bias"][2] = value
    with pytest.raises(CheckpointError, match=r"1 tensors hold NaN or infinity: 0.bias"):
        load_strict(net(), given, where="a.pdparams")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Student.backbone.conv1.conv.weight", "distillation checkpoint"),
        ("Teacher.head.fc.weight", "distillation checkpoint"),
        ("backbone.blocks2.0.dw_conv.conv_kxk.0.conv.weight", "PP-OCRv4"),
        ("neck.ins_conv.0.in_conv.weight", "PP-OCRv3 or v4 detector"),
        ("head.ctc_encoder.encoder.svtr_block.0.norm1.weight", "PP-OCRv3 or v4 recognizer"),
        ("backbone.conv1._conv.weight", "MobileNetV1Enhance"),
    ],
)
def test_other_generations_are_recognised_and_named(name, said):
    with pytest.raises(CheckpointError, match=f"{said}.*use a PP-OCR v2.0 model"):
        load_strict(net(), {**state_of(net()), name: np.zeros(1, np.float32)}, where="a.pdparams")


def test_a_checkpoint_wrapped_by_a_quantizer_is_named():
    wrapped = {"conv._fake_quant_weight.scale": np.zeros(1, np.float32)}
    with pytest.raises(CheckpointError, match="wrapped by a quantizer: use the float checkpoint"):
        load_strict(net(), {**state_of(net()), **wrapped}, where="a.pdparams")


def test_version_2_0_names_belong_to_no_other_generation():
    names = {
        "backbone.conv1.conv.weight",
        "backbone.conv1_1._conv.weight",
        "neck.in2_conv.weight",
        "head.fc.weight",
    }
    assert generation(names) is None

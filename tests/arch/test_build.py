"""Nets from Architecture sections: names, shapes, modes, and what must be refused."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from slim.arch import build_net
from slim.errors import UnsupportedModel

BACKBONE = {"name": "MobileNetV3", "model_name": "small", "scale": 0.35}
CLS = {"model_type": "cls", "Backbone": BACKBONE, "Head": {"name": "ClsHead", "class_dim": 2}}
REC = {
    "model_type": "rec",
    "Backbone": {**BACKBONE, "small_stride": [1, 2, 2, 2]},
    "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 8},
    "Head": {"name": "CTCHead", "fc_decay": 0.00001},
}
DET = {
    "model_type": "det",
    "Backbone": {"name": "MobileNetV3", "model_name": "large", "scale": 0.5, "disable_se": True},
    "Neck": {"name": "DBFPN", "out_channels": 32},
    "Head": {"name": "DBHead", "k": 50},
}
SERVER = {**DET, "Backbone": {"name": "ResNet", "layers": 18}}


def shape_of(arch, size, *, train: bool) -> list[int]:
    net = build_net(arch, 7)
    net.train() if train else net.eval()
    with paddle.no_grad():
        return net(paddle.zeros([2, 3, *size])).shape


@pytest.mark.parametrize(
    ("arch", "size", "shape"),
    [
        (CLS, (48, 192), [2, 7]),
        (REC, (32, 100), [2, 25, 7]),
        (REC, (32, 320), [2, 80, 7]),
        (DET, (64, 96), [2, 1, 64, 96]),
        (SERVER, (64, 64), [2, 1, 64, 64]),
    ],
)
def test_output_shapes(arch, size, shape):
    assert shape_of(arch, size, train=False) == shape


@pytest.mark.filterwarnings("ignore:When training, we now always track")
def test_modes_probabilities_in_eval_logits_and_maps_in_training():
    paddle.seed(0)  # a net of other random weights may have no negative logit at all
    for arch, size in ((CLS, (48, 192)), (REC, (32, 64))):
        net = build_net(arch, 7)
        x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32))
        net.eval()
        sums = net(x).sum(axis=-1).numpy()
        assert sums == pytest.approx(np.ones_like(sums), abs=1e-5)  # softmax in float32
        net.train()
        assert float(net(x).min()) < 0
    assert shape_of(DET, (64, 96), train=True) == [2, 3, 64, 96]


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        (
            CLS,
            {
                "backbone.conv1.conv.weight",
                "backbone.conv1.bn._mean",
                "backbone.blocks.0.mid_se.conv1.bias",
                "backbone.blocks.10.linear_conv.bn._variance",
                "backbone.conv2.conv.weight",
                "head.fc.weight",
            },
        ),
        (
            REC,
            {
                "neck.encoder.lstm.weight_ih_l0",
                "neck.encoder.lstm.0.cell_fw.weight_ih",
                "neck.encoder.lstm.bias_hh_l1_reverse",
                "head.fc.bias",
            },
        ),
        (
            DET,
            {
                "backbone.conv.conv.weight",
                "backbone.stage0.0.expand_conv.conv.weight",
                "backbone.stage3.3.conv.weight",
                "neck.in2_conv.weight",
                "neck.p5_conv.weight",
                "head.binarize.conv2.bias",
                "head.thresh.conv_bn2._mean",
            },
        ),
        (
            SERVER,
            {
                "backbone.conv1_1._conv.weight",
                "backbone.bb_0_0.short._conv.weight",
                "backbone.bb_3_1.conv1._batch_norm._variance",
            },
        ),
    ],
)
def test_names_of_the_official_checkpoints(arch, names):
    assert names <= set(build_net(arch, 7).state_dict())


def test_a_head_with_mid_channels_has_two_layers():
    head = {"name": "CTCHead", "mid_channels": 12}
    assert build_net({**REC, "Head": head}, 7).state_dict()["head.fc2.weight"].shape == [12, 7]


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({**CLS, "model_type": "kie"}, "model_type is 'kie'; use cls, rec or det"),
        ({**REC, "Transform": {"name": "TPS"}}, "Transform 'TPS' is not supported"),
        ({**CLS, "Backbone": None}, "Architecture.Backbone has no name"),
        ({**CLS, "Backbone": {"name": "PPLCNetV3"}}, "Backbone 'PPLCNetV3' is not known for cls"),
        ({**CLS, "Backbone": {**BACKBONE, "model_name": "tiny"}}, "model_name 'tiny' is not known"),
        ({**CLS, "Backbone": {**BACKBONE, "depth": 3}}, "Backbone arguments .* do not fit"),
        (
            {**REC, "Backbone": {**BACKBONE, "small_stride": [1, 2]}},
            "small_stride has 2 entries, must have 4",
        ),
        ({**REC, "Neck": {"name": "SVTR"}}, "Neck 'SVTR' is not known; use SequenceEncoder or DBFPN"),
        ({**REC, "Head": {"name": "SARHead"}}, "Head 'SARHead' is not known"),
        ({**SERVER, "Backbone": {"name": "ResNet", "layers": 20}}, "ResNet layers is 20"),
    ],
)
def test_what_is_not_known_is_named(arch, message):
    with pytest.raises(UnsupportedModel, match=message):
        build_net(arch, 2)

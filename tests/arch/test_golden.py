"""The bundled weights give the outputs that the same models gave on real ARM kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

from slim import zoo
from slim.arch import build_net
from slim.arch.layers import SqueezeExcite
from slim.checkpoint import read_pdparams
from slim.numerics import max_abs
from slim.strict import load_strict

CLS = {
    "model_type": "cls",
    "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": 0.35},
    "Head": {"name": "ClsHead", "class_dim": 2},
}
REC = {
    "model_type": "rec",
    "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": 0.5, "small_stride": [1, 2, 2, 2]},
    "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 48},
    "Head": {"name": "CTCHead"},
}
MODELS = {
    "cls": (CLS, 2, zoo.find("ch_ppocr_mobile_v2.0_cls").path, "cls_fp32.npz"),
    "rec": (REC, 97, zoo.find("en_number_synthetic_crnn").path, "rec_fp32.npz"),
}
TOLERANCE = 1e-4  # probability; the device approximates exp and sums floats in another order


def opened(kind: str) -> paddle.nn.Layer:
    arch, classes, path, _ = MODELS[kind]
    net = build_net(arch, classes)
    load_strict(net, read_pdparams(path), where=path)
    net.eval()
    return net


def distance(kind: str, net: paddle.nn.Layer, checkout: Path) -> float:
    golden = np.load(checkout / "tests/golden/nb" / MODELS[kind][3])
    inputs = np.load(checkout / "tests/golden/nb/inputs.npz")
    rows = [name for name in golden.files if name.startswith("y_")]
    assert rows
    found = []
    for name in rows:
        with paddle.no_grad():
            out = net(paddle.to_tensor(inputs[name.removeprefix("y_")])).numpy()
        expected = golden[name]
        found.append(max_abs(out.reshape(expected.shape), expected))
    return max(found)


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_golden_outputs_are_reproduced(checkout, kind):
    assert distance(kind, opened(kind), checkout) <= TOLERANCE


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_another_gate_slope_would_be_seen(checkout, monkeypatch, kind):
    """Sabotage twin: Paddle's default slope 1/6 instead of 0.2."""
    monkeypatch.setattr(SqueezeExcite, "SLOPE", 1 / 6)
    assert distance(kind, opened(kind), checkout) > 10 * TOLERANCE


def test_a_shortcut_at_a_stride_of_one_by_one_would_be_seen(checkout):
    """Sabotage twin: rec's first block has stride (1, 1) and no shortcut."""
    net = opened("rec")
    net.backbone.blocks[0].shortcut = True
    assert distance("rec", net, checkout) > 10 * TOLERANCE

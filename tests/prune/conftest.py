"""Nets of every architecture, with weights and BatchNorm statistics that spread the outputs."""

from __future__ import annotations

import zlib  # noqa: F401  before paddle, whose library brings a zlib of its own
from collections.abc import Callable
from functools import cache
from typing import Any

import paddle
import pytest
from paddle import nn

from benchmarks.published import settle
from prune.groups import Group, find_groups
from slim.arch import build_net
from slim.bundle import Bundle, complete_lstm_names
from slim.checkpoint import read_pdparams
from slim.spec import InputSpec, ModelSpec
from slim.strict import load_strict
from slim.zoo import find

ARCHS: dict[str, dict[str, Any]] = {
    "cls": {
        "model_type": "cls",
        "Backbone": {"name": "MobileNetV3", "scale": 0.35, "model_name": "small"},
        "Neck": None,
        "Head": {"name": "ClsHead"},
    },
    "rec": {
        "model_type": "rec",
        "Backbone": {
            "name": "MobileNetV3",
            "scale": 0.5,
            "model_name": "small",
            "small_stride": [1, 2, 2, 2],
        },
        "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 48},
        "Head": {"name": "CTCHead"},
    },
    "det_mv3": {
        "model_type": "det",
        "Backbone": {"name": "MobileNetV3", "scale": 0.35, "model_name": "large", "disable_se": True},
        "Neck": {"name": "DBFPN", "out_channels": 32},
        "Head": {"name": "DBHead"},
    },
    "det_res18": {
        "model_type": "det",
        "Backbone": {"name": "ResNet", "layers": 18},
        "Neck": {"name": "DBFPN", "out_channels": 32},
        "Head": {"name": "DBHead"},
    },
    # A net of a user's, written out in a configuration.
    "layers": {
        "model_type": "rec",
        "Backbone": {
            "name": "Layers",
            "layers": [
                {"ConvBN": {"out_channels": 12, "stride": 2}},
                {
                    "Residual": {
                        "layers": [{"ConvBN": {"out_channels": 12}}, {"ConvBN": {"out_channels": 12}}]
                    }
                },
                {
                    "Residual": {
                        "layers": [
                            {"ConvBN": {"out_channels": 24, "kernel_size": 1, "act": "hardswish"}},
                            {"DepthwiseConvBN": {"stride": [2, 1]}},
                            {"SqueezeExcite": {"reduction": 3}},
                            {"ConvBN": {"out_channels": 16, "kernel_size": 1, "act": None}},
                        ],
                        "act": None,
                    }
                },
                {"MaxPool": {"kernel_size": [4, 2]}},
                {"AvgPool": {"kernel_size": [2, 1]}},
                {"ConvBN": {"out_channels": 20, "act": "hardswish"}},
            ],
        },
        "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 10},
        "Head": {"name": "CTCHead"},
    },
}
CLASSES = {"cls": 2, "rec": 97, "det_mv3": 0, "det_res18": 0, "layers": 5}
SHAPES = {
    "cls": (3, 48, 192),
    "rec": (3, 32, 96),
    "det_mv3": (3, 64, 64),
    "det_res18": (3, 64, 64),
    "layers": (3, 32, 64),
}
WEIGHTS = {"cls": "ch_ppocr_mobile_v2.0_cls", "rec": "en_number_synthetic_crnn"}


def make_net(name: str) -> nn.Layer:
    """The net of that name: zoo weights, or seeded random ones with measured BatchNorm statistics."""
    paddle.seed(7)
    net = build_net(ARCHS[name], CLASSES[name])
    if name in WEIGHTS:
        path = find(WEIGHTS[name]).path
        load_strict(net, complete_lstm_names(read_pdparams(path)), where=path)
    else:
        settle(net, SHAPES[name], seed=0)
    net.eval()
    return net


def make_bundle(name: str) -> Bundle:
    """A bundle of a small input, labelled by numbers where labels do not matter."""
    labels = {"cls": ("0", "180"), "rec": ("", *(chr(33 + i) for i in range(96)))}.get(name, ())
    _, height, width = SHAPES[name]
    kind = ARCHS[name]["model_type"]
    spec = ModelSpec(name, kind, ARCHS[name], labels, InputSpec(height, width))
    return Bundle(spec, make_net(name), source=name)


@pytest.fixture(scope="session")
def nets() -> Callable[[str], nn.Layer]:
    return make_net


@pytest.fixture(scope="session")
def groups_of() -> Callable[[str], tuple[Group, ...]]:
    """The groups of a net, traced once a session."""
    return cache(lambda name: find_groups(make_net(name), SHAPES[name]))


@pytest.fixture(scope="session")
def bundles() -> Callable[[str], Bundle]:
    return make_bundle

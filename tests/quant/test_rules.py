"""Which layers a recipe quantizes, and the reason kept for every other one."""

from __future__ import annotations

from collections.abc import Mapping

import paddle
import pytest
from paddle import nn
from pydantic import ValidationError

from quant import rules
from quant.rules import Rule
from slim.arch import build_net
from slim.bundle import Bundle
from slim.config.ours import QuantRule, QuantSection
from slim.errors import ConfigError, UnsupportedModel

_LAYERS = {"stem": "Conv2D", "block.conv": "Conv2D", "up": "Conv2DTranspose", "lstm": "LSTM", "fc": "Linear"}


def _reasons(chosen: list[Rule], reached: list[str] | None = None) -> tuple[list[str], dict[str, str]]:
    paths, kept = rules.resolve(_LAYERS, chosen, reached or list(_LAYERS))
    return paths, {layer.path: layer.reason for layer in kept}


def test_transposed_conv_and_lstm_stay_float_whatever_the_recipe_says() -> None:
    paths, reasons = _reasons([Rule("path", "*", True)])
    assert paths == ["stem", "block.conv", "fc"]
    assert "once per input channel" in reasons["up"]
    assert "no int8 rnn kernel" in reasons["lstm"]


def test_later_rule_wins() -> None:
    conv, stem = Rule("type", "Conv2D", True), Rule("path", "stem", False, "first layer")
    assert _reasons([conv, stem])[0] == ["block.conv"]
    assert _reasons([stem, conv])[0] == ["stem", "block.conv"]


def test_reason_names_the_rule_that_decided() -> None:
    _, reasons = _reasons(rules.from_section(QuantSection(layers=("Conv2D",), exclude=("block.*",))))
    assert reasons["block.conv"] == "Quant.exclude names block.*"
    assert reasons["fc"] == "Quant.layers does not name Linear"


def test_layer_that_inference_skips_stays_float() -> None:
    paths, reasons = _reasons([Rule("type", "Conv2D", True)], reached=["stem"])
    assert paths == ["stem"]
    assert reasons["block.conv"] == "inference does not run it"


def test_rules_of_a_recipe_come_last_and_the_later_one_wins() -> None:
    section = QuantSection(
        exclude=("block.*",),
        rules=(
            QuantRule(path="*", weight_bits=4),
            QuantRule(type="Linear", quantize=False),
            QuantRule(path="stem", activation_bits=6),
        ),
    )
    chosen = rules.from_section(section)
    paths, reasons = _reasons(chosen)
    assert paths == ["stem", "block.conv"]
    assert reasons["fc"] == "Quant.rules[1] names Linear"
    assert rules.bits("stem", "Conv2D", chosen, section) == (4, 6)
    assert rules.bits("block.conv", "Conv2D", chosen, section) == (4, 8)


def test_a_rule_names_one_thing() -> None:
    with pytest.raises(ValidationError, match="exactly one of type and path"):
        QuantRule(type="Conv2D", path="*")
    with pytest.raises(ValidationError, match="keeps layers float and gives bits"):
        QuantRule(path="*", quantize=False, weight_bits=4)


def test_glob_that_fits_nothing_is_an_error_with_the_nearest_path() -> None:
    with pytest.raises(ConfigError, match="'blok.conv' fits no layer.*nearest layer is 'block.conv'"):
        _reasons([Rule("path", "blok.conv", False)])


def test_nothing_left_is_an_error() -> None:
    net = nn.Sequential(nn.Conv2D(3, 2, 1))
    with pytest.raises(UnsupportedModel, match="no layer would be quantized"):
        rules.build_scheme(net, QuantSection(exclude=("*",)), (3, 4, 4))


@pytest.mark.parametrize(("kind", "kept"), [("cls", []), ("rec", ["neck.encoder.lstm"])])
def test_every_weighted_layer_of_the_bundled_models_is_accounted_for(
    originals: Mapping[str, Bundle], kind: str, kept: list[str]
) -> None:
    net = originals[kind].net
    scheme = rules.build_scheme(net, QuantSection(), originals[kind].spec.input.shape)
    weighted = {p for p, la in net.named_sublayers() if isinstance(la, rules.WEIGHTED)}
    assert set(scheme.paths) | {layer.path for layer in scheme.kept_float} == weighted
    assert [layer.path for layer in scheme.kept_float] == kept
    assert len(scheme.paths) == 54


def test_detector_keeps_its_training_branch_and_transposed_convs_float() -> None:
    arch = {
        "model_type": "det",
        "Backbone": {"name": "MobileNetV3", "scale": 0.35, "model_name": "small", "disable_se": True},
        "Neck": {"name": "DBFPN", "out_channels": 24},
        "Head": {"name": "DBHead"},
    }
    paddle.seed(0)
    net = build_net(arch, 0)
    net.train()
    scheme = rules.build_scheme(net, QuantSection(), (3, 64, 64))
    reasons = {layer.path: layer.reason for layer in scheme.kept_float}
    assert reasons["head.thresh.conv1"] == "inference does not run it"
    assert "once per input channel" in reasons["head.binarize.conv2"]
    assert "head.binarize.conv1" in scheme.paths
    assert net.training, "planning must not change the mode"

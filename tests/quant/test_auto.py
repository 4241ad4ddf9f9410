"""Calibrator "auto" picks by output error, in a case computed by hand and on the bundled classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import paddle
import pytest
from paddle import nn

from quant import auto, follow, ptq, rules
from quant.calibrators import CALIBRATORS
from quant.follow import Behind
from quant.scheme import LayerScheme, QuantScheme
from slim.bundle import Bundle
from slim.config.ours import QuantSection
from slim.errors import StageFailed
from slim.spec import ModelSpec

# At 2 bits the only steps are -c, 0 and c.
LAYER = LayerScheme("0", "Linear", weight_bits=8, activation_bits=2)
SCHEME = QuantScheme("ptq", (LAYER,), algo="auto")
CLIPS = {"0": {"absmax": 4.0, "mse": 1.0}}


def _net(*weights: float) -> nn.Layer:
    net = nn.Sequential(nn.Linear(2, len(weights) // 2))
    net[0].weight.set_value(np.array(weights, np.float32).reshape(2, -1))
    net.eval()
    return net


def test_the_layer_decides_which_values_matter() -> None:
    # x = (4, 1). Clip 4 gives (4, 0), clip 1 gives (1, 1): errors (0, 1) against (3, 0). Weights (1, 0)
    # read the first value only: 0 against 9. Weights (0, 1) read the second: 1 against 0.
    batch = [np.array([[4, 1]], np.float32)]
    assert auto.choose(_net(1, 0), SCHEME, CLIPS, batch, {}) == {"0": "absmax"}
    assert auto.choose(_net(0, 1), SCHEME, CLIPS, batch, {}) == {"0": "mse"}


def test_of_equal_errors_the_first_wins() -> None:
    batch = [np.array([[0, 0]], np.float32)]
    assert auto.choose(_net(1, 1), SCHEME, CLIPS, batch, {}) == {"0": "absmax"}


def test_channels_weigh_what_the_batch_norm_makes_of_them() -> None:
    # A 1x1 conv copies x = (4, 1) to two channels; clip 4 costs (0, 1), clip 1 costs (3, 0). The
    # BatchNorm's weight decides: (1, 1): 1 against 9; (0.1, 1): 1 against 0.09.
    net = nn.Sequential(nn.Conv2D(2, 2, 1, bias_attr=False), nn.BatchNorm2D(2, epsilon=0.0))
    net[0].weight.set_value(np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1))
    net.eval()
    scheme = replace(SCHEME, layers=(replace(LAYER, type="Conv2D"),))
    batch = [np.array([4, 1], np.float32).reshape(1, 2, 1, 1)]
    behind = {"0": Behind(batch_norm="1")}
    assert auto.choose(net, scheme, CLIPS, batch, behind) == {"0": "absmax"}
    net[1].weight.set_value(np.array([0.1, 1], np.float32))
    assert auto.choose(net, scheme, CLIPS, batch, behind) == {"0": "mse"}


def test_choice_is_recorded_with_its_clip() -> None:
    net = nn.Sequential(nn.Linear(2, 1))
    scheme = QuantScheme("ptq", (LayerScheme("0", "Linear"),), algo="auto")
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(16, 2)).astype(np.float32) for _ in range(4)]
    done = ptq.calibrate(net, scheme, batches)
    name = done.methods["calibrators"]["0"]
    alone = ptq.calibrate(net, replace(scheme, algo=name), batches)
    assert done.clips == alone.clips
    assert QuantScheme.from_json(done.to_json()) == done


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_values_without_a_range_are_an_error(value: float) -> None:
    scheme = QuantScheme("ptq", (LayerScheme("0", "Linear"),), algo="auto")
    with pytest.raises(StageFailed, match="1 of 1 quantized layers have no calibrated input range"):
        ptq.calibrate(nn.Sequential(nn.Linear(2, 1)), scheme, [np.full((1, 2), value, np.float32)])


def test_classifier_gets_no_worse_clip_than_any_single_calibrator(
    originals: Mapping[str, Bundle], images: Callable[[ModelSpec, int], np.ndarray]
) -> None:
    bundle = originals["cls"].clone()
    batch = [images(bundle.spec, 8)]
    section = QuantSection(mode="ptq", algo="auto")
    scheme = rules.build_scheme(bundle.net, section, bundle.spec.input.shape)
    following = follow.behind(bundle)
    done = ptq.calibrate(bundle.net, scheme, batch, following=following)
    assert len(done.clips) == 54
    used = set(done.methods["calibrators"].values())
    assert len(used) > 1, "one calibrator won everywhere: is the error measured at all?"
    clips = {n: ptq.calibrate(bundle.net, replace(scheme, algo=n), batch).clips for n in CALIBRATORS}
    proposed = {path: {n: clips[n][path] for n in CALIBRATORS} for path in scheme.paths}
    assert auto.choose(bundle.net, scheme, proposed, batch, following) == done.methods["calibrators"]


def test_what_stands_behind_each_layer(originals: Mapping[str, Bundle]) -> None:
    behind = follow.behind(originals["cls"])
    block = "backbone.blocks.{}.{}"
    assert behind["backbone.conv1.conv"] == Behind("backbone.conv1.bn", None), "hardswish follows"
    assert behind[block.format(1, "expand_conv.conv")] == Behind(
        block.format(1, "expand_conv.bn"), block.format(1, "bottleneck_conv.conv")
    )
    # Squeeze-and-excite reads it too; a shortcut reads it too.
    assert behind[block.format(0, "bottleneck_conv.conv")].feeds is None
    assert behind[block.format(1, "linear_conv.conv")].feeds is None
    assert behind[block.format(3, "mid_se.conv1")] == Behind(None, block.format(3, "mid_se.conv2"))
    assert behind["head.fc"] == Behind(None, None)
    assert len(behind) == 54
    assert isinstance(originals["cls"].net(paddle.zeros([1, 3, 48, 192])), paddle.Tensor)

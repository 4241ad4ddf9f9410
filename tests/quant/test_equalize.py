"""Equalization: legal places only, the same function, a better int8 net."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import paddle
from paddle import nn

from quant import equalize, follow
from quant.follow import Behind
from quant.layers import from_rows, nearest, product, rounded_input, rows
from slim.bundle import Bundle
from slim.spec import ModelSpec


def test_factors_by_hand() -> None:
    # sqrt(r1 / r2): sqrt(16 / 1) = 4, sqrt(1 / 4) = 0.5; ranges become 4 and 2, so the largest (16) is met
    # again when both are divided by 4.
    assert equalize.factors(np.array([16.0, 1.0]), np.array([1.0, 4.0])).tolist() == [1.0, 0.125]


def test_dead_channels_stay() -> None:
    assert equalize.factors(np.array([4.0, 0.0]), None).tolist() == [1.0, 1.0]
    assert equalize.factors(np.array([0.0, 0.0]), None).tolist() == [1.0, 1.0]
    assert equalize.factors(np.array([4.0, 4.0]), np.array([1.0, 0.0])).tolist() == [1.0, 1.0]


def test_nearly_silent_channels_are_widened_16_times_at_most() -> None:
    assert equalize.factors(np.array([1.0, 1e-6]), None).tolist() == [1.0, 1 / 16]


def _small_net() -> nn.Layer:
    net = nn.Sequential(nn.Conv2D(2, 2, 1), nn.ReLU(), nn.Conv2D(2, 1, 1))
    net[0].weight.set_value(np.array([[10, 0], [0, 0.1]], np.float32).reshape(2, 2, 1, 1))
    net[0].bias.set_value(np.array([0.5, -0.01], np.float32))
    net[2].weight.set_value(np.array([[0.1, 10]], np.float32).reshape(1, 2, 1, 1))
    net.eval()
    return net


def test_small_net_computes_the_same_and_quantizes_better() -> None:
    net, before = _small_net(), _small_net()
    x = paddle.to_tensor(np.random.default_rng(0).uniform(0, 1, (16, 2, 4, 4)).astype(np.float32))
    exact = before(x).numpy()
    equalize.equalize(net, {"0": "2"}, {"0": Behind(None, "2")}, [x.numpy()])
    # Relative to outputs of 1: float32 rounding of three products.
    np.testing.assert_allclose(net(x).numpy(), exact, rtol=1e-5, atol=1e-6)

    def error(one: nn.Layer) -> float:
        hidden = one[1](one[0](x))
        given = rounded_input(hidden, float(hidden.abs().max()), 8)
        out = product(one[2], given, from_rows(one[2], nearest(rows(one[2]), 8))).numpy()
        return float(np.square(out + one[2].bias.numpy() - exact).mean())

    # The second channel reaches 0.09 where the first reaches 10.5: one step of the common grid.
    assert error(net) < 0.05 * error(before)


# Share of the features' root mean square: float32 rounding through 50 layers.
BOUND = 1e-3


def _features(bundle: Bundle, batch: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return bundle.net.backbone(paddle.to_tensor(batch)).numpy()


def _moved(after: np.ndarray, before: np.ndarray) -> float:
    return float(np.sqrt(np.square(after - before).mean() / np.square(before).mean()))


def test_classifier_computes_the_same_and_only_legal_pairs_change(
    originals: Mapping[str, Bundle], images: Callable[[ModelSpec, int], np.ndarray]
) -> None:
    bundle = originals["cls"].clone()
    following = follow.behind(bundle)
    pairs = equalize.pairs(following, following, bundle.net)
    # 6 between convs of the first three blocks, 9 inside squeeze-and-excite.
    assert len(pairs) == 15
    assert "backbone.blocks.3.expand_conv.conv" not in pairs, "hardswish is not homogeneous"
    batch = images(bundle.spec, 8)
    before, weights = _features(bundle, batch), bundle.state()
    equalize.equalize(bundle.net, pairs, following, [batch])
    assert _moved(_features(bundle, batch), before) < BOUND
    changed = {name for name, value in bundle.state().items() if not np.array_equal(value, weights[name])}
    blocks = {".".join(name.split(".")[:3]) for name in changed if "mid_se" not in name}
    assert blocks == {f"backbone.blocks.{k}" for k in (0, 1, 2)}


def test_hardswish_between_would_change_the_net(
    originals: Mapping[str, Bundle], images: Callable[[ModelSpec, int], np.ndarray]
) -> None:
    """The bound above can fail: the same call on a pair that is not legal."""
    bundle = originals["cls"].clone()
    block = "backbone.blocks.4."
    wrong = {f"{block}expand_conv.conv": f"{block}bottleneck_conv.conv"}
    following = {f"{block}expand_conv.conv": Behind(f"{block}expand_conv.bn", None)}
    batch = images(bundle.spec, 8)
    before = _features(bundle, batch)
    equalize.equalize(bundle.net, wrong, following, [batch])
    assert _moved(_features(bundle, batch), before) > 10 * BOUND

"""Bias correction and learned rounding in a net: right numbers, right place, right bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from quant import follow, ptq, reconstruct, rules, wrap
from quant.layers import rows
from quant.scheme import LayerScheme, QuantScheme
from slim.bundle import Bundle
from slim.config.ours import QuantSection
from slim.errors import UnsupportedModel
from slim.numerics import state_sha256
from slim.spec import ModelSpec


def _linear(weight: float, bias: float) -> nn.Layer:
    net = nn.Sequential(nn.Linear(1, 1))
    net[0].weight.set_value(np.array([[weight]], np.float32))
    net[0].bias.set_value(np.array([bias], np.float32))
    net.eval()
    return net


def test_bias_takes_the_mean_error_off_by_hand() -> None:
    # Grid of 2 bits and clip 1: x = 0.4 and 0.8 become 0 and 1. Weight 3: outputs 1.2, 2.4 become 0, 3;
    # mean error 1.5 - 1.8 = -0.3, so the bias rises from 0.25 to 0.55.
    net = _linear(3.0, 0.25)
    scheme = QuantScheme("ptq", (LayerScheme("0", "Linear", 8, 2, activation_clip=1.0),))
    goes = reconstruct.where_bias_goes(net, scheme, {})
    assert goes == {"0": "0.bias"}
    x = np.array([[0.4], [0.8]], np.float32)
    reconstruct.reconstruct(net, scheme, [x], correct=goes, adaround=False)
    assert net[0].bias.numpy() == pytest.approx([0.55], abs=1e-6)  # float32 rounding
    assert net[0].weight.numpy().item() == 3.0


class _Conv(nn.Layer):
    """Two convs, each with a BatchNorm; the second reads what the first, quantized, leaves."""

    def __init__(self) -> None:
        super().__init__()
        paddle.seed(0)
        self.one, self.bn1 = nn.Conv2D(3, 4, 3, padding=1, bias_attr=False), nn.BatchNorm2D(4)
        self.two = nn.Conv2D(4, 4, 3, stride=(2, 1), padding=1, groups=4, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(4)
        rng = np.random.default_rng(0)
        for bn in (self.bn1, self.bn2):
            bn._variance.set_value(rng.uniform(0.5, 2, 4).astype(np.float32))
            bn.weight.set_value(rng.uniform(0.5, 2, 4).astype(np.float32))
        self.eval()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.bn2(self.two(F.hardswish(self.bn1(self.one(x)))))


SCHEME = QuantScheme(
    "ptq",
    (
        LayerScheme("one", "Conv2D", 4, 4, activation_clip=1.0),
        LayerScheme("two", "Conv2D", 4, 4, activation_clip=2.0),
    ),
)
BEHIND = {"one": follow.Behind("bn1"), "two": follow.Behind("bn2")}


def _run_quantized(net: nn.Layer, x: np.ndarray) -> np.ndarray:
    wrap.prepare(net, SCHEME)
    wrap.install_clips(net, SCHEME)
    wrap.finalize(net, SCHEME)
    with paddle.no_grad():
        return net(paddle.to_tensor(x)).numpy()


@pytest.mark.parametrize("adaround", [False, True])
def test_deployed_net_has_the_float_means_behind_every_batch_norm(adaround: bool) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (8, 3, 6, 10)).astype(np.float32)
    exact = _Conv()(paddle.to_tensor(x)).numpy()
    plain, net = _run_quantized(_Conv(), x), _Conv()
    goes = reconstruct.where_bias_goes(net, SCHEME, BEHIND)
    assert goes == {"one": "bn1._mean", "two": "bn2._mean"}
    reconstruct.reconstruct(net, SCHEME, [x[:5], x[5:]], correct=goes, adaround=adaround)
    corrected = _run_quantized(net, x)
    # Units of the output: float32 sums of 240 values; without correction the means are off by 0.01 to 0.1.
    assert np.abs((corrected - exact).mean(axis=(0, 2, 3))).max() < 1e-4
    assert np.abs((plain - exact).mean(axis=(0, 2, 3))).max() > 5e-3
    assert np.square(corrected - exact).mean() < np.square(plain - exact).mean()


def test_same_images_give_the_same_bytes() -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (8, 3, 6, 10)).astype(np.float32)
    states = []
    for _ in range(2):
        net = _Conv()
        goes = reconstruct.where_bias_goes(net, SCHEME, BEHIND)
        reconstruct.reconstruct(net, SCHEME, [x], correct=goes, adaround=True)
        states.append(state_sha256({k: v.numpy() for k, v in net.state_dict().items()}))
    assert states[0] == states[1]


def test_patches_times_weights_is_the_layer() -> None:
    paddle.seed(0)
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    for layer in (
        nn.Conv2D(4, 6, 3, padding=1, stride=(2, 1), bias_attr=False),
        nn.Conv2D(4, 4, 3, padding=(1, 0), groups=4, bias_attr=False),
        nn.Conv2D(4, 8, 2, dilation=2, groups=2, bias_attr=False),
    ):
        expected = layer(paddle.to_tensor(x)).numpy().transpose(1, 0, 2, 3).reshape(len(layer.weight), -1)
        found = reconstruct.patches(layer, x)
        groups = len(found)
        matrix = rows(layer).reshape(groups, -1, found.shape[1])
        # float32 sums of up to 36 products of normal values.
        np.testing.assert_allclose((matrix @ found).reshape(len(expected), -1), expected, atol=1e-5)


def test_images_of_different_sizes_are_refused() -> None:
    batches = [np.zeros((1, 3, 6, 6), np.float32), np.zeros((1, 3, 6, 8), np.float32)]
    with pytest.raises(UnsupportedModel, match="images of one size"):
        reconstruct.reconstruct(_Conv(), SCHEME, batches, correct={}, adaround=True)


@pytest.mark.slow
def test_classifier_end_to_end(
    originals: Mapping[str, Bundle], images: Callable[[ModelSpec, int], np.ndarray]
) -> None:
    bundle = originals["cls"]
    batch = images(bundle.spec, 4)
    section = QuantSection(mode="ptq", algo="mse", bias_correction=True, rounding="adaround", equalize=True)
    scheme = rules.build_scheme(bundle.net, section, bundle.spec.input.shape)
    base, done = ptq.prepare(bundle, scheme, section, lambda: [batch])
    assert QuantScheme.from_json(done.to_json()) == done
    assert set(done.methods) == {"equalized", "bias_correction", "rounding"}
    assert len(done.methods["bias_correction"]) == 54
    work = base.clone()
    wrap.prepare(work.net, done)
    wrap.install_clips(work.net, done)
    wrap.finalize(work.net, done)
    layers = dict(base.net.named_sublayers())
    for path, wrapper in wrap.wrappers(work.net).items():
        used, stored = wrap.quantized_weight(wrapper), layers[path].weight.numpy()
        # Steps of 1/127 of the channel's largest: the wrapper must find the very steps that were written.
        step = np.abs(rows(layers[path])).max(axis=1) / 127
        off = np.abs(used - stored).reshape(stored.shape)
        limit = step if stored.ndim == 2 else step[:, None, None, None]
        assert (off <= 1e-3 * np.maximum(limit, 1e-12)).all(), path

    def mean_error(weights_only: Bundle) -> float:
        return float(np.abs(weights_only.run(batch) - bundle.run(batch)).mean())

    plain = bundle.clone()
    section = QuantSection(mode="ptq", algo="mse")
    _, clips = ptq.prepare(bundle, scheme, section, lambda: [batch])
    wrap.prepare(plain.net, clips)
    wrap.install_clips(plain.net, clips)
    wrap.finalize(plain.net, clips)
    assert mean_error(work) < mean_error(plain), "the probabilities are no nearer to the float ones"

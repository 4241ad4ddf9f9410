"""Wrappers: exactly the scheme's layers, structural names, strict reopening."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from quant import grid, ptq, rules, wrap
from quant.scheme import LayerScheme, QuantScheme
from slim import artifact
from slim.bundle import Bundle, from_artifact, save
from slim.config.ours import QuantSection
from slim.errors import ArtifactError, StageFailed
from slim.spec import ModelSpec
from slim.training.depthwise import fits, quick_depthwise

Images = Callable[[ModelSpec, int], np.ndarray]


def _quantized(bundle: Bundle, images: Images, **section: object) -> Bundle:
    scheme = rules.build_scheme(bundle.net, QuantSection(mode="ptq", **section), bundle.spec.input.shape)
    scheme = ptq.calibrate(bundle.net, scheme, [images(bundle.spec, 4)])
    work = bundle.clone()
    wrap.prepare(work.net, scheme)
    wrap.install_clips(work.net, scheme)
    return replace(work, scheme=wrap.finalize(work.net, scheme).to_json())


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_state_holds_the_float_names_and_the_scales_only(
    originals: Mapping[str, Bundle], images: Images, kind: str
) -> None:
    original = originals[kind]
    done = _quantized(original, images)
    scales = {
        f"{path}.{name}"
        for path in QuantScheme.from_json(done.scheme or {}).paths
        for name in (
            "_fake_quant_input._scale",
            "_fake_quant_input._state",
            "_fake_quant_input._accum",
            "_fake_quant_weight._scale",
        )
    }
    assert set(done.state()) == set(original.state()) | scales


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_saved_model_reopens_strictly_to_the_same_bits(
    originals: Mapping[str, Bundle], images: Images, kind: str, tmp_path: Path
) -> None:
    done = _quantized(originals[kind], images)
    with artifact.writing(tmp_path / "q") as folder:
        save(done, folder)
        artifact.seal(folder, "quant", recipe={}, parent="0", seed=0)
    again = from_artifact(tmp_path / "q", restore=wrap.restore)
    x = images(done.spec, 2)
    assert np.array_equal(again.run(x), done.run(x))
    assert again.sha256() == done.sha256()


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_float_view_is_the_original_again(originals: Mapping[str, Bundle], images: Images, kind: str) -> None:
    done = _quantized(originals[kind], images)
    view = wrap.float_view(done)
    assert view.scheme is None
    assert view.sha256() == originals[kind].sha256()


@pytest.mark.parametrize(("kind", "least"), [("cls", 1.0), ("rec", 0.97)])
def test_simulation_mostly_agrees_with_float(
    originals: Mapping[str, Bundle], images: Images, kind: str, least: float
) -> None:
    """Share of equal argmax (cls: images; rec: time steps, where near ties may flip)."""
    done = _quantized(originals[kind], images)
    x = images(done.spec, 8)
    same = done.run(x).argmax(-1) == originals[kind].run(x).argmax(-1)
    assert same.mean() >= least
    # Sabotage: clips a hundred times too small destroy the outputs.
    for layer in wrap.wrappers(done.net).values():
        layer._fake_quant_input._scale.set_value(layer._fake_quant_input._scale * 0.01)
    assert (done.run(x).argmax(-1) == originals[kind].run(x).argmax(-1)).mean() < least


def test_excluded_layers_stay_float(originals: Mapping[str, Bundle], images: Images) -> None:
    done = _quantized(originals["cls"], images, exclude=("backbone.blocks.0.*", "head.fc"))
    wrapped = set(wrap.wrappers(done.net))
    assert "head.fc" not in wrapped
    assert not any(path.startswith("backbone.blocks.0.") for path in wrapped)
    assert "backbone.blocks.1.expand_conv.conv" in wrapped
    assert not any(hasattr(layer, "skip_quant") for layer in done.net.sublayers())


def test_bits_of_a_single_layer_are_kept(originals: Mapping[str, Bundle], images: Images) -> None:
    original = originals["cls"].clone()
    scheme = rules.build_scheme(original.net, QuantSection(mode="ptq"), original.spec.input.shape)
    first = replace(scheme.layers[0], weight_bits=4)
    scheme = replace(scheme, layers=(first, *scheme.layers[1:]))
    wrap.prepare(original.net, scheme)
    found = wrap.wrappers(original.net)
    few = wrap.quantized_weight(found[first.path])
    assert max(len(np.unique(channel)) for channel in few) <= 15
    many = wrap.quantized_weight(found["head.fc"])
    assert 15 < max(len(np.unique(column)) for column in many.T) <= 255


def test_weights_take_at_most_255_values_a_channel(originals: Mapping[str, Bundle], images: Images) -> None:
    done = _quantized(originals["rec"], images)
    for path, layer in wrap.wrappers(done.net).items():
        weight = wrap.quantized_weight(layer)
        channels = weight.T if path == "head.fc" else weight
        assert max(len(np.unique(channel)) for channel in channels) <= 255, path
        scale = layer._fake_quant_weight._scale.numpy()
        stored = layer.weight.numpy()
        largest = np.abs(stored.T if path == "head.fc" else stored.reshape(len(stored), -1)).max(axis=1)
        assert np.array_equal(scale, largest), path


def test_scheme_of_another_net_is_refused(originals: Mapping[str, Bundle]) -> None:
    net = originals["cls"].clone().net
    with pytest.raises(ArtifactError, match="'neck.fc' \\(Linear\\), which is not in the net"):
        wrap.prepare(net, QuantScheme("ptq", (LayerScheme("neck.fc", "Linear"),)))
    with pytest.raises(ArtifactError, match="'head.fc' \\(Conv2D\\), which is Linear"):
        wrap.prepare(net, QuantScheme("ptq", (LayerScheme("head.fc", "Conv2D"),)))


def test_finalize_without_prepare_raises(originals: Mapping[str, Bundle]) -> None:
    net = originals["cls"].clone().net
    scheme = QuantScheme("ptq", (LayerScheme("head.fc", "Linear"),))
    with pytest.raises(StageFailed, match="1 layers of the scheme are not quantized.*prepare the net"):
        wrap.finalize(net, scheme)


@pytest.mark.parametrize("clip", [wrap.BLANK_CLIP, 0.0, float("nan"), float("inf"), -1.0])
def test_finalize_with_a_clip_that_is_none_raises(clip: float) -> None:
    net = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    scheme = QuantScheme("ptq", (LayerScheme("0", "Linear"), LayerScheme("1", "Linear")))
    wrap.prepare(net, scheme)
    wrap.install_clips(net, scheme.with_clips({"0": 1.0, "1": 2.0}))
    wrap.wrappers(net)["1"]._fake_quant_input._scale.set_value(paddle.to_tensor([clip]))
    with pytest.raises(StageFailed, match="1 of 2 quantized layers have no calibrated input range: 1 "):
        wrap.finalize(net, scheme)


def test_simulated_linear_layer_by_hand() -> None:
    """y = (round(x / s_x) s_x) (round(w / s_w) s_w) + b with s = clip / 127, inputs clipped first."""
    net = nn.Sequential(nn.Linear(3, 2))
    scheme = QuantScheme("ptq", (LayerScheme("0", "Linear"),)).with_clips({"0": 1.5})
    wrap.prepare(net, scheme)
    wrap.install_clips(net, scheme)
    wrap.finalize(net, scheme)
    x = np.array([[0.3, -2.0, 1.49]], np.float32)
    weight, bias = net[0].weight.numpy().astype(np.float64), net[0].bias.numpy()
    step_w = np.abs(weight).max(axis=0) / grid.steps(8)
    step_x = 1.5 / grid.steps(8)
    rounded_x = np.clip(np.round(x / step_x), -127, 127) * step_x
    expected = rounded_x @ (np.round(weight / step_w) * step_w) + bias
    got = net(paddle.to_tensor(x)).numpy()
    assert np.abs(got - expected).max() < 1e-5  # outputs of about 1 in float32
    assert np.abs(got - (x @ weight + bias)).max() > 1e-3, "the same as float: nothing was quantized"


def test_wrapped_depthwise_convs_train_quickly_with_the_same_gradients() -> None:
    scheme = QuantScheme("qat", (LayerScheme("0", "Conv2D"),)).with_clips({"0": 2.0})
    paddle.seed(0)
    net = wrap.prepare(nn.Sequential(nn.Conv2D(6, 6, 5, stride=(2, 1), padding=2, groups=6)), scheme)
    wrap.install_clips(net, scheme)
    assert fits(net[0])
    net[0]._fake_quant_input.eval()  # its moving average would differ from one run to the next
    found = []
    for context in (nullcontext(), quick_depthwise(net)):
        x = paddle.to_tensor(
            np.random.default_rng(2).standard_normal((3, 6, 8, 21)).astype(np.float32), stop_gradient=False
        )
        with context:
            y = net(x)
        (y * y).sum().backward()
        found.append((y.numpy(), x.grad.numpy(), net[0].weight.grad.numpy(), net[0].bias.grad.numpy()))
        net.clear_gradients()
    for paddles, ours in zip(*found, strict=True):
        # Both round the same values to the same grids; sums differ in order, by float32 rounding.
        assert np.abs(paddles - ours).max() < 5e-6 * np.abs(paddles).max()

"""Layers of a quantized bundle back to float, one half of quantization alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from quant import grid, ptq, rules, wrap
from quant.fallback import only, with_float_layers
from quant.scheme import QuantScheme
from slim.bundle import Bundle
from slim.config import QuantSection
from slim.errors import InputError

from .conftest import CLS

FIRST, HEAD = "backbone.conv1.conv", "head.fc"


@pytest.fixture(scope="module")
def quantized(originals) -> Bundle:
    bundle = originals["cls"]
    x = np.random.default_rng(0).uniform(-1, 1, (4, 3, 48, 192)).astype(np.float32)
    scheme = rules.build_scheme(bundle.net, QuantSection(mode="ptq"), CLS.input.shape)
    scheme = ptq.calibrate(bundle.net, scheme, [x])
    copy = bundle.clone()
    wrap.prepare(copy.net, scheme)
    wrap.install_clips(copy.net, scheme)
    return replace(copy, scheme=wrap.finalize(copy.net, scheme).to_json())


def test_named_layers_become_float_and_the_rest_stays(quantized: Bundle) -> None:
    before = QuantScheme.from_json(quantized.scheme)
    mixed = with_float_layers(quantized, {FIRST: "too rough", HEAD: "the same"})
    after = QuantScheme.from_json(mixed.scheme)
    assert set(before.paths) - set(after.paths) == {FIRST, HEAD}
    assert {la.path: la.reason for la in after.kept_float}[FIRST] == "too rough"
    assert set(wrap.wrappers(mixed.net)) == set(after.paths)
    assert after.clips == {path: before.clips[path] for path in after.paths}
    weights = dict(mixed.net.named_parameters())
    assert np.array_equal(
        weights[f"{FIRST}.weight"].numpy(), dict(quantized.net.named_parameters())[f"{FIRST}.weight"].numpy()
    )
    assert set(wrap.wrappers(quantized.net)) == set(before.paths)  # the given bundle is not changed


def test_another_layer_is_refused(quantized: Bundle, originals) -> None:
    with pytest.raises(InputError, match=r"'backbone\.nothing' is not a quantized layer"):
        with_float_layers(quantized, {"backbone.nothing": ""})
    with pytest.raises(InputError, match="is a float model"):
        with_float_layers(originals["cls"], {FIRST: ""})


@pytest.mark.parametrize("half", ["weights", "activations"])
def test_one_half_only(quantized: Bundle, half: str) -> None:
    scheme = QuantScheme.from_json(quantized.scheme)
    layer = next(la for la in scheme.layers if la.path == FIRST)
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 48, 192)).astype(np.float32)
    with paddle.no_grad():
        whole = quantized.net(paddle.to_tensor(x)).numpy()
        with only(quantized, half) as partial:
            wrapper = wrap.wrappers(partial.net)[FIRST]
            weights = grid.weight_error(wrapper, layer)
            inputs = grid.input_error(wrapper, layer, scheme.clips[FIRST])
            other = partial.net(paddle.to_tensor(x)).numpy()
        again = quantized.net(paddle.to_tensor(x)).numpy()
    on, off = (weights, inputs) if half == "weights" else (inputs, weights)
    assert on <= grid.TOLERANCE < 0.1 < off  # values that were never rounded are off by up to half a step
    assert not np.array_equal(whole, other)
    assert np.array_equal(whole, again)  # the quantizers are back

"""LSQ: values and gradients by hand, agreement with the quantizer it stands in for, nothing left behind."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from paddle import nn

from quant import lsq, wrap
from quant.scheme import LayerScheme, QuantScheme


def wrapped(clip: float = 2.0) -> tuple[nn.Layer, QuantScheme]:
    paddle.seed(0)
    scheme = QuantScheme("qat", (LayerScheme("0", "Linear"),), clip="lsq").with_clips({"0": clip})
    net = wrap.prepare(nn.Sequential(nn.Linear(4, 3)), scheme)
    wrap.install_clips(net, scheme)
    return net, scheme


def test_values_and_gradients_by_hand() -> None:
    """3 bits: Q = 3, s = 0.5, one image of four values; v = 0.8, -1.4, 10, -3.2.

    Rounded: 1, -1, 3, -3. dy/ds: 1 - 0.8 = 0.2; -1 + 1.4 = 0.4; 3; -3; with gradients 1, 2, 1, 1 that is
    0.2 + 0.8 + 3 - 3 = 1, times 1 / sqrt(4 * 3).
    """
    x = paddle.to_tensor([[0.4, -0.7, 5.0, -1.6]], stop_gradient=False)
    step = paddle.to_tensor([0.5], stop_gradient=False)
    y = lsq.quantize(x, step, 3)
    assert y.tolist() == [[0.5, -0.5, 1.5, -1.5]]
    y.backward(paddle.to_tensor([[1.0, 2.0, 1.0, 1.0]]))
    assert x.grad.tolist() == [[1.0, 2.0, 0.0, 0.0]]
    # float32: 0.4 / 0.5 and -0.7 / 0.5 are off by 1e-7.
    assert step.grad.tolist() == [pytest.approx(1.0 / math.sqrt(12.0), abs=1e-6)]


def test_more_images_do_not_shrink_the_scale_of_the_gradient() -> None:
    grads = []
    for count in (1, 3):
        step = paddle.to_tensor([0.5], stop_gradient=False)
        x = paddle.to_tensor([[0.4, -0.7, 5.0, -1.6]] * count)
        lsq.quantize(x, step, 3).mean(axis=0).sum().backward()
        grads.append(float(step.grad))
    assert grads[1] == pytest.approx(grads[0], rel=1e-5)  # float32 sums of 12 numbers


def test_it_rounds_as_the_quantizer_it_stands_in_for() -> None:
    net, _ = wrapped()
    net.eval()
    x = paddle.to_tensor(np.random.default_rng(1).normal(0, 1.5, (64, 4)).astype(np.float32))
    before = net[0]._fake_quant_input(x).numpy()
    lsq.attach(net, adaptive=True)
    after = net[0]._fake_quant_input(x).numpy()
    # Values: scale / 127 in another order of float32 operations; a step is 0.016.
    assert np.abs(before - after).max() < 1e-6


def test_the_learned_range_stays_and_the_layer_goes() -> None:
    net, scheme = wrapped()
    names = list(net.state_dict())
    net.train()
    lsq.attach(net, adaptive=False)
    assert lsq.steps(net) == {"0": pytest.approx(2.0 / 127)}
    assert "0._fake_quant_input.step" in net.state_dict()
    net[0]._fake_quant_input.step.set_value(np.array([0.01], np.float32))
    done = wrap.finalize(net, scheme)
    assert list(net.state_dict()) == names
    assert done.clips == {"0": pytest.approx(1.27)}
    assert lsq.steps(net) == {}


def test_training_learns_the_step_and_adam_moves_it_by_a_part_of_itself() -> None:
    net, _ = wrapped()
    net.train()
    lsq.attach(net, adaptive=True)
    start = lsq.steps(net)["0"]
    rule = paddle.optimizer.Adam(1e-2, parameters=[p for p in net.parameters() if not p.stop_gradient])
    net(paddle.full([2, 4], 50.0)).sum().backward()
    rule.step()
    # All values are above the range, and Adam's first step is the learning rate: 1% of the start.
    assert abs(lsq.steps(net)["0"] / start - 1) == pytest.approx(0.01, rel=0.01)


def test_a_step_below_zero_does_not_kill_the_layer() -> None:
    net, scheme = wrapped()
    lsq.attach(net, adaptive=True)
    net[0]._fake_quant_input.step.set_value(np.array([-1.0], np.float32))
    assert np.isfinite(net(paddle.ones([2, 4])).numpy()).all()
    assert wrap.finalize(net, scheme).clips["0"] == pytest.approx(2.0 * lsq.FLOOR)

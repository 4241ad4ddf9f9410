"""PACT: its formula, its gradient, and that it leaves no trace."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from quant import pact, wrap
from quant.scheme import LayerScheme, QuantScheme


@pytest.fixture
def net() -> nn.Layer:
    made = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    scheme = QuantScheme("qat", (LayerScheme("0", "Linear"), LayerScheme("1", "Linear")), clip="pact")
    wrap.prepare(made, scheme)
    wrap.install_clips(made, scheme.with_clips({"0": 3.0, "1": 35.0}))
    return made


def test_clips_on_both_sides_and_keeps_the_middle_exactly() -> None:
    x = np.array([-9.0, -2.0, 0.123, 2.0, 2.5], np.float32)
    assert np.array_equal(pact.Pact(2.0)(paddle.to_tensor(x)).numpy(), np.clip(x, -2, 2))


def test_gradient_of_alpha_counts_clipped_values_with_their_sign() -> None:
    clip = pact.Pact(2.0)
    clip(paddle.to_tensor([-9.0, 1.0, 5.0, 6.0, 7.0])).sum().backward()
    assert clip.alpha.grad.tolist() == [2.0]  # three above, one below


def test_alpha_starts_at_twenty_or_at_the_wider_calibrated_range(net: nn.Layer) -> None:
    pact.attach(net)
    assert pact.alphas(net) == {"0": 20.0, "1": 35.0}


def test_alpha_is_learned_and_decays_by_its_own_regularizer(net: nn.Layer) -> None:
    pact.attach(net)
    alpha = net[0]._act_preprocess.alpha
    assert not alpha.stop_gradient
    rule = paddle.optimizer.SGD(learning_rate=1.0, parameters=[alpha])
    net(paddle.ones([1, 4])).sum().backward()
    rule.step()
    # Nothing is clipped, so only the decay acts: 20 - 2e-5 * 20; float32 spacing at 20 is 2e-6.
    assert float(alpha) == pytest.approx(20 - 4e-4, abs=4e-6)


def test_strip_leaves_the_names_and_outputs_of_a_net_that_never_had_it(net: nn.Layer) -> None:
    names = list(net.state_dict())
    net.eval()
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
    before = net(x).numpy()
    pact.attach(net)
    assert len(net.state_dict()) == len(names) + 2
    pact.strip(net)
    assert list(net.state_dict()) == names
    assert np.array_equal(net(x).numpy(), before)
    pact.strip(net)

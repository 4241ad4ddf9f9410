"""The quick depthwise conv gives Paddle's results and gradients, on every shape, and leaves no trace."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from slim.config.ours import TrainRecipe
from slim.training import depthwise, fit
from slim.training.depthwise import quick_depthwise

# Relative to the largest value: sums of up to 25 products (of thousands for a weight's gradient, which BLAS
# adds in blocks), in another order than Paddle's; float32 rounds at 6e-8 each.
TOLERANCE = 5e-6
SHAPES = [
    ((2, 8, 16, 64), 3, (1, 1)),
    ((2, 40, 16, 33), 3, (2, 1)),
    ((3, 6, 7, 19), 5, (2, 1)),
    ((2, 5, 4, 64), 5, (1, 1)),
    ((1, 3, 2, 7), 5, (1, 1)),
    ((2, 4, 1, 1), 3, (1, 1)),
    ((2, 4, 13, 31), 3, (2, 2)),
    ((1, 2, 9, 50), 5, (2, 2)),
    ((2, 300, 5, 40), 5, (1, 1)),
]


def both(shape, kernel, stride, conv):
    """Output, gradient of the input and of the weight."""
    rng = np.random.default_rng(3)
    x = paddle.to_tensor(rng.standard_normal(shape).astype(np.float32), stop_gradient=False)
    weight = rng.standard_normal((shape[1], 1, kernel, kernel)).astype(np.float32)
    weight = paddle.to_tensor(weight, stop_gradient=False)
    y = conv(x, weight, stride, (kernel // 2, kernel // 2))
    y.backward(paddle.to_tensor(rng.standard_normal(y.shape).astype(np.float32)))
    return y.numpy(), x.grad.numpy(), weight.grad.numpy()


def paddles(x, weight, stride, padding):
    return F.conv2d(x, weight, None, stride, padding, groups=weight.shape[0])


def worst(ours, theirs):
    """Largest difference relative to the largest value, of output and gradients."""
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("shape", "kernel", "stride"), SHAPES)
def test_results_and_gradients_are_paddles(shape, kernel, stride):
    assert (
        worst(both(shape, kernel, stride, depthwise.conv), both(shape, kernel, stride, paddles)) < TOLERANCE
    )


def test_a_tap_in_the_wrong_place_is_seen(monkeypatch):
    """Sabotage twin: one product fewer in one pixel of a tile breaks all three."""
    real = depthwise._taps

    def wrong(*args):
        taps = real(*args).copy()
        taps[0, np.flatnonzero(taps[0])[0]] = 0.0
        return taps

    monkeypatch.setattr(depthwise, "_taps", wrong)
    depthwise.tiling.cache_clear()
    try:
        ours = both(*SHAPES[0], depthwise.conv)
    finally:
        depthwise.tiling.cache_clear()
    theirs = both(*SHAPES[0], paddles)
    assert all(worst([a], [b]) > 100 * TOLERANCE for a, b in zip(ours, theirs, strict=True))


def test_by_hand():
    """x = 1 2 3, filter 10 20 30, padded by 0: outputs 0+20+60, 10+40+90, 20+60+0."""
    x = paddle.to_tensor([[[[1.0, 2.0, 3.0]]]], stop_gradient=False)
    weight = paddle.to_tensor([[[[10.0, 20.0, 30.0]]]], stop_gradient=False)
    y = depthwise.conv(x, weight, (1, 1), (0, 1))
    assert y.numpy().ravel().tolist() == [80.0, 140.0, 80.0]
    y.backward(paddle.to_tensor([[[[1.0, 0.0, 0.0]]]]))
    assert x.grad.numpy().ravel().tolist() == [20.0, 30.0, 0.0]
    assert weight.grad.numpy().ravel().tolist() == [0.0, 1.0, 2.0]


def test_views_that_are_not_contiguous_are_read_right():
    x = paddle.arange(2 * 3 * 4 * 5, dtype="float32").reshape([2, 5, 4, 3]).transpose([0, 3, 2, 1])
    weight = paddle.ones([3, 1, 3, 3])
    assert np.array_equal(
        depthwise.conv(x, weight, (1, 1), (1, 1)).numpy(), paddles(x, weight, (1, 1), (1, 1)).numpy()
    )


def test_what_it_takes_and_what_it_leaves_to_paddle():
    taken = [nn.Conv2D(4, 4, 3, groups=4), nn.Conv2D(4, 4, 5, stride=(2, 1), padding=2, groups=4)]
    left = [
        nn.Conv2D(4, 4, 3),
        nn.Conv2D(4, 8, 3, groups=4),
        nn.Conv2D(4, 4, 3, groups=2),
        nn.Conv2D(4, 4, 3, groups=4, dilation=2),
        nn.Conv2D(4, 4, 3, groups=4, padding="SAME"),
        nn.Conv2D(4, 4, 3, groups=4, padding=[1, 2, 1, 0]),
        nn.Conv2D(4, 4, 3, groups=4, padding=1, padding_mode="reflect"),
        nn.Conv2D(4, 4, 3, groups=4, data_format="NHWC"),
        nn.Conv2DTranspose(4, 4, 3, groups=4),
    ]
    assert [depthwise.fits(layer) for layer in taken] == [True] * len(taken)
    assert [depthwise.fits(layer) for layer in left] == [False] * len(left)


def test_bias_and_a_frozen_input():
    layer = nn.Conv2D(4, 4, 3, padding=1, groups=4)
    x = paddle.randn([2, 4, 6, 20])
    wanted = layer(x)
    wanted.sum().backward()
    grads = layer.weight.grad.numpy(), layer.bias.grad.numpy()
    layer.clear_gradients()
    with quick_depthwise(layer):
        found = layer(x)
    found.sum().backward()
    assert worst([found.numpy()], [wanted.numpy()]) < TOLERANCE
    assert worst([layer.weight.grad.numpy(), layer.bias.grad.numpy()], grads) < TOLERANCE


def test_the_net_is_as_before_after_the_block_even_after_an_error():
    net = nn.Sequential(nn.Conv2D(4, 4, 3, groups=4))
    names, before = list(net.state_dict()), net[0].forward.__func__
    with pytest.raises(ZeroDivisionError), quick_depthwise(net, None):
        assert "forward" in vars(net[0])
        raise ZeroDivisionError
    assert "forward" not in vars(net[0])
    assert net[0].forward.__func__ is before
    assert list(net.state_dict()) == names


def test_a_training_run_uses_it_and_evaluation_does_not(kit, monkeypatch):
    net, seen = kit.net("rec"), []
    real = depthwise._forward

    def spy(layer, x):
        seen.append(layer.training)
        return real(layer, x)

    monkeypatch.setattr(depthwise, "_forward", spy)

    def evaluate():
        net(paddle.to_tensor(kit.Batches("rec").batch_at(0).image))
        return {"acc": 1.0}

    fit(net, TrainRecipe(steps=2, lr=1e-3), kit.Batches("rec"), kind="rec", evaluate=evaluate, seed=1)
    assert seen == [True] * (2 * 11)

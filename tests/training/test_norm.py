"""Re-estimated BatchNorm statistics are the plain average over batches, and nothing else changes."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from slim.arch.cuts import apply_cuts
from slim.errors import StageFailed
from slim.training import correct_bn, reestimate_bn


class Images:
    """Batches given one by one."""

    steps_per_epoch = 3

    def __init__(self, kit, arrays) -> None:
        self.kit, self.arrays, self.dataset = kit, arrays, None

    def iterate(self, start_step, stop_step):
        for step in range(start_step, stop_step):
            yield self.kit.Batch(self.arrays[step], np.zeros(2), np.zeros(2), ("a", "b"))


def arrays(count=3):
    rng = np.random.default_rng(5)
    return [rng.normal(k, 1 + k, (2, 3, 4, 4)).astype(np.float32) for k in range(count)]


def test_statistics_are_the_average_of_the_batches(kit):
    net = nn.BatchNorm2D(3)
    net._mean.set_value(np.full(3, 99.0, np.float32))
    given = arrays()
    reestimate_bn(net, Images(kit, given), 3)
    means = np.mean([a.mean((0, 2, 3)) for a in given], axis=0)
    variances = np.mean([a.var((0, 2, 3)) for a in given], axis=0)
    assert net._mean.numpy() == pytest.approx(means, abs=1e-5)  # float32 sums of 32 numbers
    assert net._variance.numpy() == pytest.approx(variances, rel=1e-5)  # as above


@pytest.mark.filterwarnings("ignore:When training, we now always track")
def test_the_default_moving_average_would_not_be_that():
    """Sabotage twin: momentum 0.9 keeps most of the old value, so the test above can fail."""
    net = nn.BatchNorm2D(3)
    net._mean.set_value(np.full(3, 99.0, np.float32))
    net.train()
    for array in arrays():
        net(paddle.to_tensor(array))
    assert net._mean.numpy().min() > 50


def test_weights_modes_and_momenta_stay(kit):
    net = kit.net("cls")
    net.eval()
    net.backbone.conv1.train()
    before = kit.weights(net)
    reestimate_bn(net, kit.Batches("cls"), 2)
    changed = set(kit.differing(before, kit.weights(net)))
    assert changed == {"backbone.conv1.bn._mean", "backbone.conv1.bn._variance"}
    assert net.backbone.conv1.training and not net.head.training and not net.training
    assert net.backbone.conv1.bn._momentum == 0.9


def test_no_batches_leave_the_net_as_it_is(kit):
    net = kit.net("cls")
    before = kit.weights(net)
    reestimate_bn(net, kit.Batches("cls"), 0)
    assert kit.differing(before, kit.weights(net)) == []


def test_nan_statistics_are_an_error_naming_the_layer(kit):
    net = nn.Sequential(nn.BatchNorm2D(3))
    bad = arrays(1)
    bad[0][0, 0, 0, 0] = np.inf
    with pytest.raises(StageFailed, match="^0: BatchNorm statistics are NaN"):
        reestimate_bn(net, Images(kit, bad), 1)


def _cut(net):
    apply_cuts(net, {"0": {"out": [0, 2]}, "1": {"out": [0, 2]}, "2": {"in": [0, 2]}})


def _chain(seed=3):
    paddle.seed(seed)
    net = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4), nn.Conv2D(4, 2, 1), nn.BatchNorm2D(2))
    rng = np.random.default_rng(seed)
    for layer in (net[1], net[3]):
        layer._mean.set_value(rng.normal(0, 1, layer._mean.shape).astype(np.float32))
        layer._variance.set_value(rng.uniform(0.5, 2, layer._variance.shape).astype(np.float32))
    net[1].bias.set_value(np.array([0.5, 1.0, 1.5, 2.0], np.float32))
    net.eval()
    return net


def _copy(net):
    fresh = _chain()
    fresh.set_state_dict(net.state_dict())
    fresh.eval()
    return fresh


def test_without_a_cut_corrected_statistics_are_the_stored_ones(kit):
    net = _chain()
    stored = kit.weights(net)
    correct_bn(net, _copy(net), lambda whole: None, Images(kit, arrays()), 3)
    for name, value in kit.weights(net).items():
        assert value == pytest.approx(stored[name], abs=1e-5), name  # float32 differences of equal sums


def test_a_cut_moves_statistics_by_its_own_effect(kit):
    """By hand: a normalised channel has its bias as mean; a cut takes weight * bias off the next mean."""
    net = _chain()
    stored = net[3]._mean.numpy().copy()
    after = _copy(net)
    _cut(after)
    correct_bn(after, _copy(net), _cut, Images(kit, arrays()), 3)
    gone = [1, 3]
    moved = -net[2].weight.numpy()[:, gone, 0, 0] @ net[1].bias.numpy()[gone]
    assert np.abs(moved).min() > 0.01
    assert after[3]._mean.numpy() == pytest.approx(stored + moved, abs=1e-5)  # float32 sums
    assert after[1]._mean.numpy() == pytest.approx(
        net[1]._mean.numpy()[[0, 2]], abs=1e-5
    )  # nothing before it

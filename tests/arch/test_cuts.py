"""A cut net gives what the whole net gives with the removed channels masked, for every layer type."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from slim.arch import build_net
from slim.arch.cuts import apply_cuts
from slim.errors import ArtifactError
from slim.numerics import max_abs

KEPT = [0, 2, 3]
TOLERANCE = 1e-5  # absolute, outputs around 1; float32 sums of fewer terms in another order


class LastStep(nn.Layer):
    """An LSTM as a layer of a Sequential: N x T x C -> N x T x 2H."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, 4, num_layers=2, direction="bidirectional")

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.lstm(x)[0]


def filled(net: nn.Layer, seed: int = 0) -> nn.Layer:
    """Random values everywhere, also in biases and BatchNorm statistics."""
    rng = np.random.default_rng(seed)
    for name, tensor in net.state_dict().items():
        value = (
            rng.uniform(0.5, 1.5, tensor.shape) if "_variance" in name else rng.normal(0, 0.5, tensor.shape)
        )
        tensor.set_value(value.astype(np.float32))
    net.eval()
    return net


def mask_inputs(weight: paddle.Tensor, axis: int) -> None:
    """Make the reading layer blind to the channels that are cut."""
    value = weight.numpy()
    removed = [k for k in range(value.shape[axis]) if k not in KEPT]
    index: list[object] = [slice(None)] * value.ndim
    index[axis] = removed
    value[tuple(index)] = 0
    weight.set_value(value)


def compare(make, cuts, mask, shape) -> float:
    """Largest difference between the masked whole net and the cut one."""
    whole, cut = filled(make()), filled(make())
    mask(whole)
    apply_cuts(cut, cuts)
    x = paddle.to_tensor(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    with paddle.no_grad():
        return max_abs(whole(x).numpy(), cut(x).numpy())


OUT, IN = {"out": KEPT}, {"in": KEPT}
IMAGE = (2, 3, 8, 8)
CASES = {
    "conv, norm, conv": (
        lambda: nn.Sequential(nn.Conv2D(3, 5, 3), nn.BatchNorm2D(5), nn.ReLU(), nn.Conv2D(5, 4, 3)),
        {"0": OUT, "1": OUT, "3": IN},
        lambda net: mask_inputs(net[3].weight, 1),
        IMAGE,
    ),
    "depthwise": (
        lambda: nn.Sequential(
            nn.Conv2D(3, 5, 1), nn.Conv2D(5, 5, 3, groups=5), nn.ReLU(), nn.Conv2D(5, 4, 1)
        ),
        {"0": OUT, "1": OUT, "3": IN},
        lambda net: mask_inputs(net[3].weight, 1),
        IMAGE,
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.Conv2D(3, 5, 1), nn.Conv2DTranspose(5, 5, 2, stride=2), nn.Conv2DTranspose(5, 2, 2, stride=2)
        ),
        {"0": OUT, "1": {"out": KEPT, "in": KEPT}, "2": IN},
        lambda net: (mask_inputs(net[1].weight, 0), mask_inputs(net[2].weight, 0)),
        IMAGE,
    ),
    "linear": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
        {"0": OUT, "2": IN},
        lambda net: mask_inputs(net[2].weight, 0),
        (2, 6),
    ),
    "lstm": (
        lambda: nn.Sequential(nn.Linear(6, 5), LastStep(5)),
        {"0": OUT, "1.lstm": IN},
        lambda net: (
            mask_inputs(net[1].lstm.weight_ih_l0, 1),
            mask_inputs(net[1].lstm.weight_ih_l0_reverse, 1),
        ),
        (2, 7, 6),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cut_net_equals_the_masked_whole_net(name):
    assert compare(*CASES[name]) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_a_forgotten_mask_would_be_seen(name):
    """Sabotage twin: the whole net without the mask is another function."""
    make, cuts, _, shape = CASES[name]
    assert compare(make, cuts, lambda net: None, shape) > 100 * TOLERANCE


def test_se_block_of_the_real_net_masked_and_cut():
    arch = {
        "model_type": "cls",
        "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": 0.35},
        "Head": {"name": "ClsHead"},
    }
    kept = list(range(1, 32, 2))
    block = "backbone.blocks.3"
    readers = (f"{block}.linear_conv.conv", f"{block}.mid_se.conv1")
    owners = (
        "expand_conv.conv",
        "expand_conv.bn",
        "bottleneck_conv.conv",
        "bottleneck_conv.bn",
        "mid_se.conv2",
    )
    cuts = {f"{block}.{name}": {"out": kept} for name in owners} | {name: {"in": kept} for name in readers}
    whole, cut = filled(build_net(arch, 2)), filled(build_net(arch, 2))
    layers = dict(whole.named_sublayers())
    assert layers[readers[0]].weight.shape[1] == 32
    for name in readers:
        value = layers[name].weight.numpy()
        value[:, [k for k in range(32) if k not in kept]] = 0
        layers[name].weight.set_value(value)
    apply_cuts(cut, cuts)
    x = paddle.to_tensor(np.random.default_rng(1).normal(size=(2, 3, 48, 64)).astype(np.float32))
    with paddle.no_grad():
        assert max_abs(whole(x).numpy(), cut(x).numpy()) <= 1e-5  # probability, float32


@pytest.mark.filterwarnings("ignore:When training, we now always track")
def test_a_cut_net_can_be_trained_and_keeps_what_its_parameters_were_given():
    net = filled(nn.Sequential(nn.Conv2D(3, 5, 3), nn.BatchNorm2D(5), nn.Conv2D(5, 4, 3)))
    net[0].weight.optimize_attr["learning_rate"] = 0.5
    net[0].bias.stop_gradient = True
    apply_cuts(net, {"0": OUT, "1": OUT, "2": IN})
    assert net[0].weight.optimize_attr["learning_rate"] == 0.5
    assert net[0].bias.stop_gradient and net[1]._mean.stop_gradient and not net[1].weight.stop_gradient
    net.train()
    net(paddle.ones([2, 3, 8, 8])).sum().backward()
    assert net[0].weight.grad.shape == [3, 3, 3, 3]


def test_an_lstm_keeps_both_names_of_its_tensors_and_its_mode():
    net = nn.Sequential(nn.Linear(6, 5), LastStep(5))
    net.eval()
    before = net.state_dict()["1.lstm.weight_ih_l0"].numpy()
    apply_cuts(net, {"1.lstm": IN})
    state = net.state_dict()
    assert state["1.lstm.weight_ih_l0"].numpy().tolist() == before[:, KEPT].tolist()
    assert state["1.lstm.0.cell_fw.weight_ih"].numpy().tolist() == before[:, KEPT].tolist()
    assert state["1.lstm.weight_ih_l1"].shape == [16, 8] and not net[1].lstm.training


def test_cuts_are_applied_one_after_another():
    net = filled(nn.Sequential(nn.Linear(6, 5)))
    before = net[0].weight.numpy()
    apply_cuts(net, {"0": {"out": [1, 2, 4]}})
    apply_cuts(net, {"0": {"out": [0, 2]}})
    assert net[0].weight.numpy().tolist() == before[:, [1, 4]].tolist()


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ({"9": OUT}, "cuts layer '9', which the net does not have"),
        ({"0": {"out": []}}, "'out' indices of 0 do not fit its 6 channels"),
        ({"0": {"out": [0, 6]}}, "do not fit its 6 channels"),
        ({"0": {"out": [-1]}}, "do not fit its 6 channels"),
        ({"0": {"out": [1, 1]}}, "do not fit its 6 channels"),
        ({"0": {"out": [0.5]}}, "not a list of whole numbers"),
        ({"0": {"out": [True]}}, "not a list of whole numbers"),
        ({"0": {"out": 3}}, "not a list of whole numbers"),
        ({"0": {"keep": [1]}}, "must hold 'out', 'in' or 'hidden'"),
        ({"0": [1]}, "must hold 'out', 'in' or 'hidden'"),
        ({"1": {"in": [0]}}, "side 'in' of 1, which a BatchNorm2D does not have"),
        ({"2": {"in": [0]}}, "side 'in' of 2, which a Conv2D does not have"),
        ({"3": {"out": [0]}}, "3 is a grouped convolution"),
        ({"4": {"out": [0]}}, "4 is a grouped convolution"),
        ({"5": {"out": [0]}}, "layer .5. of type ReLU, which cannot be cut"),
        ({"6": {"out": [0]}}, "side 'out' of 6, which a LSTM does not have"),
        ({"6": {"hidden": [99]}}, "'hidden' indices of 6 do not fit"),
        ({"0": {"hidden": [0]}}, "side 'hidden' of 0, which a Conv2D does not have"),
    ],
)
def test_plans_that_do_not_fit_are_clear_errors(cuts, message):
    net = nn.Sequential(
        nn.Conv2D(3, 6, 3),
        nn.BatchNorm2D(6),
        nn.Conv2D(6, 6, 3, groups=6),
        nn.Conv2D(6, 6, 3, groups=3),
        nn.Conv2DTranspose(6, 6, 2, groups=2),
        nn.ReLU(),
        nn.LSTM(6, 4),
    )
    with pytest.raises(ArtifactError, match=message):
        apply_cuts(net, cuts)

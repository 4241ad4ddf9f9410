"""Costs against numbers worked out by hand."""

from __future__ import annotations

import paddle
import pytest
from paddle import nn

from slim.arch import build_net
from slim.arch.cost import LayerCost, count

CASES = {
    # out 8 x (16 / 2) x (20 / 2), each a sum over 3 x 3 x 3
    "conv": (nn.Conv2D(3, 8, 3, stride=2, padding=1), (3, 16, 20), 8 * 27 + 8, 8 * 8 * 10 * 27),
    "depthwise": (nn.Conv2D(6, 6, 5, padding=2, groups=6, bias_attr=False), (6, 4, 4), 150, 6 * 16 * 25),
    "grouped": (nn.Conv2D(6, 4, 1, groups=2, bias_attr=False), (6, 4, 4), 12, 4 * 16 * 3),
    # every input pixel meets every weight once: 6 x 2 x 2 x 2 weights, 4 x 5 pixels
    "transposed": (nn.Conv2DTranspose(6, 2, 2, stride=2), (6, 4, 5), 48 + 2, 20 * 48),
    "linear": (nn.Linear(10, 4), (10,), 44, 40),
    "linear over time": (nn.Linear(10, 4), (7, 10), 44, 7 * 40),
    # one direction: 4 gates x 5 hidden x (3 input + 5 hidden) weights a step, and 2 x 20 biases
    "lstm": (nn.LSTM(3, 5), (9, 3), 160 + 40, 9 * 160),
    # two directions, two layers; the second reads 2 x 5
    "bidirectional lstm": (
        nn.LSTM(3, 5, num_layers=2, direction="bidirectional"),
        (9, 3),
        2 * (160 + 40) + 2 * (20 * 15 + 40),
        9 * (2 * 160 + 2 * 300),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_layer_by_hand(name):
    layer, shape, params, flops = CASES[name]
    cost = count(nn.Sequential(layer), shape)
    assert (cost.params, cost.flops) == (params, flops)
    assert cost.by_layer == {"0": LayerCost(params, flops)}


def test_a_net_is_the_sum_of_its_layers_and_norms_cost_no_multiply_adds():
    net = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4), nn.ReLU(), nn.Conv2D(4, 2, 1))
    cost = count(net, (3, 5, 5))
    assert cost.flops == 25 * 12 + 25 * 8
    assert cost.params == 16 + 16 + 10
    assert set(cost.by_layer) == {"0", "3"}


def test_counting_leaves_mode_and_weights_alone():
    net = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4))
    net.train()
    before = {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()}
    count(net, (3, 5, 5))
    assert net.training and net[1].training
    assert {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()} == before
    assert not net[0]._forward_post_hooks


def test_the_classifier_by_hand_for_its_first_and_last_layers():
    arch = {
        "model_type": "cls",
        "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": 0.35},
        "Head": {"name": "ClsHead"},
    }
    net = build_net(arch, 2)
    cost = count(net, (3, 48, 192))
    assert cost.by_layer["backbone.conv1.conv"].flops == 8 * 27 * 24 * 96
    assert cost.by_layer["backbone.blocks.0.bottleneck_conv.conv"].flops == 8 * 9 * 12 * 96
    assert cost.by_layer["backbone.blocks.0.mid_se.conv1"] == LayerCost(2 * 8 + 2, 16)
    assert cost.by_layer["head.fc"] == LayerCost(200 * 2 + 2, 400)
    assert cost.flops == sum(layer.flops for layer in cost.by_layer.values())
    assert cost.params == sum(int(paddle.numel(p)) for p in net.parameters())

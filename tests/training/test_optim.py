"""Schedules, update rules against formulas, clipping, and memory by attribute path."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from paddle import nn

from slim.config import TrainRecipe
from slim.errors import CheckpointError
from slim.training.optim import Optimizer, rate_at


def recipe(**changes) -> TrainRecipe:
    return TrainRecipe(**{"steps": 10, "lr": 0.1, "schedule": "constant", "optimizer": "sgd", **changes})


class One(nn.Layer):
    """A single weight vector; its gradient is what it is multiplied with."""

    def __init__(self, values, **attr) -> None:
        super().__init__()
        given = nn.initializer.Assign(np.array(values, np.float32))
        self.w = self.create_parameter([len(values)], paddle.ParamAttr(initializer=given, **attr))


def stepped(rec, values, gradients, rate=0.1, **attr):
    net = One(values, **attr)
    optimizer = Optimizer(net, rec)
    for gradient in gradients:
        (net.w * paddle.to_tensor(np.array(gradient, np.float32))).sum().backward()
        optimizer.step(rate)
    return net.w.numpy()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.05, 0.1, 0.1, 0.1, 0.1, 0.1]),
        ("linear", [0.05, 0.1, 0.1, 0.075, 0.05, 0.025]),
        (
            "cosine",
            [0.05, 0.1, 0.1, 0.05 * (1 + math.cos(math.pi / 4)), 0.05, 0.05 * (1 - math.cos(math.pi / 4))],
        ),
    ],
)
def test_rates_of_every_step(schedule, expected):
    rec = recipe(steps=6, warmup_steps=2, schedule=schedule)
    assert [rate_at(rec, step) for step in range(1, 7)] == pytest.approx(
        expected, abs=1e-12
    )  # float64 rounding


def test_warm_up_longer_than_the_run_only_rises():
    assert [rate_at(recipe(steps=2, warmup_steps=4), step) for step in (1, 2)] == [0.025, 0.05]


def test_sgd_with_coupled_l2():
    found = stepped(recipe(l2=0.5), [1.0, -2.0], [[1.0, 1.0]])
    assert found == pytest.approx([1 - 0.1 * (1 + 0.5), -2 - 0.1 * (1 - 1.0)], abs=1e-6)  # float32


def test_momentum_keeps_its_velocity():
    found = stepped(recipe(optimizer="momentum", momentum=0.5), [1.0], [[1.0], [1.0]])
    assert found == pytest.approx([1 - 0.1 * 1 - 0.1 * 1.5], abs=1e-6)  # float32


def test_adam_couples_l2_and_adamw_does_not():
    """After one step Adam moves by lr * sign(gradient + l2 * w), AdamW by lr * (sign(gradient) + l2 * w)."""
    adam = stepped(recipe(optimizer="adam", l2=2.0), [1.0], [[-1.0]])
    adamw = stepped(recipe(optimizer="adamw", l2=2.0), [1.0], [[-1.0]])
    assert adam == pytest.approx([1 - 0.1], abs=1e-5)  # float32; epsilon 1e-8 in the denominator
    assert adamw == pytest.approx([1 * (1 - 0.1 * 2.0) + 0.1], abs=1e-5)  # as above


def test_clipping_is_by_the_norm_of_all_gradients_together():
    found = stepped(recipe(clip_norm=1.0), [0.0, 0.0], [[3.0, 4.0]])
    assert found == pytest.approx([-0.06, -0.08], abs=1e-6)  # float32
    assert stepped(recipe(), [0.0, 0.0], [[3.0, 4.0]]) == pytest.approx([-0.3, -0.4], abs=1e-6)


def test_a_parameters_own_rate_regularizer_and_stop_are_respected():
    assert stepped(recipe(), [0.0], [[1.0]], learning_rate=0.5) == pytest.approx([-0.05], abs=1e-7)
    own = stepped(recipe(l2=0.0), [1.0], [[0.0]], regularizer=paddle.regularizer.L2Decay(1.0))
    assert own == pytest.approx([0.9], abs=1e-6)  # float32
    net = One([1.0])
    net.w.stop_gradient = True
    assert Optimizer(net, recipe()).state() == {}


def test_gradient_norm_before_clipping():
    net = One([0.0, 0.0])
    optimizer = Optimizer(net, recipe(clip_norm=1.0))
    assert optimizer.gradient_norm() == 0.0
    (net.w * paddle.to_tensor(np.array([3.0, 4.0], np.float32))).sum().backward()
    assert optimizer.gradient_norm() == pytest.approx(5.0, abs=1e-6)  # float32
    net.w.grad.set_value(np.array([np.nan, 0.0], np.float32))
    assert math.isnan(optimizer.gradient_norm())


@pytest.mark.parametrize(
    ("rule", "memory"),
    [
        ("adam", {"moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc"}),
        ("adamw", {"moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc"}),
        ("momentum", {"velocity"}),
        ("sgd", set()),
    ],
)
def test_memory_is_named_by_path_and_complete(rule, memory):
    """Complete: Paddle's own state holds nothing more. A new accumulator in Paddle would show here."""
    net = One([1.0])
    optimizer = Optimizer(net, recipe(optimizer=rule))
    (net.w * 2.0).sum().backward()
    optimizer.step(0.1)
    assert set(optimizer.state()) == {f"w_{name}" for name in memory}
    assert len(optimizer._rule.state_dict()) == len(memory)


def test_memory_of_a_second_optimizer_over_the_same_net_can_be_taken_up():
    """Paddle numbers a second optimizer's memory _1: by path it must not matter."""
    net, rec = One([1.0]), recipe(optimizer="adam")
    for _ in range(2):
        optimizer = Optimizer(net, rec)
        (net.w * 2.0).sum().backward()
        optimizer.step(0.1)
    state = optimizer.state()
    third = Optimizer(net, rec)
    third.load(state)
    (net.w * 2.0).sum().backward()
    third.step(0.1)
    assert third.state()["w_moment1"] == pytest.approx(0.9 * state["w_moment1"] + 0.1 * 2.0)


def test_memory_of_another_net_is_refused():
    with pytest.raises(CheckpointError, match="1 optimizer entries belong to no parameter.*other_moment1"):
        Optimizer(One([1.0]), recipe()).load({"other_moment1": np.zeros(1, np.float32)})

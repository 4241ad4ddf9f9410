"""Calibration: right numbers, nothing else touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import paddle
import pytest
from paddle import nn

from quant import ptq, rules
from quant.scheme import LayerScheme, QuantScheme
from slim.bundle import Bundle
from slim.config.ours import QuantSection
from slim.errors import StageFailed
from slim.spec import InputSpec, ModelSpec


def _scheme(algo: str = "absmax") -> QuantScheme:
    return QuantScheme("ptq", (LayerScheme("0", "Linear"), LayerScheme("1", "Linear")), algo=algo)


def _net() -> nn.Layer:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].weight.set_value(np.array([[2, 0], [0, 2]], np.float32))
    net[0].bias.set_value(np.zeros(2, np.float32))
    return net


@pytest.mark.parametrize(("algo", "first"), [("absmax", 3.0), ("moving_average", (0.9 * 1 + 3) / 1.9)])
def test_clips_are_those_of_the_float_values(algo: str, first: float) -> None:
    batches = [np.array([[1, -0.5]], np.float32), np.array([[-3, 0]], np.float32)]
    clips = ptq.calibrate(_net(), _scheme(algo), batches).clips
    # The second layer reads twice the first layer's input; float32 rounding of the maxima.
    assert clips == pytest.approx({"0": first, "1": 2 * first}, rel=1e-6)


def test_weights_statistics_and_mode_stay(
    originals: Mapping[str, Bundle], images: Callable[[ModelSpec, int], np.ndarray]
) -> None:
    bundle = originals["cls"].clone()
    before = bundle.sha256()
    bundle.net.train()
    scheme = rules.build_scheme(bundle.net, QuantSection(mode="ptq"), bundle.spec.input.shape)
    done = ptq.calibrate(bundle.net, scheme, [images(bundle.spec, 2)])
    assert bundle.sha256() == before
    assert bundle.net.training
    assert len(done.clips) == len(scheme.paths)
    again = ptq.calibrate(bundle.net, scheme, [images(bundle.spec, 2)])
    assert again == done, "a hook of the first calibration is still there, or the result is random"


def test_no_batch_is_an_error() -> None:
    with pytest.raises(StageFailed, match="calibration saw no image"):
        ptq.calibrate(_net(), _scheme(), [])


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_values_without_a_range_are_an_error(value: float) -> None:
    with pytest.raises(StageFailed, match="2 of 2 quantized layers have no calibrated input range"):
        ptq.calibrate(_net(), _scheme(), [np.full((1, 2), value, np.float32)])


def test_float_mode_is_put_back_when_a_batch_fails() -> None:
    net = _net()
    with pytest.raises(ValueError, match="(?i)matmul|shape|dim"):
        ptq.calibrate(net, _scheme(), [np.ones((1, 7), np.float32)])
    assert net.training
    net(paddle.ones([1, 2]))


def test_batches_are_the_chosen_lines_in_order(lines: Callable[..., object]) -> None:
    spec = InputSpec(32, 64)
    data = lines(10, turn=False)
    got = list(ptq.batches(data, spec, 5, seed=3, batch=2))  # type: ignore[arg-type]
    assert [len(batch) for batch in got] == [2, 2, 1]
    assert got[0].shape == (2, 3, 32, 64)
    assert got[0].dtype == np.float32
    chosen = ptq.pick(10, 5, seed=3)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 5
    assert ptq.pick(10, 5, seed=4) != chosen


def test_pages_come_one_at_a_time(lines: Callable[..., object]) -> None:
    spec = replace(InputSpec(64, 64), dynamic_height=True, dynamic_width=True)
    got = list(ptq.batches(lines(3, turn=False), spec, 3, seed=0))  # type: ignore[arg-type]
    assert [len(batch) for batch in got] == [1, 1, 1]

"""Criteria: by hand on small filters, and equal to PaddleSlim's masks on the shipped models' groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paddle import nn

from prune import paddleslim_masks
from prune.criteria import CRITERIA, GroupData, criterion
from prune.filters import check_kept, drop_lowest, filters, group_data, has_norm, kept_count
from prune.gradients import gradients
from prune.groups import Group, by_name, find_groups
from prune.mask import masked
from prune.verify import random_input
from slim.errors import StageFailed, UnsupportedModel, UsageError

Make = Callable[[str], nn.Layer]
Groups = Callable[[str], tuple[Group, ...]]


def test_fpgm_drops_what_lies_in_the_middle_and_norms_what_is_small() -> None:
    w = np.array([[10.0, 0.0], [10.1, 0.0], [-9.0, 1.0], [0.1, 0.2], [30.0, 2.0]], "float32")
    assert drop_lowest(CRITERIA["fpgm"](GroupData(w)), 1) == [1, 2, 3, 4]
    assert drop_lowest(CRITERIA["l1"](GroupData(w)), 1) == [0, 1, 2, 4]
    assert drop_lowest(CRITERIA["l2"](GroupData(w)), 4) == [4]
    np.testing.assert_allclose(CRITERIA["l2"](GroupData(w))[0], 10.0, rtol=0, atol=0)  # exact: sqrt(100)


@pytest.mark.parametrize("name", ["cls", "rec"])
@pytest.mark.parametrize("kind", ["fpgm", "l1", "l2"])
def test_paddleslim_keeps_the_channels_our_scores_rank_highest(
    nets: Make, groups_of: Groups, name: str, kind: str
) -> None:
    net = nets(name)
    for group in groups_of(name):
        if group.prunable:
            w = filters(net, group)
            for ratio in (0.125, 0.5):
                count = kept_count(group.size, ratio)
                ours = drop_lowest(CRITERIA[kind](GroupData(w)), group.size - count)
                assert paddleslim_masks.keep(kind, w, count) == ours, group.name


def test_a_residual_sum_is_judged_by_all_its_filters(nets: Make, groups_of: Groups) -> None:
    group = by_name(groups_of("cls"), "backbone.blocks.3.linear_conv.conv")
    net = nets("cls")
    layers = dict(net.named_sublayers())
    per_filter = [int(np.prod(layers[m.path].weight.shape[1:])) for m in group.producers]
    assert len(per_filter) == 5 and filters(net, group).shape == (group.size, sum(per_filter))


@given(size=st.integers(1, 40), data=st.data())
def test_masks_keep_exactly_what_was_asked(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, size))
    w = np.random.default_rng(size).normal(size=(size, 3)).astype("float32")
    kept = paddleslim_masks.keep("l1", w, count)
    assert len(kept) == count and kept == sorted(set(kept))


@given(size=st.integers(1, 600), ratio=st.floats(0.0, 0.9), align=st.integers(1, 16))
def test_kept_count_is_aligned_or_whole_and_never_empty(size: int, ratio: float, align: int) -> None:
    kept = kept_count(size, ratio, align)
    assert 1 <= kept <= size and (kept % align == 0 or kept == size)
    assert kept >= size - round(size * ratio)


class _Wrong:
    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    def cal_mask(self, ratio: float, collection: object) -> np.ndarray:
        return self.mask


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros(4, "int32"),
        np.ones(4, "int32"),
        np.array([1, 1, 0, 0, 0], "int32"),
        np.array([1.0, 1.0, 0.0, 0.0]),
        np.array([2, 0, 0, 0], "int32"),
    ],
)
def test_a_mask_that_is_not_one_is_refused(monkeypatch: pytest.MonkeyPatch, mask: np.ndarray) -> None:
    pruner = type("Bad", (_Wrong,), {"__init__": lambda self: None, "mask": mask})
    monkeypatch.setattr(paddleslim_masks, "_pruner", lambda kind: pruner)
    with pytest.raises(StageFailed, match="asked for 2 of 4"):
        paddleslim_masks.keep("l1", np.ones((4, 2), "float32"), 2)


def test_why_paddleslims_own_collections_are_not_used(nets: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """They stop at the LSTM: the CRNN's last conv, its dearest to prune, belongs to no collection."""
    from paddleslim.dygraph import FPGMFilterPruner

    net = nets("rec")
    found = {c.master_name for c in FPGMFilterPruner(net, [1, 3, 32, 96]).collections}
    assert net.backbone.conv1.conv.weight.name in found
    assert net.backbone.conv2.conv.weight.name not in found


def test_unknown_criterion_and_wrong_counts_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="'hessian' is not known; use one of fpgm, l1, l2, bn_scale, taylor"):
        criterion("hessian")
    with pytest.raises(UsageError, match="cannot keep 0 of 3"):
        paddleslim_masks.keep("l1", np.ones((3, 2), "float32"), 0)
    with pytest.raises(UnsupportedModel, match="not channels of g"):
        check_kept([0, 9], Group("g", 4, (), ()))


@dataclass
class Batch:
    """Images whose loss needs no labels: the mean square of the output."""

    image: np.ndarray


def power(output: paddle.Tensor, batch: Batch) -> paddle.Tensor:
    return (output * output).mean()


def two_channels() -> tuple[nn.Layer, Group]:
    """One pixel, one input of 1: hidden channels 2 and 3, output 2 a + 3 b."""
    net = nn.Sequential(nn.Conv2D(1, 2, 1, bias_attr=False), nn.Conv2D(2, 1, 1, bias_attr=False))
    net[0].weight.set_value(np.array([2.0, 3.0], "float32").reshape(2, 1, 1, 1))
    net[1].weight.set_value(np.array([1.0, -1.0], "float32").reshape(1, 2, 1, 1))
    return net, by_name(find_groups(net, (1, 1, 1)), "0")


def test_taylor_by_hand() -> None:
    net, group = two_channels()
    x = np.ones((1, 1, 1, 1), "float32")
    # y = 2a - 3b = -1; loss y^2; d loss / d w = 2 y h = -4 and -6; times w: -4 and 6; squared: 16 and 36.
    slopes = gradients(net, power, [Batch(x)])
    assert slopes[net[1].weight.name].ravel().tolist() == [-4.0, -6.0]
    data = group_data(net, group, slopes)
    assert CRITERIA["taylor"](data).tolist() == [16.0, 36.0]
    # The second batch has no signal: the mean over batches halves.
    both = gradients(net, power, [Batch(x), Batch(0 * x)])
    assert CRITERIA["taylor"](group_data(net, group, both)).tolist() == [8.0, 18.0]
    assert net[1].weight.grad is None


def test_a_gradient_that_is_not_finite_is_named_by_its_layer() -> None:
    net, _ = two_channels()
    with pytest.raises(StageFailed, match=r"the gradient of [01]\.weight is not finite"):
        gradients(net, power, [Batch(np.full((1, 1, 1, 1), np.inf, "float32"))])


@pytest.mark.parametrize("name", ["cls", "rec"])
def test_taylor_foretells_what_silencing_a_channel_does(nets: Make, groups_of: Groups, name: str) -> None:
    """To first order: weights that read a group scaled by 1 +- 0.5% move the loss by its gates' gradient."""
    net, shape = nets(name), {"cls": (3, 48, 192), "rec": (3, 32, 96)}[name]
    batch = Batch(random_input(shape, 4, batch=1))
    before = {k: v.numpy() for k, v in net.state_dict().items()}
    slopes = gradients(net, power, [batch])
    assert all(np.array_equal(before[k], v.numpy()) for k, v in net.state_dict().items())
    for group in [g for g in groups_of(name) if g.prunable][:: 5 if name == "cls" else 9]:
        data = group_data(net, group, slopes)
        assert data.gradients is not None and data.readers is not None
        gate = float((data.gradients[0].astype(float) * data.readers).sum())  # of all channels at once
        losses = []
        for scale in (0.995, 1.005):
            with masked(net, [group], {group.name: list(range(group.size))}):
                _scale(net, group, scale)
                losses.append(_loss(net, batch))
        measured = (losses[1] - losses[0]) / 0.01
        # The central difference crosses kinks of relu and hard swish: 9% off at most on these nets.
        assert measured == pytest.approx(gate, rel=0.15, abs=1e-3 * losses[0]), group.name


def _scale(net: nn.Layer, group: Group, factor: float) -> None:
    from prune.readers import readers

    layers = dict(net.named_sublayers())
    for member in group.consumers:
        for reader in readers(layers[member.path], member, group.size):
            value = reader.tensor.numpy()
            np.moveaxis(value, reader.axis, 0)[reader.indices.ravel()] *= factor
            reader.tensor.set_value(value)


def _loss(net: nn.Layer, batch: Batch) -> float:
    for layer in net.sublayers(include_self=True):
        layer.training = not isinstance(layer, (nn.BatchNorm2D, nn.Dropout))
    with paddle.no_grad():
        found = float(power(net(paddle.to_tensor(batch.image)), batch))
    net.eval()
    return found


def test_bn_scale_by_hand_and_groups_without_a_norm() -> None:
    net = nn.Sequential(
        nn.Conv2D(3, 2, 1), nn.BatchNorm2D(2), nn.Conv2D(2, 2, 1, groups=2), nn.BatchNorm2D(2),
        nn.Conv2D(2, 3, 1), nn.ReLU(), nn.Conv2D(3, 1, 1),
    )  # fmt: skip
    net[1].weight.set_value(np.array([1.0, -4.0], "float32"))
    net[3].weight.set_value(np.array([2.0, 0.0], "float32"))
    groups = find_groups(net, (3, 4, 4))
    data = group_data(net, by_name(groups, "0"))
    assert CRITERIA["bn_scale"](data).tolist() == [1.5, 2.0]
    assert has_norm(net, by_name(groups, "0")) and not has_norm(net, by_name(groups, "4"))
    with pytest.raises(UsageError, match="bn_scale needs norms, which this group lacks"):
        CRITERIA["bn_scale"](group_data(net, by_name(groups, "4")))
    with pytest.raises(UsageError, match="taylor needs gradients"):
        CRITERIA["taylor"](data)


@pytest.mark.parametrize("kind", sorted(CRITERIA))
@given(size=st.integers(2, 12), seed=st.integers(0, 99))
def test_scores_follow_the_channels_and_equal_channels_score_equal(kind: str, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = {name: rng.normal(size=(size, 5)).astype("float32") for name in ("filters", "norms", "readers")}
    slopes = rng.normal(size=(3, size, 5)).astype("float32")
    for array in (*rows.values(), slopes.transpose(1, 0, 2)):
        array[1] = array[0]
    order = rng.permutation(size)
    scores = CRITERIA[kind](GroupData(**rows, gradients=slopes))
    moved = CRITERIA[kind](GroupData(**{k: v[order] for k, v in rows.items()}, gradients=slopes[:, order]))
    assert scores.dtype == np.float64 and scores.shape == (size,)
    np.testing.assert_allclose(moved, scores[order], rtol=1e-12, atol=0)  # float64 sums in another order
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)


def test_hidden_units_are_judged_by_their_four_gates_in_every_layer_and_direction() -> None:
    class Net(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 2, num_layers=2, direction="bidirectional")
            self.fc = nn.Linear(4, 2)

        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            return self.fc(self.lstm(x.squeeze(2).transpose([0, 2, 1]))[0])

    net = Net()
    group = by_name(find_groups(net, (3, 1, 5)), "lstm")
    lstm = net.lstm
    # Mark unit 1 of one gate of one weight: only its row sees it, once.
    for name in lstm._parameters:
        getattr(lstm, name).set_value(np.zeros(getattr(lstm, name).shape, "float32"))
    value = np.zeros((8, 4), "float32")
    value[2 * 2 + 1, 3] = 7.0  # gate 2, unit 1
    lstm.weight_ih_l1_reverse.set_value(value)
    rows = filters(net, group)
    # 4 gates x (3 + 2) in layer 0 and x (4 + 2) in layer 1, in both directions.
    assert rows.shape == (2, 2 * 4 * 5 + 2 * 4 * 6)
    assert rows[0].tolist() == [0.0] * 88 and sorted(rows[1])[-2:] == [0.0, 7.0]

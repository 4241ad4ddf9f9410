"""A pruned net equals the masked float net, and a wrong group does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import paddle
import pytest
from paddle import nn

from prune.costs import CostModel
from prune.criteria import CRITERIA
from prune.filters import drop_lowest, group_data, has_norm, kept_count
from prune.gradients import gradients
from prune.groups import Group, by_name, cuts_for, find_groups
from prune.mask import masked
from prune.verify import BOUND, difference, random_input
from slim.arch.cost import count
from slim.arch.cuts import apply_cuts
from slim.errors import StageFailed

from .conftest import SHAPES

Make = Callable[[str], nn.Layer]
Groups = Callable[[str], tuple[Group, ...]]
NAMES = ("cls", "rec", "det_mv3", "det_res18", "layers")


@dataclass
class Batch:
    image: np.ndarray


def choose(
    net: nn.Layer,
    groups: tuple[Group, ...],
    ratio: float,
    kind: str = "l1",
    shape: tuple[int, int, int] = (3, 32, 96),
) -> dict[str, list[int]]:
    """What a criterion keeps of every group it can judge."""
    slopes = None
    if kind == "taylor":
        image = random_input(shape, 8, batch=1)
        slopes = gradients(net, lambda out, batch: (out * out).mean(), [Batch(image), Batch(-image)])
    judged = [g for g in groups if g.prunable and (kind != "bn_scale" or has_norm(net, g))]
    return {
        g.name: drop_lowest(CRITERIA[kind](group_data(net, g, slopes)), g.size - kept_count(g.size, ratio))
        for g in judged
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=pytest.mark.slow if "det" in name and kind != "l1" else ())
        for name in NAMES
        for kind in sorted(CRITERIA)
    ],
)
def test_pruned_equals_masked_and_costs_what_was_computed(
    nets: Make, groups_of: Groups, name: str, kind: str
) -> None:
    net, shape = nets(name), SHAPES[name]
    groups = groups_of(name)
    kept = choose(net, groups, 0.3, kind, shape)
    assert len(kept) >= (5 if name == "layers" else 9)
    costs = CostModel(net, groups, shape)
    whole = net(paddle.to_tensor(random_input(shape, 1))).numpy()
    pruned = nets(name)
    apply_cuts(pruned, cuts_for(groups, kept))
    counts = {g: len(channels) for g, channels in kept.items()}
    measured = count(pruned, shape)
    assert (costs.flops(counts), costs.params(counts)) == (measured.flops, measured.params)
    assert costs.flops({}) == costs.flops_before and costs.params({}) == costs.params_before
    # Outputs are probabilities or logits of order 1; float32 sums over fewer terms differ by rounding.
    assert difference(net, pruned, groups, kept, random_input(shape, 1)) <= BOUND
    # The mask is not void: it moves the output by far more than the bound.
    assert np.abs(net(paddle.to_tensor(random_input(shape, 1))).numpy() - whole).max() > 100 * BOUND


def one_group(groups: tuple[Group, ...], group: str) -> dict[str, list[int]]:
    chosen = by_name(groups, group)
    return {group: list(range(0, chosen.size, 2))}


@pytest.mark.parametrize(
    ("name", "group", "layer", "side"),
    [
        ("cls", "backbone.blocks.4.expand_conv.conv", "backbone.blocks.4.expand_conv.bn", "out"),
        ("cls", "backbone.blocks.4.expand_conv.conv", "backbone.blocks.4.mid_se.conv2", "out"),
        ("cls", "backbone.blocks.3.linear_conv.conv", "backbone.blocks.5.linear_conv.conv", "out"),
        ("rec", "backbone.conv2.conv", "neck.encoder.lstm", "in"),
        ("rec", "neck.encoder.lstm", "neck.encoder.lstm", "hidden"),
        ("rec", "neck.encoder.lstm", "head.fc", "in"),
        ("det_mv3", "neck.p4_conv", "head.binarize.conv1", "in"),
        ("det_mv3", "neck.p4_conv", "head.thresh.conv1", "in"),
        ("layers", "backbone.layers.0.conv", "backbone.layers.1.layers.1.bn", "out"),
        ("layers", "backbone.layers.2.layers.0.conv", "backbone.layers.2.layers.2.conv2", "out"),
        ("layers", "backbone.layers.2.short.conv", "backbone.layers.2.layers.3.bn", "out"),
    ],
)
def test_one_index_wrong_in_one_layer_is_seen(
    nets: Make, groups_of: Groups, name: str, group: str, layer: str, side: str
) -> None:
    groups = groups_of(name)
    kept = one_group(groups, group)
    right = cuts_for(groups, kept)
    wrong = {path: {s: list(i) for s, i in cut.items()} for path, cut in right.items()}
    indices = wrong[layer][side]
    spot = next(k for k, i in enumerate(indices) if i + 1 not in indices)
    indices[spot] += 1  # the neighbour of a kept channel, which is not kept
    good, bad = nets(name), nets(name)
    apply_cuts(good, right)
    apply_cuts(bad, wrong)
    x = random_input(SHAPES[name], 2)
    assert difference(nets(name), good, groups, kept, x) <= BOUND
    assert difference(nets(name), bad, groups, kept, x) > 10 * BOUND


def test_a_group_that_misses_a_layer_does_not_run(nets: Make, groups_of: Groups) -> None:
    groups = groups_of("cls")
    kept = one_group(groups, "backbone.blocks.3.linear_conv.conv")
    lost = [
        replace(g, members=tuple(m for m in g.members if m.path != "backbone.blocks.4.linear_conv.bn"))
        for g in groups
    ]
    pruned = nets("cls")
    apply_cuts(pruned, cuts_for(lost, kept))
    with pytest.raises(StageFailed, match="does not run"):
        difference(nets("cls"), pruned, groups, kept, random_input(SHAPES["cls"], 3))


class Sequence(nn.Layer):
    """A recurrent net of a user: one direction, three layers, time first, an activation behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.lstm = nn.LSTM(8, 6, num_layers=3, time_major=True, dropout=0.1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.conv(x).max(axis=2).transpose([2, 0, 1])
        return self.fc(paddle.nn.functional.sigmoid(self.lstm(x)[0])).transpose([1, 0, 2])


def test_hidden_units_of_a_users_lstm() -> None:
    paddle.seed(3)
    net, pruned = Sequence(), Sequence()
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    pruned.set_state_dict(state)
    groups = find_groups(net, (3, 4, 9))
    kept = {"lstm": [1, 2, 5], "conv": [0, 3, 7]}
    counts = {name: len(channels) for name, channels in kept.items()}
    costs = CostModel(net, groups, (3, 4, 9))
    apply_cuts(pruned, cuts_for(groups, kept))
    assert (pruned.lstm.time_major, pruned.lstm.dropout, pruned.lstm.hidden_size) == (True, 0.1, 3)
    assert costs.params(counts) == count(pruned, (3, 4, 9)).params
    assert difference(net, pruned, groups, kept, random_input((3, 4, 9), 0)) <= BOUND
    # The twin: another unit kept in the LSTM than in what reads it.
    wrong = Sequence()
    wrong.set_state_dict(state)
    cuts = cuts_for(groups, kept)
    apply_cuts(wrong, {**cuts, "lstm": {**cuts["lstm"], "hidden": [1, 2, 4]}})
    assert difference(net, wrong, groups, kept, random_input((3, 4, 9), 0)) > 100 * BOUND


def test_a_mask_is_undone_bit_by_bit(nets: Make, groups_of: Groups) -> None:
    net, groups = nets("rec"), groups_of("rec")
    before = {name: t.numpy() for name, t in net.state_dict().items()}
    kept = choose(net, groups, 0.5)
    with masked(net, groups, kept):
        changed = [n for n, t in net.state_dict().items() if not np.array_equal(before[n], t.numpy())]
    lstm = {"weight_ih_l0", "weight_hh_l0_reverse", "weight_ih_l1", "weight_hh_l1"}
    assert {f"neck.encoder.lstm.{name}" for name in lstm} <= set(changed) and "head.fc.weight" in changed
    assert all(np.array_equal(before[n], t.numpy()) for n, t in net.state_dict().items())


def test_masking_reaches_through_an_activation_that_is_not_zero_at_zero() -> None:
    """sigmoid(0) = 0.5: zeroing the filters that make a channel would not take it away."""
    paddle.seed(0)
    net = nn.Sequential(nn.Conv2D(3, 4, 1), nn.Sigmoid(), nn.Conv2D(4, 2, 1))
    pruned = nn.Sequential(nn.Conv2D(3, 4, 1), nn.Sigmoid(), nn.Conv2D(4, 2, 1))
    pruned.set_state_dict(net.state_dict())
    groups = find_groups(net, (3, 4, 4))
    kept = {"0": [0, 3]}
    apply_cuts(pruned, cuts_for(groups, kept))
    assert difference(net, pruned, groups, kept, random_input((3, 4, 4), 0)) <= BOUND


def test_pruning_twice_composes(nets: Make) -> None:
    shape, done = SHAPES["rec"], []
    for seed in (1, 2):
        reference, pruned = nets("rec"), nets("rec")
        for cuts in done:
            apply_cuts(reference, cuts)
            apply_cuts(pruned, cuts)
        groups = find_groups(reference, shape)
        kept = choose(reference, groups, 0.2)
        done.append(cuts_for(groups, kept))
        apply_cuts(pruned, done[-1])
        assert difference(reference, pruned, groups, kept, random_input(shape, seed)) <= BOUND

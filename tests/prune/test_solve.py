"""Budgets: flat shares, the greedy path, alignment, what happens when a target is out of reach."""

from __future__ import annotations

import pytest
from paddle import nn

from prune.costs import CostModel
from prune.groups import Group, find_groups
from prune.sensitivity import Point, Sensitivity
from prune.solve import by_ratio, for_flops, greedy
from slim.errors import UsageError

SHAPE = (3, 8, 8)


def chain() -> tuple[nn.Layer, tuple[Group, ...]]:
    net = nn.Sequential(nn.Conv2D(3, 16, 1), nn.ReLU(), nn.Conv2D(16, 32, 1), nn.ReLU(), nn.Conv2D(32, 4, 1))
    return net, tuple(g for g in find_groups(net, SHAPE) if g.prunable)


@pytest.fixture(scope="module")
def solved() -> tuple[tuple[Group, ...], CostModel]:
    net, groups = chain()
    return groups, CostModel(net, find_groups(net, SHAPE), SHAPE)


def curves(first: list[tuple[int, float]], second: list[tuple[int, float]]) -> Sensitivity:
    points = {
        name: [Point(kept, 100 * (1 - loss), loss, 0.0) for kept, loss in curve]
        for name, curve in (("0", first), ("2", second))
    }
    return Sensitivity(100.0, points)


def test_by_ratio_takes_the_same_share_aligned_and_leaves_groups_it_cannot_cut(
    solved: tuple[tuple[Group, ...], CostModel],
) -> None:
    groups, _ = solved
    assert by_ratio(groups, 0.25) == {"0": 12, "2": 24}
    assert by_ratio(groups, 0.25, align=8) == {"2": 24}


def test_the_cheapest_loss_goes_first(solved: tuple[tuple[Group, ...], CostModel]) -> None:
    groups, costs = solved
    path = list(greedy(groups, curves([(8, 0.4)], [(16, 0.01)]), costs))
    assert path[0].kept == {} and path[0].flops == costs.flops_before
    dear = next(i for i, c in enumerate(path) if "0" in c.kept)
    assert path[dear - 1].kept == {"2": 16}
    assert path[-1].kept == {"0": 8, "2": 16}
    assert path[-1].loss == pytest.approx(0.41, abs=1e-9)  # sums of the two ends, float rounding
    assert all(a.flops > b.flops and a.loss <= b.loss for a, b in zip(path, path[1:], strict=False))


def test_flops_are_those_of_the_counts(solved: tuple[tuple[Group, ...], CostModel]) -> None:
    groups, costs = solved
    for choice in greedy(groups, curves([(8, 0.1)], [(16, 0.1)]), costs):
        assert choice.flops == costs.flops(choice.kept)


def test_a_dear_first_step_does_not_hide_a_cheap_rest(solved: tuple[tuple[Group, ...], CostModel]) -> None:
    groups, costs = solved
    # "2" jumps at once and is flat after; by its hull the whole way is cheaper than "0".
    path = list(greedy(groups, curves([(12, 0.30), (8, 0.60)], [(30, 0.05), (8, 0.05)]), costs))
    dear = next(i for i, c in enumerate(path) if "0" in c.kept)
    assert path[dear - 1].kept == {"2": 8}


@pytest.mark.parametrize("align", [1, 3, 4, 8])
@pytest.mark.parametrize("low", [1, 5, 15])
def test_kept_counts_are_aligned(solved: tuple[tuple[Group, ...], CostModel], align: int, low: int) -> None:
    groups, costs = solved
    last = list(greedy(groups, curves([(low, 0.2)], [(low, 0.2)]), costs, align))[-1]
    assert last.kept["2"] < 32 and all(c % align == 0 and c >= low for c in last.kept.values())


def test_a_flops_target_is_met_or_refused_with_the_reach(solved: tuple[tuple[Group, ...], CostModel]) -> None:
    groups, costs = solved
    path = list(greedy(groups, curves([(14, 0.1)], [(28, 0.1)]), costs))
    choice = for_flops(path, 0.1)
    assert 1 - choice.flops / costs.flops_before >= 0.1
    assert path.index(choice) == 0 or 1 - path[path.index(choice) - 1].flops / costs.flops_before < 0.1
    with pytest.raises(
        UsageError, match=r"cannot remove 60\.0% of the FLOPs: the measured curves reach 2\d\.\d%"
    ):
        for_flops(path, 0.6)

"""Budgets: flat shares, the greedy path, alignment, what happens when a target is out of reach."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from paddle import nn

from prune.bounds import Bound, bounds
from prune.budget import Limits
from prune.choose import _first
from prune.costs import CostModel
from prune.groups import Group, find_groups
from prune.sensitivity import Point, Sensitivity
from prune.solve import by_ratio, greedy, within
from prune.times import measured
from slim.config import PruneRule
from slim.errors import UsageError

SHAPE = (3, 8, 8)


def chain() -> tuple[nn.Layer, tuple[Group, ...]]:
    net = nn.Sequential(nn.Conv2D(3, 16, 1), nn.ReLU(), nn.Conv2D(16, 32, 1), nn.ReLU(), nn.Conv2D(32, 4, 1))
    return net, tuple(g for g in find_groups(net, SHAPE) if g.prunable)


@pytest.fixture(scope="module")
def solved() -> tuple[tuple[Group, ...], CostModel]:
    net, groups = chain()
    return groups, CostModel(net, find_groups(net, SHAPE), SHAPE)


def free(groups: tuple[Group, ...], align: int = 1) -> dict[str, Bound]:
    return bounds(groups, (), align)


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
    assert by_ratio(groups, 0.25, free(groups)) == {"0": 12, "2": 24}
    assert by_ratio(groups, 0.25, free(groups, 8)) == {"2": 24}


def test_a_single_choice_over_the_limit_is_refused_whatever_the_clock_says_next() -> None:
    readings = iter([0.701, 0.699])
    with pytest.raises(UsageError, match="0.701"):
        _first(["only"], 0, lambda _: next(readings), 0.70, lambda _: 1.0, lambda n: UsageError(str(n)))


def test_time_is_shared_out_as_the_net_is_now() -> None:
    """After a round at 0.80 of the whole net's time a cut to 0.78 saves a fortieth, not 0.22."""

    class Costs:
        flops_before = 100

        def flops(self, kept: object) -> int:
            return 95

    group = SimpleNamespace(name="a", size=8)
    curves = SimpleNamespace(curves={"a": [SimpleNamespace(kept=4)]})
    timed = measured([group], curves, Costs(), lambda cuts: [0.78 if cut else 0.80 for cut in cuts])
    assert timed.share({"a": 4}, {"a": 8}) == pytest.approx(0.975)


def test_the_cheapest_loss_goes_first(solved: tuple[tuple[Group, ...], CostModel]) -> None:
    groups, costs = solved
    path = list(greedy(groups, curves([(8, 0.4)], [(16, 0.01)]), costs, free(groups)))
    assert path[0].kept == {} and path[0].flops == costs.flops_before
    dear = next(i for i, c in enumerate(path) if "0" in c.kept)
    assert path[dear - 1].kept == {"2": 16}
    assert path[-1].kept == {"0": 8, "2": 16}
    assert path[-1].loss == pytest.approx(0.41, abs=1e-9)  # sums of the two ends, float rounding
    assert all(a.flops > b.flops and a.loss <= b.loss for a, b in zip(path, path[1:], strict=False))


def test_flops_are_those_of_the_counts(solved: tuple[tuple[Group, ...], CostModel]) -> None:
    groups, costs = solved
    for choice in greedy(groups, curves([(8, 0.1)], [(16, 0.1)]), costs, free(groups)):
        assert choice.flops == costs.flops(choice.kept)


def test_a_dear_first_step_does_not_hide_a_cheap_rest(solved: tuple[tuple[Group, ...], CostModel]) -> None:
    groups, costs = solved
    # "2" jumps at once and is flat after; by its hull the whole way is cheaper than "0".
    path = list(greedy(groups, curves([(12, 0.30), (8, 0.60)], [(30, 0.05), (8, 0.05)]), costs, free(groups)))
    dear = next(i for i, c in enumerate(path) if "0" in c.kept)
    assert path[dear - 1].kept == {"2": 8}


@pytest.mark.parametrize("align", [1, 3, 4, 8])
@pytest.mark.parametrize("low", [1, 5, 15])
def test_kept_counts_are_aligned(solved: tuple[tuple[Group, ...], CostModel], align: int, low: int) -> None:
    groups, costs = solved
    last = list(greedy(groups, curves([(low, 0.2)], [(low, 0.2)]), costs, free(groups, align)))[-1]
    assert last.kept["2"] < 32 and all(c % align == 0 and c >= low for c in last.kept.values())


def test_flops_and_params_targets_are_met_or_refused_with_the_reach(
    solved: tuple[tuple[Group, ...], CostModel],
) -> None:
    groups, costs = solved
    for limits in (
        Limits(flops=int(0.9 * costs.flops_before)),
        Limits(params=int(0.9 * costs.params_before)),
    ):
        path = list(greedy(groups, curves([(14, 0.1)], [(28, 0.1)]), costs, free(groups), limits))
        place = within(path, limits, costs)
        assert limits.counted(path[place].flops, path[place].params) and path[place].kept
        assert not limits.counted(path[place - 1].flops, path[place - 1].params)
        assert path[place].params == costs.params(path[place].kept)
    with pytest.raises(
        UsageError, match=r"cannot remove 60\.0% of the FLOPs: the measured curves reach 2\d\.\d%"
    ):
        within(path, Limits(flops=round(0.4 * costs.flops_before)), costs)
    with pytest.raises(UsageError, match=r"Prune.params: cannot remove 60\.\d% of the parameters"):
        within(path, Limits(params=int(0.4 * costs.params_before)), costs)


def test_the_cheapest_group_depends_on_what_is_to_be_saved() -> None:
    """A conv on a large map has the multiply-adds, one on a small map the parameters."""
    net = nn.Sequential(
        *(nn.Conv2D(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2D(16, 4, 1), nn.AvgPool2D(8), nn.ReLU()),
        *(nn.Conv2D(4, 64, 1), nn.ReLU(), nn.Conv2D(64, 64, 1)),
    )
    every = find_groups(net, SHAPE)
    groups, costs = tuple(g for g in every if g.prunable), CostModel(net, every, SHAPE)
    points = [Point(g.size // 2, 90.0, 0.1, 0.0) for g in groups]
    measured = Sensitivity(100.0, {g.name: [p] for g, p in zip(groups, points, strict=True)})
    firsts = {}
    for name, limits in {
        "flops": Limits(flops=1),
        "params": Limits(params=1),
        "nb": Limits(nb_bytes=1),
    }.items():
        path = greedy(groups, measured, costs, free(groups), limits)
        next(path)
        firsts[name] = set(next(path).kept)
    assert firsts == {"flops": {"0"}, "params": {"5"}, "nb": {"5"}}


def test_each_group_stays_within_its_rules(solved: tuple[tuple[Group, ...], CostModel]) -> None:
    groups, costs = solved
    rules = (PruneRule(path="*", most=0.5), PruneRule(path="2", least=0.25, most=0.375, align=4))
    found = bounds(groups, rules, 1)
    path = list(greedy(groups, curves([(2, 0.1)], [(2, 0.9)]), costs, found))
    assert path[0].kept == {"2": 24} and path[-1].kept == {"0": 8, "2": 20}
    assert path[0].flops == costs.flops({"2": 24}) and path[0].loss > 0
    assert by_ratio(groups, 0.6, found) == {"0": 8, "2": 20}
    assert by_ratio(groups, 0.1, found) == {"0": 14, "2": 24}
    with pytest.raises(UsageError, match="2 must keep at most 24 of 32 channels, and its curve ends at 30"):
        list(greedy(groups, curves([(2, 0.1)], [(30, 0.9)]), costs, found))
    with pytest.raises(UsageError, match="nope names no group that is pruned"):
        bounds(groups, (PruneRule(path="nope", most=0.5),), 1)
    with pytest.raises(UsageError, match="0 may keep 14 to 15 of 16 channels, and no multiple of 8 lies"):
        bounds(groups, (PruneRule(path="0", least=0.01, most=0.125),), 8)


def test_one_channel_stays_where_a_share_rounds_to_all() -> None:
    gate = Group("gate", 2, (), ())
    assert bounds([gate], (PruneRule(path="*", least=0.6),), 1)["gate"].counts() == [1]

"""Budgets of a recipe: each is held by the cut net, or refused with the reach and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from prune import stage
from prune.budget import Goal
from prune.choose import SPARE
from prune.groups import Group, find_groups
from prune.sensitivity import Point, Sensitivity
from slim.arch.cost import count
from slim.artifact import write_json
from slim.bundle import Bundle
from slim.config import PruneRule, PruneSection
from slim.errors import UsageError
from slim.progress import Silent
from slim.stage import StageContext

Bundles = Callable[[str], Bundle]
_GROUPS: list[Group] = []


@pytest.fixture(scope="module")
def classifier(bundles: Bundles) -> Bundle:
    return bundles("cls")


@pytest.fixture(autouse=True)
def traced_once(classifier: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of these tests cut the same net: its groups are followed once a session."""

    def known(net: object, shape: object) -> tuple[Group, ...]:
        assert net is classifier.net
        return _groups(classifier)

    monkeypatch.setattr(stage, "find_groups", known)


def _groups(classifier: Bundle) -> tuple[Group, ...]:
    if not _GROUPS:
        _GROUPS.extend(find_groups(classifier.net, classifier.spec.input.shape))
    return tuple(_GROUPS)


@pytest.fixture(scope="module")
def curves(classifier: Bundle, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Curves of a file: losses that differ from group to group and grow with the cut."""
    groups = [g for g in _groups(classifier) if g.prunable]
    points = {
        g.name: [
            Point(kept, 90.0, (0.02 + 0.01 * (place % 5)) * (1 - kept / g.size), 0.0)
            for kept in sorted({max(1, round(g.size * left)) for left in (0.8, 0.6)}, reverse=True)
            if kept < g.size
        ]
        for place, g in enumerate(groups)
    }
    path = tmp_path_factory.mktemp("curves") / "sensitivity.json"
    write_json(path, Sensitivity(90.0, points).to_json())
    return str(path)


def costs(bundle: Bundle) -> tuple[int, int]:
    found = count(bundle.net, bundle.spec.input.shape)
    return found.flops, found.params


def size_of(bundle: Bundle) -> int:
    """A file of one byte a parameter and a header."""
    return costs(bundle)[1] + 3000


def aligned_time(bundles: Sequence[Bundle]) -> list[float]:
    """A machine that computes in blocks of 8 channels."""

    def one(bundle: Bundle) -> float:
        shapes = [p.shape for p in bundle.net.parameters() if len(p.shape) == 4]
        return float(sum(-(-s[0] // 8) * -(-s[1] // 8) * s[2] * s[3] for s in shapes))

    return [one(bundle) for bundle in bundles]


def context(tmp_path: Path, **measured: object) -> StageContext:
    given: dict[str, object] = {
        "nb_bytes": size_of,
        "latencies": lambda bundles: [float(costs(b)[0]) for b in bundles],
        **measured,
    }
    return StageContext(work=tmp_path, seed=0, **given)  # type: ignore[arg-type]


def section(curves: str, **keys: object) -> PruneSection:
    return PruneSection(criterion="l2", sensitivities=curves, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked",
    [
        {"flops": 0.12},
        {"params": 0.2},
        {"nb_bytes": 120_000},
        {"latency": 0.8},
        {"flops": 0.05, "params": 0.15},
    ],
    ids=str,
)
def test_each_budget_is_held_and_no_more_is_cut(
    classifier: Bundle, curves: str, asked: dict[str, float], tmp_path: Path
) -> None:
    recipe, ctx = section(curves, **asked), context(tmp_path)
    pruned = stage.apply(classifier, stage.plan(classifier, recipe, ctx))
    checks = stage.checks(classifier, pruned, recipe, ctx)
    assert len(checks) == 1 + len(asked) and all(check.passed for check in checks)
    close = [check.value >= 0.93 * check.bound for check in checks[1:]]
    assert any(close), [check.line() for check in checks]
    # The twin: the whole net misses every budget.
    whole = classifier.clone()
    whole.cuts = pruned.cuts
    assert not any(check.passed for check in stage.checks(classifier, whole, recipe, ctx)[1:])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"params": 0.9}, r"Prune.params: cannot remove 90.0% of the parameters: .* reach \d\d.\d%; lower"),
        ({"nb_bytes": 9}, r"Prune.nb_bytes: the ARM file cannot be 9 bytes: .* reach \d\d,\d{3}; raise"),
        ({"latency": 0.2}, r"Prune.latency: cannot reach 20% of the unpruned time.* reach \d\d.\d%; raise"),
    ],
)
def test_a_budget_out_of_reach_is_an_error_with_the_reach(
    classifier: Bundle, curves: str, asked: dict[str, float], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        stage.plan(classifier, section(curves, **asked), context(tmp_path))


def test_files_are_made_only_where_somebody_can(classifier: Bundle, curves: str, tmp_path: Path) -> None:
    for asked in ({"nb_bytes": 120_000}, {"latency": 0.8}):
        with pytest.raises(UsageError, match="give StageContext"):
            stage.plan(classifier, section(curves, **asked), StageContext(work=tmp_path, seed=0))


def test_few_files_are_made(classifier: Bundle, curves: str, tmp_path: Path) -> None:
    made: list[int] = []

    def weigh(bundle: Bundle) -> int:
        made.append(size_of(bundle))
        return made[-1]

    plan = stage.plan(classifier, section(curves, nb_bytes=118_000), context(tmp_path, nb_bytes=weigh))
    assert plan.params_after + 3000 <= 118_000 and len(made) <= 6


def test_a_latency_is_searched_with_some_to_spare(classifier: Bundle, curves: str, tmp_path: Path) -> None:
    plan = stage.plan(classifier, section(curves, latency=0.8), context(tmp_path))
    assert plan.flops_after / plan.flops_before <= 0.8 * (1 - SPARE)


def test_the_fastest_alignment_is_measured(classifier: Bundle, curves: str, tmp_path: Path) -> None:
    told: list[str] = []

    class Told(Silent):
        def info(self, message: str) -> None:
            told.append(message)

    ctx = context(tmp_path, latencies=aligned_time, progress=Told())
    plan = stage.plan(classifier, section(curves, flops=0.12, align="fastest"), ctx)
    assert all(len(kept) % 8 == 0 for kept in plan.kept.values()) and plan.flops_cut >= 0.12
    assert any("takes 8" in line for line in told)
    # Where every alignment takes the same time, the one that loses least is taken.
    same = context(tmp_path, latencies=lambda bundles: [1.0] * len(bundles))
    free = stage.plan(classifier, section(curves, flops=0.12, align="fastest"), same)
    assert any(len(kept) % 8 for kept in free.kept.values())


def test_single_groups_keep_their_bounds(classifier: Bundle, curves: str, tmp_path: Path) -> None:
    rules = (
        PruneRule(path="backbone.blocks.*", most=0.25),
        PruneRule(path="backbone.conv2.*", least=0.3),
        PruneRule(path="backbone.blocks.9.expand_conv.*", most=0.4, align=4),
    )
    plan = stage.plan(classifier, section(curves, flops=0.14, rules=rules), context(tmp_path))
    for name, kept in plan.kept.items():
        left = len(kept) / plan.sizes[name]
        if name == "backbone.blocks.9.expand_conv.conv":
            assert left >= 0.6 and len(kept) % 4 == 0
        elif name.startswith("backbone.blocks."):
            assert left >= 0.75
    assert len(plan.kept["backbone.conv2.conv"]) <= 0.7 * plan.sizes["backbone.conv2.conv"]
    assert plan.flops_cut >= 0.14


def test_budgets_and_a_drop_hold_together_or_not_at_all(
    classifier: Bundle, curves: str, tmp_path: Path
) -> None:
    x = np.random.default_rng(3).uniform(-1, 1, (1, *classifier.spec.input.shape)).astype("float32")
    whole = classifier.run(x)
    ctx = context(tmp_path, score=lambda b: float(100 - 50 * np.abs(b.run(x) - whole).sum(axis=-1).mean()))
    recipe = section(curves, params=0.05, max_drop=60.0)
    assert stage.plan(classifier, recipe, ctx).params_cut >= 0.05
    with pytest.raises(UsageError, match=r"Prune.max_drop: the other budgets cost \d+\.\d\d points"):
        stage.plan(classifier, recipe.model_copy(update={"max_drop": 0.0, "params": 0.35}), ctx)
    forced = section(curves, max_drop=0.0, rules=(PruneRule(path="*expand_conv.conv", least=0.3),))
    with pytest.raises(
        UsageError, match=r"Prune.max_drop: what the rules cut at least costs \d+\.\d\d points"
    ):
        stage.plan(classifier, forced, ctx)


def test_a_round_goes_its_part_of_the_way(classifier: Bundle, curves: str, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    recipe = section(curves, flops=0.12, nb_bytes=118_000, latency=0.85)
    goal = Goal(classifier, 1, 2)
    half = stage.apply(classifier, stage.plan(classifier, recipe, ctx, goal))
    checks = stage.checks(classifier, half, recipe, ctx, goal)
    assert [check.passed for check in checks] == [True, True]
    (flops, params), (flops_left, params_left) = costs(classifier), costs(half)
    assert flops_left <= 0.925 * (1 - SPARE) * flops < 1.03 * flops_left
    assert params_left + 3000 <= (params + 3000 + 118_000) / 2


@pytest.mark.parametrize("align", [1, "fastest"])
def test_a_later_round_with_nothing_left_to_cut_is_no_error(
    classifier: Bundle, bundles: Bundles, curves: str, align: object, tmp_path: Path
) -> None:
    """The whole net was a larger one: its budget is held before this round, whatever the alignment."""
    recipe, whole = section(curves, flops=0.12, align=align), bundles("rec")
    assert not stage.plan(classifier, recipe, context(tmp_path), Goal(whole, 2, 2)).kept
    with pytest.raises(UsageError, match="the recipe removes no channel"):
        stage.plan(classifier, recipe, context(tmp_path), Goal(whole))


def test_what_is_cut_for_time_is_what_takes_time(classifier: Bundle, curves: str, tmp_path: Path) -> None:
    """A machine on which one early layer takes nearly all the time, whatever its multiply-adds."""
    slow = "backbone.blocks.1.expand_conv.conv"
    layer = dict(classifier.net.named_sublayers())[slow]
    timed: list[int] = []

    def clock(bundles: Sequence[Bundle]) -> list[float]:
        timed.append(len(bundles))
        widths = [
            dict(b.net.named_sublayers())[slow].weight.shape[0] / layer.weight.shape[0] for b in bundles
        ]
        return [
            9.0 * width + costs(b)[0] / costs(classifier)[0] for width, b in zip(widths, bundles, strict=True)
        ]

    plan = stage.plan(classifier, section(curves, latency=0.8), context(tmp_path, latencies=clock))
    assert len(plan.kept[slow]) <= 0.8 * plan.sizes[slow]
    # Little else has to go: the multiply-adds would ask for a fifth of them.
    assert plan.flops_cut < 0.1
    # Each group once, a handful beside the whole net at a time.
    assert max(timed) <= 7 and sum(timed) < 60
    by_flops = stage.plan(classifier, section(curves, flops=plan.flops_cut), context(tmp_path))
    assert len(by_flops.kept.get(slow, range(plan.sizes[slow]))) > len(plan.kept[slow])

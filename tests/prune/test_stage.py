"""The stage on the shipped models: plan, apply, checks, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prune import stage
from prune.plan import PrunePlan
from slim.bundle import Bundle
from slim.config import PruneSection
from slim.errors import ArtifactError, UnsupportedModel, UsageError
from slim.pipeline.datasets import open_labels
from slim.progress import Silent
from slim.stage import StageContext
from slim.synth import synthesize

Bundles = Callable[[str], Bundle]
FEW = ("backbone.conv1.*", "backbone.blocks.[0-8].*", "backbone.blocks.10.*")


def context(tmp_path: Path, score: Callable[[Bundle], float] | None = None) -> StageContext:
    return StageContext(work=tmp_path, seed=0, score=score)


def sure(bundle: Bundle) -> Callable[[Bundle], float]:
    """Agreement with the untouched net on noise, in percent of probability: smooth and quick."""
    x = np.random.default_rng(3).uniform(-1, 1, (1, *bundle.spec.input.shape)).astype("float32")
    whole = bundle.run(x)
    return lambda b: float(100 - 50 * np.abs(b.run(x) - whole).sum(axis=-1).mean())


@pytest.fixture(scope="module")
def classifier(bundles: Bundles) -> Bundle:
    return bundles("cls")


@pytest.fixture(scope="module")
def flat(classifier: Bundle, tmp_path_factory: pytest.TempPathFactory) -> PrunePlan:
    section = PruneSection(method="ratio", ratio=0.25, criterion="l1")
    return stage.plan(classifier, section, context(tmp_path_factory.mktemp("work")))


def test_a_plan_by_ratio_cuts_every_group_and_touches_nothing(classifier: Bundle, flat: PrunePlan) -> None:
    before = classifier.sha256()
    pruned = stage.apply(classifier, flat)
    assert classifier.sha256() == before == flat.weights and not classifier.cuts
    assert all(len(kept) == round(0.75 * flat.sizes[name]) for name, kept in flat.kept.items())
    checks = stage.checks(classifier, pruned, PruneSection(method="ratio", ratio=0.25))
    assert [c.name for c in checks] == ["masked net against pruned net"] and checks[0].passed
    assert 0.3 < flat.flops_cut < 0.5


def test_a_pruned_bundle_is_reopened_by_its_plan(classifier: Bundle, flat: PrunePlan) -> None:
    pruned = stage.apply(classifier, flat)
    again = pruned.clone()
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 48, 192)).astype("float32")
    assert np.array_equal(again.run(x), pruned.run(x))
    assert PrunePlan.from_json(pruned.cuts[-1]) == flat


def test_a_damaged_cut_fails_the_check(classifier: Bundle, flat: PrunePlan) -> None:
    pruned = stage.apply(classifier, flat)
    name = "backbone.blocks.4.expand_conv.bn.bias"
    layers = dict(pruned.net.named_parameters())
    layers[name].set_value(layers[name].numpy()[::-1].copy())
    assert not stage.checks(classifier, pruned, PruneSection(method="ratio", ratio=0.25))[0].passed


def test_by_sensitivity_meets_the_flops_target_and_writes_its_curves(
    classifier: Bundle, tmp_path: Path
) -> None:
    section = PruneSection(flops=0.03, ratios=(0.1, 0.3), exclude=FEW, criterion="l2")
    plan = stage.plan(classifier, section, context(tmp_path, sure(classifier)))
    assert 0.03 <= plan.flops_cut < 0.06 and (tmp_path / stage.SENSITIVITY).is_file()
    assert not any(name.startswith("backbone.conv1") for name in plan.kept)
    checks = stage.checks(classifier, stage.apply(classifier, plan), section)
    assert [c.passed for c in checks] == [True, True]
    harder = stage.checks(
        classifier, stage.apply(classifier, plan), section.model_copy(update={"flops": 0.2})
    )
    assert [c.passed for c in harder] == [True, False]


def test_a_drop_budget_stops_the_cut(classifier: Bundle, tmp_path: Path) -> None:
    score = sure(classifier)
    section = PruneSection(flops=None, max_drop=6.0, ratios=(0.1, 0.3), exclude=FEW, criterion="l2")
    plan = stage.plan(classifier, section, context(tmp_path, score))
    dropped = score(classifier) - score(stage.apply(classifier, plan))
    assert 0 < dropped <= 6.0 + 1e-2  # points; the pruned net rounds otherwise than the masked one


def test_every_kind_of_net_can_be_planned(bundles: Bundles, tmp_path: Path) -> None:
    bundle = bundles("rec")
    plan = stage.plan(bundle, PruneSection(method="ratio", ratio=0.1, align=4), context(tmp_path))
    assert all(len(kept) % 4 == 0 for kept in plan.kept.values())
    assert set(plan.cuts["neck.encoder.lstm"]) == {"in", "hidden"}
    assert stage.checks(bundle, stage.apply(bundle, plan), PruneSection(method="ratio"))[0].passed


def test_a_criterion_leaves_whole_what_it_cannot_judge_and_says_so(
    classifier: Bundle, tmp_path: Path
) -> None:
    told: list[str] = []

    class Told(Silent):
        def info(self, message: str) -> None:
            told.append(message)

    section = PruneSection(method="ratio", ratio=0.25, criterion="bn_scale")
    plan = stage.plan(classifier, section, StageContext(work=tmp_path, seed=0, progress=Told()))
    assert "backbone.conv1.conv" in plan.kept and not any("mid_se" in name for name in plan.kept)
    assert "9 groups have no BatchNorm and stay whole" in told[0] and "mid_se.conv1" in told[0]


def test_taylor_needs_labelled_lines_and_uses_them(classifier: Bundle, tmp_path: Path) -> None:
    section = PruneSection(method="ratio", ratio=0.25, criterion="taylor", gradient_batches=2)
    with pytest.raises(UsageError, match="criterion taylor needs labelled lines"):
        stage.plan(classifier, section, context(tmp_path))
    synthesize("cls", tmp_path / "lines", {"train": 40, "eval": 0, "calib": 0}, 3)
    data = open_labels(tmp_path / "lines" / "train.txt", "cls")
    before = classifier.sha256()
    plans = [
        stage.plan(classifier, section, StageContext(work=tmp_path, seed=seed, calibration=data))
        for seed in (0, 0)
    ]
    assert plans[0] == plans[1] and classifier.sha256() == before
    flat = section.model_copy(update={"criterion": "l1"})
    assert plans[0].kept != stage.plan(classifier, flat, context(tmp_path)).kept
    assert stage.checks(classifier, stage.apply(classifier, plans[0]), section)[0].passed


def test_show_groups_is_plain_data(classifier: Bundle) -> None:
    rows = {row["name"]: row for row in stage.show_groups(classifier)}
    assert rows["backbone.conv2.conv"]["flops_per_channel"] > 0
    assert rows["head.fc"]["reasons"] and rows["head.fc"]["flops_per_channel"] == 0


def test_groups_of_a_quantized_model_are_not_an_empty_table(classifier: Bundle) -> None:
    with pytest.raises(UnsupportedModel, match="is a quantized model"):
        stage.show_groups(replace(classifier, scheme={}))


def test_a_plan_by_ratio_is_that_of_the_first_process(
    classifier: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``align: fastest`` two clocks may choose two alignments."""
    answer = {"backbone.conv2.conv": 100}
    monkeypatch.setattr(stage, "on_first", lambda make: answer)
    plan = stage.plan(classifier, PruneSection(method="ratio", ratio=0.1), context(tmp_path))
    assert {name: len(kept) for name, kept in plan.kept.items()} == answer


def test_what_the_stage_refuses(classifier: Bundle, flat: PrunePlan, tmp_path: Path) -> None:
    by_ratio = PruneSection(method="ratio", ratio=0.1)
    with pytest.raises(ArtifactError, match="made for weights 000000000000"):
        stage.apply(classifier, replace(flat, weights="0" * 64))
    with pytest.raises(UnsupportedModel, match="is a quantized model"):
        stage.plan(replace(classifier, scheme={}), by_ratio, context(tmp_path))
    with pytest.raises(UsageError, match="nope.* names no layer"):
        stage.plan(classifier, by_ratio.model_copy(update={"exclude": ("nope*",)}), context(tmp_path))
    with pytest.raises(UsageError, match="no group is left"):
        stage.plan(classifier, by_ratio.model_copy(update={"exclude": ("*",)}), context(tmp_path))
    with pytest.raises(UsageError, match="removes no channel"):
        stage.plan(classifier, by_ratio.model_copy(update={"align": 512}), context(tmp_path))
    with pytest.raises(UsageError, match="needs lines to score on"):
        stage.plan(classifier, PruneSection(), context(tmp_path))
    with pytest.raises(UsageError, match="is this checkpoint trained"):
        stage.plan(classifier, PruneSection(), context(tmp_path, lambda b: 0.01))

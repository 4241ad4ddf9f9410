"""Curves measured before: PaddleSlim's own file, hostile ones, and the picture."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prune import stage
from prune.curves import from_paddleslim, read_curves, read_sen_pickle
from prune.curves_plot import plot_curves, require_drawable
from prune.groups import Group
from prune.sensitivity import Point, Sensitivity
from slim.artifact import read_json, write_json
from slim.bundle import Bundle
from slim.config import Config, PruneSection
from slim.errors import CheckpointError, InputError
from slim.pipeline.pruning import prune
from slim.progress import Silent
from slim.stage import StageContext

Bundles = Callable[[str], Bundle]
Groups = Callable[[str], tuple[Group, ...]]
LOSSES = {"conv2d_0.w_0": {0.25: 0.01, 0.5: 0.04}, "conv2d_3.w_0": {0.1: -0.02}}


def written(path: Path, data: Any) -> Path:
    path.write_bytes(pickle.dumps(data))
    return path


@pytest.fixture(scope="module")
def classifier(bundles: Bundles) -> Bundle:
    return bundles("cls")


def test_the_file_paddleslim_writes_is_read_and_put_on_our_groups(
    classifier: Bundle, groups_of: Groups, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from paddle.utils import unique_name
    from paddleslim.dygraph import L1NormFilterPruner

    from slim.arch import build_net

    with unique_name.guard():  # the names of a process that builds this net alone
        net = build_net(classifier.spec.arch, 2)
    chosen = {net.backbone.conv1.conv.weight.name: 8, net.backbone.blocks[4].expand_conv.conv.weight.name: 88}
    pruner = L1NormFilterPruner(net, [1, 3, 48, 192])
    scores = iter([0.8, *(0.8 - 0.04 * k for k in range(1, 19))])
    others = [c.master_name for c in pruner.collections if c.master_name not in chosen]
    path = tmp_path / "sen.pickle"
    theirs = pruner.sensitive(lambda: next(scores), str(path), None, others)
    assert set(theirs) == set(chosen)
    assert read_sen_pickle(path) == theirs
    found = read_curves(path, classifier, groups_of("cls"))
    first = found.curves["backbone.conv1.conv"]
    # 10% of 8 filters is one, 0.2 rounds to two; loss (0.8 - 0.76) / 0.801.
    assert [p.kept for p in first][:2] == [7, 6]
    assert first[0].loss == pytest.approx(0.04 / 0.801, abs=1e-9)
    assert len(found.curves["backbone.blocks.4.expand_conv.conv"]) == 9


def test_names_are_paths_or_counted_weights_and_nothing_else(classifier: Bundle, groups_of: Groups) -> None:
    groups = groups_of("cls")
    found = from_paddleslim({"backbone.conv2.conv": {0.5: 0.2}, **LOSSES}, classifier, groups, where="x")
    assert list(found.curves) == [
        "backbone.conv2.conv",
        "backbone.conv1.conv",
        "backbone.blocks.0.mid_se.conv1",
    ]
    assert found.curves["backbone.conv1.conv"] == [Point(6, 99.0, 0.01, 0.0), Point(4, 96.0, 0.04, 0.0)]
    with pytest.raises(InputError, match=r"sen\.pickle: 'conv2d_57\.w_9' is no weight of this net"):
        from_paddleslim({"conv2d_57.w_9": {0.5: 0.2}}, classifier, groups, where="sen.pickle")
    with pytest.raises(InputError, match=r"bottleneck_conv\.conv, which makes no group"):
        from_paddleslim({"conv2d_2.w_0": {0.5: 0.2}}, classifier, groups, where="sen.pickle")


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch owned",)


class Status:
    """Of another module than PaddleSlim's."""


def test_a_hostile_pickle_is_refused_by_one_line_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for data in ({"conv": Evil()}, {"conv": {0.1: Evil()}}, Evil(), Status()):
        with pytest.raises(
            CheckpointError, match=r"wants to import .*not opened; do not trust this file"
        ) as no:
            read_sen_pickle(written(tmp_path / "sen.pickle", data))
        assert "\n" not in str(no.value)
    assert not (tmp_path / "owned").exists()
    # A class of PaddleSlim's module is not a way in: only the one name is known.
    raw = pickle.dumps(Status(), protocol=4).replace(b"Status", b"os_sys")
    (tmp_path / "sen.pickle").write_bytes(raw)
    with pytest.raises(CheckpointError, match="not opened"):
        read_sen_pickle(tmp_path / "sen.pickle")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "holds no curves"),
        ([1, 2], "is not a sen.pickle"),
        ({"a": {1.5: 0.1}}, "a ratio is 1.5"),
        ({"a": {0.5: float("nan")}}, "nan is not a finite number"),
        ({"a": {"0.5": 0.1}}, "'0.5' is not a finite number"),
        ({3: {0.5: 0.1}}, "a weight's name is 3"),
        ({"a": np.zeros(3)}, "is not a sen.pickle"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, data: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_sen_pickle(written(tmp_path / "sen.pickle", data))


def test_a_plan_from_paddleslims_curves(classifier: Bundle, tmp_path: Path) -> None:
    names = ("conv1.conv", "conv2.conv", "blocks.9.expand_conv.conv")
    losses = {f"backbone.{name}": {0.25: 0.01, 0.5: 0.1} for name in names}
    path = written(tmp_path / "my sen.pickle", losses)
    section = PruneSection(flops=0.05, criterion="l1", sensitivities=str(path))
    made = stage.plan(classifier, section, StageContext(work=tmp_path / "work", seed=0))
    assert set(made.kept) <= set(losses) and made.flops_cut >= 0.05
    kept = Sensitivity.from_json(read_json(tmp_path / "work/sensitivity.json"))
    assert set(kept.curves) == set(losses)
    again = section.model_copy(update={"sensitivities": str(tmp_path / "work/sensitivity.json")})
    assert stage.plan(classifier, again, StageContext(work=tmp_path / "w2", seed=0)).kept == made.kept
    stage.plot(classifier, tmp_path / "work", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_points_of_a_wider_net_are_left_out_and_that_is_said(classifier: Bundle, tmp_path: Path) -> None:
    """Of these groups one has 8 channels here, the other 200: it had 16 and 200 where it was measured."""
    told: list[str] = []

    class Told(Silent):
        def warn(self, message: str) -> None:
            told.append(message)

    name, other = "backbone.conv1.conv", "backbone.conv2.conv"
    points = {
        name: [Point(kept, 90.0, 0.01, 0.0) for kept in (12, 8, 6)],
        other: [Point(100, 90.0, 0.01, 0.0)],
    }
    path = tmp_path / "wider.json"
    write_json(path, Sensitivity(90.0, points).to_json())
    section = PruneSection(flops=0.02, criterion="l1", sensitivities=str(path))
    ctx = StageContext(work=tmp_path / "work", seed=0, progress=Told())
    assert set(stage.plan(classifier, section, ctx).kept) <= {name, other}
    assert told == [f"{path}: 2 of 4 points are of a wider net and are left out"]
    stage.plot(classifier, tmp_path / "work", tmp_path / "curves.png")
    write_json(path, Sensitivity(90.0, {name: points[name][:2]}).to_json())
    with pytest.raises(InputError, match="each of its points leaves as many channels as this net has"):
        stage.plan(classifier, section, ctx)


def test_a_picture_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = Config(Prune=PruneSection(flops=0.1))
    for name, says in (
        ("a.doc", "cannot be drawn"),
        (".", "cannot be drawn"),
        ("file/a.png", "cannot write"),
    ):
        with pytest.raises(InputError, match=says):
            prune(config, model="none", out=None, seed=0, progress=Silent(), plot=tmp_path / name)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        require_drawable(tmp_path / "a.png")
    require_drawable(tmp_path / "new" / "b.png")
    assert not list((tmp_path / "new").iterdir())


def test_what_cannot_be_drawn_or_found_is_said(groups_of: Groups, tmp_path: Path) -> None:
    curves = Sensitivity(90.0, {"backbone.conv1.conv": [Point(6, 45.0, 0.5, 0.1, 0.4, 0.6)]})
    with pytest.raises(InputError, match="ending that cannot be drawn"):
        plot_curves(curves, groups_of("cls"), tmp_path / "curves.doc")
    with pytest.raises(InputError, match="no curves to draw"):
        plot_curves(Sensitivity(90.0, {}), groups_of("cls"), tmp_path / "curves.png")
    with pytest.raises(InputError, match="no such file"):
        read_curves(tmp_path / "none.pickle", None, ())  # type: ignore[arg-type]
    plot_curves(curves, groups_of("cls"), tmp_path / "new" / "curves.svg")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["curves.svg"]

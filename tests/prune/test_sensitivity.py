"""Measuring curves: what is measured, what is kept between runs, when it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from prune.groups import Group
from prune.mask import masked
from prune.prefix import PrefixRunner, units
from prune.probe import LineProbe, Reading, ScoreProbe
from prune.sensitivity import Sensitivity, measure
from prune.verify import random_input
from slim.bundle import Bundle
from slim.data.dataset import Line
from slim.errors import ArtifactError, UsageError
from slim.numerics import max_abs
from slim.statistics import paired_drop

Make = Callable[[str], nn.Layer]
Groups = Callable[[str], tuple[Group, ...]]
GROUPS = tuple(Group(name, 8, (), ()) for name in ("a", "b", "c"))
HARM = {"a": 1.0, "b": 10.0, "c": 40.0}  # points lost per channel


class FakeProbe:
    """Loses HARM points per channel removed; counts its calls and can die at one of them."""

    def __init__(self, base: float = 80.0, die_at: int | None = None) -> None:
        self.key: Mapping[str, object] = {"lines": 5}
        self.calls: list[tuple[str, int]] = []
        self.base, self.die_at = base, die_at

    def baseline(self) -> Reading:
        return Reading(self.base, 0.0)

    def one(self, group: Group, kept: Sequence[int]) -> Reading:
        if len(self.calls) == self.die_at:
            raise KeyboardInterrupt
        self.calls.append((group.name, len(kept)))
        return Reading(self.base - HARM[group.name] * (group.size - len(kept)), 0.01)

    def several(self, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> Reading:
        lost = sum(HARM[name] * (8 - len(channels)) for name, channels in kept.items())
        return Reading(self.base - lost, 0.0)


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    warn = info

    def task(self, label: str, total: int | None = None):  # type: ignore[no-untyped-def]
        from slim.progress import Silent

        return Silent().task(label, total)


def keep(group: Group, count: int) -> list[int]:
    return list(range(count))


def test_relative_loss_and_the_end_of_a_collapsed_curve() -> None:
    probe = FakeProbe()
    found = measure(GROUPS, probe, keep, (0.05, 0.125, 0.25, 0.5), {})
    # 0.05 of 8 channels is none: not measured, as 0 channels tell nothing.
    assert [p.kept for p in found.curves["a"]] == [7, 6, 4]
    assert [p.loss for p in found.curves["a"]] == pytest.approx([1 / 80, 2 / 80, 4 / 80], abs=1e-12)
    # c loses half of the metric at the second point: the third is not tried.
    assert [p.kept for p in found.curves["c"]] == [7, 6]
    assert len(probe.calls) == 3 + 3 + 2


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, ratios = tmp_path / "sensitivity.json", (0.125, 0.25)
    with pytest.raises(KeyboardInterrupt):
        measure(GROUPS, FakeProbe(die_at=3), keep, ratios, {"weights": "w"}, path=path)
    assert list(json.loads(path.read_text())["curves"]) == ["a"]
    probe, told = FakeProbe(), Told()
    resumed = measure(GROUPS, probe, keep, ratios, {"weights": "w"}, path=path, progress=told)
    assert {name for name, _ in probe.calls} == {"b", "c"}
    assert resumed.curves == measure(GROUPS, FakeProbe(), keep, ratios, {"weights": "w"}).curves
    assert "1 groups already measured" in told.lines[0]


SLOW = """
import sys, time
from pathlib import Path
from prune.groups import Group
from prune.probe import Reading
from prune.sensitivity import measure

class Probe:
    key = {"lines": 5}
    def baseline(self):
        return Reading(80.0, 0.0)
    def one(self, group, kept):
        time.sleep(0.02)
        return Reading(80.0 - int(group.name), 0.01)

groups = [Group(str(n), 8, (), ()) for n in range(60)]
measure(groups, Probe(), lambda g, n: list(range(n)), (0.125, 0.25), {"weights": "w"}, path=Path(sys.argv[1]))
"""


def test_kill_9_leaves_a_whole_file_that_is_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "with space" / "sensitivity.json"
    path.parent.mkdir()
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(path)])
    deadline = time.monotonic() + 120
    while not path.is_file() or len(json.loads(path.read_text())["curves"]) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = list(json.loads(path.read_text())["curves"])
    assert 5 <= len(done) < 60

    class Numbered(FakeProbe):
        def one(self, group: Group, kept: Sequence[int]) -> Reading:
            self.calls.append((group.name, len(kept)))
            return Reading(80.0 - int(group.name), 0.01)

    groups, probe, fresh = [Group(str(n), 8, (), ()) for n in range(60)], Numbered(), Numbered()
    resumed = measure(groups, probe, keep, (0.125, 0.25), {"weights": "w"}, path=path)
    assert not {name for name, _ in probe.calls} & set(done)
    assert resumed.curves == measure(groups, fresh, keep, (0.125, 0.25), {"weights": "w"}).curves


class Cliff(FakeProbe):
    """Loses nothing down to ``edge`` kept channels, and 30 points below."""

    def __init__(self, edge: int) -> None:
        super().__init__()
        self.edge = edge

    def one(self, group: Group, kept: Sequence[int]) -> Reading:
        self.calls.append((group.name, len(kept)))
        return Reading(80.0 - 30.0 * (len(kept) < self.edge), 0.01)


@pytest.mark.parametrize("edge", range(4, 33))
def test_points_are_added_where_a_curve_bends_until_the_edge_is_found(edge: int) -> None:
    found = measure([Group("g", 32, (), ())], Cliff(edge), keep, (0.5, 0.9), {}, refine=5)
    kept = [p.kept for p in found.curves["g"]]
    assert kept == sorted(set(kept), reverse=True) and {16, 3} < set(kept) and len(kept) <= 2 + 5
    # 16 channels between two coarse points are halved four times: then both sides of the edge are known.
    assert edge - 1 in kept and (edge in kept or edge == 32)


def test_a_flat_curve_gets_no_further_points_and_a_collapsed_one_may_go_on() -> None:
    flat = Cliff(0)
    measure([Group("g", 32, (), ())], flat, keep, (0.5, 0.9), {}, refine=5)
    assert len(flat.calls) == 2
    whole = FakeProbe()
    found = measure(GROUPS, whole, keep, (0.125, 0.25, 0.5), {}, collapsed=float("inf"))
    assert [p.kept for p in found.curves["c"]] == [7, 6, 4]


def test_intervals_are_paired_over_the_lines() -> None:
    class Ten(FakeProbe):
        def baseline(self) -> Reading:
            return Reading(80.0, 0.0, (True,) * 8 + (False,) * 2)

        def one(self, group: Group, kept: Sequence[int]) -> Reading:
            return Reading(60.0, 0.0, (True,) * 5 + (False,) * 4 + (True,))

    (point,) = measure(GROUPS[:1], Ten(), keep, (0.5,), {}).curves["a"]
    drop = paired_drop((True,) * 8 + (False,) * 2, (True,) * 5 + (False,) * 4 + (True,))
    assert point.loss == pytest.approx(0.25, abs=1e-12)
    assert (point.low, point.high) == pytest.approx((drop.low / 80, drop.high / 80), abs=1e-12)
    assert point.low is not None and point.high is not None and point.low < 0.25 < point.high
    (unseen,) = measure(GROUPS[:1], FakeProbe(), keep, (0.5,), {}).curves["a"]
    assert unseen.low is None and unseen.high is None


@pytest.mark.parametrize("change", ["weights", "ratios", "lines", "damage"])
def test_curves_of_another_question_are_not_used(tmp_path: Path, change: str) -> None:
    path, ratios, probe = tmp_path / "sensitivity.json", [0.125], FakeProbe()
    measure(GROUPS, FakeProbe(), keep, ratios, {"weights": "w"}, path=path)
    if change == "damage":
        path.write_text(path.read_text()[:-40])
    if change == "lines":
        probe.key = {"lines": 6}
    told = Told()
    measure(
        GROUPS,
        probe,
        keep,
        [0.25] if change == "ratios" else ratios,
        {"weights": "v" if change == "weights" else "w"},
        path=path,
        progress=told,
    )
    assert len(probe.calls) == 3 and "measuring again" in told.lines[0]


@pytest.mark.parametrize("base", [0.0, 4.9, float("nan")])
def test_an_untrained_model_is_refused(base: float) -> None:
    with pytest.raises(UsageError, match="is this checkpoint trained"):
        measure(GROUPS, FakeProbe(base), keep, (0.5,), {})


def test_json_round_trip_and_damage() -> None:
    found = measure(GROUPS, FakeProbe(), keep, (0.25,), {"weights": "w"})
    data = json.loads(json.dumps(found.to_json()))
    assert Sensitivity.from_json(data).curves == found.curves
    for damaged in (
        {**data, "version": 9},
        {**data, "curves": 3},
        {k: v for k, v in data.items() if k != "key"},
    ):
        with pytest.raises(ArtifactError):
            Sensitivity.from_json(damaged)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("loss", None, "not a finite number"),
        ("low", "0.1", "not a finite number"),
        ("high", float("inf"), "not a finite number"),
        ("score", True, "not a finite number"),
        ("kept", 0, "kept is 0, must be an integer of at least 1"),
        ("kept", 6.5, "kept is 6.5, must be an integer"),
        ("kept", "6", "kept is '6', must be an integer"),
    ],
)
def test_a_damaged_point_is_refused(key: str, value: object, says: str) -> None:
    data = measure(GROUPS, FakeProbe(), keep, (0.25,), {"weights": "w"}).to_json()
    data["curves"]["a"][0][key] = value
    with pytest.raises(ArtifactError, match=says):
        Sensitivity.from_json(data)


@pytest.mark.parametrize("name", ["cls", "rec", "det_mv3"])
def test_a_masked_net_run_from_the_middle_gives_the_nets_outputs(
    nets: Make, groups_of: Groups, name: str
) -> None:
    net, shape = nets(name), {"cls": (3, 48, 192), "rec": (3, 32, 96), "det_mv3": (3, 64, 64)}[name]
    x = random_input(shape, 5)
    runner = PrefixRunner(net, [x])
    assert (len(units(net)) > 1) == (name != "det_mv3")
    for group in [g for g in groups_of(name) if g.prunable][::6]:
        with masked(net, [group], {group.name: [0]}):
            (cached,) = runner.run(m.path for m in group.consumers)
            whole = net(paddle.to_tensor(x)).numpy()
        # Probabilities: oneDNN adds in another order than dygraph; 1e-5 is typical.
        assert max_abs(cached, whole) <= 1e-4, group.name
        # The twin: with the mask forgotten the bound fails.
        assert max_abs(runner.outputs[0], whole) > 1e-3, group.name


def test_all_units_give_back_the_unmasked_net_afterwards(nets: Make, groups_of: Groups) -> None:
    net, x = nets("cls"), random_input((3, 48, 192), 6)
    runner = PrefixRunner(net, [x])
    group = next(g for g in groups_of("cls") if g.prunable)
    with masked(net, [group], {group.name: [0]}):
        runner.run(m.path for m in group.consumers)
    assert np.array_equal(runner.run(["backbone.conv1.conv"])[0], runner.outputs[0])


def test_a_sequential_whose_forward_is_its_own_is_one_unit() -> None:
    class Doubled(nn.Sequential):
        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            return 2 * super().forward(x)

    assert [path for path, _ in units(Doubled(nn.ReLU(), nn.ReLU()))] == [""]


class Lines:
    """Noise with labels that the given net itself gives, so that its accuracy is 100%."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, number: int) -> Line:
        image = np.random.default_rng(number).integers(0, 255, (48, 192, 3), dtype=np.uint8)
        return Line(f"{number}.png", image, self.texts[number])


def test_line_probe_agrees_with_scoring_the_whole_model(
    bundles: Callable[[str], Bundle], groups_of: Groups
) -> None:
    from slim.evaluate import evaluate

    bundle = bundles("cls")
    first = evaluate(bundle.run, Lines(["0"] * 12), bundle.spec).predictions
    data = Lines([row.text for row in first])
    probe = LineProbe(bundle, data, 12)
    score = ScoreProbe(bundle, lambda b: 100 * evaluate(b.run, data, b.spec).main, {"data": "noise"})
    assert probe.baseline() == Reading(100.0, 0.0)
    group = next(g for g in groups_of("cls") if g.name == "backbone.blocks.0.linear_conv.conv")
    kept = [0, 5]
    reading = probe.one(group, kept)
    assert reading.score == score.one(group, kept).score and reading.shift > 0.001
    assert probe.baseline() == Reading(100.0, 0.0)
    assert probe.several([group], {group.name: kept}) == reading
    assert probe.key != LineProbe(bundle, data, 11).key

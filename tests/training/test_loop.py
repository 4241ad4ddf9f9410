"""The loop: learns, repeats itself bit by bit, resumes exactly, stops on NaN and on Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from slim.checkpoint import read_pdparams
from slim.config import TrainRecipe
from slim.errors import CheckpointError, Diverged, InputError, UnsupportedModel, UsageError
from slim.training import FitResult, Hook, fit


def recipe(**changes) -> TrainRecipe:
    given = {"steps": 6, "batch_size": 4, "lr": 0.01, "log_every": 2, **changes}
    return TrainRecipe(**given)


def train(kit, net, rec=None, *, kind="cls", seed=3, batches=None, **more) -> FitResult:
    return fit(net, rec or recipe(), batches or kit.Batches(kind), kind=kind, seed=seed, **more)


class Stop(Exception):
    """Stands for anything that ends a run from outside."""


class StopAfter(Hook):
    def __init__(self, step: int, error: type[BaseException] = Stop) -> None:
        self.step, self.error = step, error

    def before_step(self, step: int) -> None:
        if step == self.step + 1:
            raise self.error


def test_learns_to_tell_bright_from_dark(kit):
    net = kit.net("cls")
    result = train(kit, net, recipe(steps=25, log_every=1))
    losses = [entry["loss"] for entry in result.history]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert result.steps == 25 and result.last_loss == losses[-1]
    assert result.best_metric is None and result.checkpoint is None
    assert not net.training


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_same_seed_same_bytes(kit, kind):
    runs = []
    for seed in (3, 3, 4):
        net = kit.net(kind)
        train(kit, net, recipe(steps=2), kind=kind, seed=seed)
        runs.append(kit.weights(net))
    assert kit.differing(runs[0], runs[1]) == []
    if kind == "cls":  # its dropout follows the seed
        assert kit.differing(runs[0], runs[2])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum", "sgd"])
def test_resumed_run_equals_an_uninterrupted_one_bit_by_bit(kit, tmp_path, optimizer):
    rec = recipe(optimizer=optimizer, l2=1e-3, clip_norm=1.0, schedule="cosine", warmup_steps=2, save_every=2)
    whole = kit.net("cls")
    train(kit, whole, rec, out=tmp_path / "whole")
    first = kit.net("cls")
    with pytest.raises(Stop):
        train(kit, first, rec, out=tmp_path / "cut", hooks=[StopAfter(5)])
    again = kit.net("cls")  # other running numbers of parameters than the net that was stopped
    result = train(kit, again, rec, out=tmp_path / "cut")
    assert result.resumed_from == 4 and result.steps == 6
    assert kit.differing(kit.weights(whole), kit.weights(again)) == []
    for kind in ("pdparams", "pdopt"):
        assert (tmp_path / f"whole/latest.{kind}").read_bytes() == (
            tmp_path / f"cut/latest.{kind}"
        ).read_bytes()


def test_resumed_recognizer_equals_an_uninterrupted_one_bit_by_bit(kit, tmp_path):
    """The published net: blocks with squeeze-excite, and an LSTM whose tensors have two names."""
    rec = recipe(steps=4, save_every=1)
    whole, again = kit.net("rec"), kit.net("rec")
    train(kit, whole, rec, kind="rec")
    with pytest.raises(Stop):
        train(kit, kit.net("rec"), rec, kind="rec", out=tmp_path, hooks=[StopAfter(2)])
    assert train(kit, again, rec, kind="rec", out=tmp_path).resumed_from == 2
    assert kit.differing(kit.weights(whole), kit.weights(again)) == []


def test_resume_without_the_optimizers_memory_would_be_seen(kit, tmp_path):
    """Sabotage twin: losing the moments changes the weights, so the test above can fail."""
    rec = recipe(save_every=2)
    whole, cut = kit.net("cls"), kit.net("cls")
    train(kit, whole, rec)
    with pytest.raises(Stop):
        train(kit, cut, rec, hooks=[StopAfter(4)])
    shorter = FitContinuation(4, kit.Batches("cls"))
    train(kit, cut, recipe(steps=2), batches=shorter)
    assert kit.differing(kit.weights(whole), kit.weights(cut))


class FitContinuation:
    """Batches of another source, shifted."""

    def __init__(self, shift: int, source) -> None:
        self.shift, self.source, self.dataset = shift, source, source.dataset
        self.steps_per_epoch = source.steps_per_epoch

    def iterate(self, start_step: int, stop_step: int):
        return self.source.iterate(start_step + self.shift, stop_step + self.shift)


def test_finished_run_is_not_trained_again(kit, tmp_path):
    train(kit, kit.net("cls"), out=tmp_path)
    net = kit.net("cls")
    result = train(kit, net, out=tmp_path, hooks=[StopAfter(0)])
    assert result.resumed_from == 6 and result.steps == 6
    assert kit.differing(kit.weights(net), read_pdparams(tmp_path / "latest.pdparams")) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rec": recipe(lr=0.02)}, "recipe"),
        ({"seed": 4}, "seed"),
        ({"data": "others"}, "data"),
        ({"net": 1}, "start weights"),
    ],
)
def test_checkpoint_of_another_run_is_refused_and_the_difference_named(kit, tmp_path, change, named):
    train(kit, kit.net("cls"), recipe(steps=1), out=tmp_path)
    with pytest.raises(CheckpointError, match=f"another run .*{named}.*to start anew") as caught:
        fit(
            kit.net("cls", change.get("net", 0)),
            change.get("rec", recipe(steps=1)),
            kit.Batches("cls", data=change.get("data", "lines")),
            kind="cls",
            seed=change.get("seed", 3),
            out=tmp_path,
        )
    assert caught.value.exit_code == 2


def test_what_is_only_shown_or_saved_more_often_does_not_hinder_a_resume(kit, tmp_path):
    train(kit, kit.net("cls"), recipe(steps=1), out=tmp_path)
    again = train(kit, kit.net("cls"), recipe(steps=1, log_every=7, save_every=3), out=tmp_path)
    assert again.resumed_from == 1


class Scores:
    """An evaluation that gives the next of its values, and notes the net's mode."""

    def __init__(self, net, *values: float) -> None:
        self.net, self.values, self.modes = net, list(values), []

    def __call__(self):
        self.modes.append(self.net.training)
        return {"acc": self.values.pop(0), "other": 0.0}


def test_best_checkpoint_is_that_of_the_best_metric_and_stays_in_the_net(kit, tmp_path):
    net = kit.net("cls")
    scores = Scores(net, 0.5, 0.9, 0.7)
    seen = {}

    class Keep(Hook):
        def on_eval(self, step, metrics):
            seen[step] = (kit.weights(net), metrics["acc"])

    result = train(kit, net, recipe(eval_every=2), evaluate=scores, out=tmp_path, hooks=[Keep()])
    assert (result.best_metric, result.best_step) == (0.9, 4)
    assert scores.modes == [False, False, False]
    assert [step for step, _ in sorted((s, v[1]) for s, v in seen.items())] == [2, 4, 6]
    assert kit.differing(kit.weights(net), seen[4][0]) == []
    assert kit.differing(read_pdparams(tmp_path / "best_accuracy.pdparams"), seen[4][0]) == []
    assert kit.differing(read_pdparams(tmp_path / "latest.pdparams"), seen[6][0]) == []
    assert result.checkpoint == tmp_path / "best_accuracy.pdparams"


def test_best_weights_without_a_folder_are_kept_in_memory(kit):
    net = kit.net("cls")
    seen = {}

    class Keep(Hook):
        def on_eval(self, step, metrics):
            seen[step] = kit.weights(net)

    train(kit, net, recipe(eval_every=3), evaluate=Scores(net, 0.9, 0.1), hooks=[Keep()])
    assert kit.differing(kit.weights(net), seen[3]) == []
    assert kit.differing(seen[3], seen[6])


def test_eval_start_and_the_evaluation_at_the_end(kit):
    net = kit.net("cls")
    result = train(kit, net, recipe(steps=5, eval_every=2, eval_start=3), evaluate=Scores(net, 0.1, 0.2))
    assert [entry["step"] for entry in result.history if "acc" in entry] == [4, 5]


def test_main_indicator_that_is_not_measured_is_an_error(kit):
    net = kit.net("cls")
    with pytest.raises(UsageError, match="gives acc, other, not 'hmean'"):
        train(kit, net, recipe(steps=1), evaluate=Scores(net, 0.1), main_indicator="hmean")


@pytest.mark.parametrize("out", [True, False])
def test_nan_stops_names_the_step_and_keeps_the_last_good_checkpoint(kit, tmp_path, out):
    net = kit.net("cls")
    folder = tmp_path if out else None
    with pytest.raises(Diverged, match=r"(loss|gradient norm) is nan at step 4 of 6") as caught:
        train(kit, net, recipe(save_every=2), batches=kit.Batches("cls", nan_at=3), out=folder)
    assert caught.value.exit_code == 4
    if out:
        assert f"{tmp_path / 'latest.pdparams'} of step 2" in str(caught.value)
        assert all(np.isfinite(a).all() for a in read_pdparams(tmp_path / "latest.pdparams").values())
    else:
        assert "no checkpoint was written" in str(caught.value)


def test_infinite_loss_is_named_as_such(kit):
    net = kit.net("cls")

    class Spoil(Hook):
        def before_step(self, step):
            net.head.fc.bias.set_value(np.full(2, np.nan, np.float32))

    with pytest.raises(Diverged, match="loss is nan at step 1 of 6"):
        train(kit, net, hooks=[Spoil()])


def test_infinite_gradient_stops_before_the_weights_are_touched(kit):
    net = kit.net("cls")
    before = {}

    class Spoil(Hook):
        def after_backward(self, net, step):
            if step == 2:
                before.update({name: p.numpy().copy() for name, p in net.named_parameters()})
                net.head.fc.bias.grad.set_value(np.array([np.inf, 0.0], np.float32))

    with pytest.raises(Diverged, match="gradient norm is inf at step 2"):
        train(kit, net, hooks=[Spoil()])
    after = {name: p.numpy() for name, p in net.named_parameters()}
    assert kit.differing(before, after) == []


def test_metric_that_is_nan_stops(kit):
    net = kit.net("cls")
    with pytest.raises(Diverged, match="acc is nan at step 1"):
        train(kit, net, recipe(steps=1), evaluate=Scores(net, float("nan")))


def test_keyboard_interrupt_saves_latest_and_the_run_goes_on_from_there(kit, tmp_path):
    whole = kit.net("cls")
    train(kit, whole)
    with pytest.raises(KeyboardInterrupt):
        train(kit, kit.net("cls"), out=tmp_path, hooks=[PressCtrlC(3)])
    again = kit.net("cls")
    assert train(kit, again, out=tmp_path).resumed_from == 3
    assert kit.differing(kit.weights(whole), kit.weights(again)) == []


class PressCtrlC(Hook):
    """A signal in the middle of a step; the step must still be finished."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_backward(self, net, step) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_python_s_own_again_after_the_run(kit):
    before = signal.getsignal(signal.SIGINT)
    train(kit, kit.net("cls"), recipe(steps=1))
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_in_the_evaluation_evaluates_again_after_the_resume(kit, tmp_path):
    net = kit.net("cls")
    rec = recipe(steps=4, eval_every=2)

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(kit, net, rec, evaluate=interrupted, out=tmp_path)
    again = kit.net("cls")
    result = train(kit, again, rec, evaluate=Scores(again, 0.8, 0.3), out=tmp_path)
    assert (result.resumed_from, result.best_step) == (2, 2)


def test_half_a_step_is_never_saved(kit, tmp_path):
    class Raise(Hook):
        def after_backward(self, net, step):
            if step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(kit, kit.net("cls"), recipe(save_every=2), out=tmp_path, hooks=[Raise()])
    assert train(kit, kit.net("cls"), recipe(save_every=2), out=tmp_path).resumed_from == 2


def test_hooks_are_called_in_order(kit):
    calls: list[str] = []

    class Note(Hook):
        def on_start(self, net):
            calls.append("start")

        def before_step(self, step):
            calls.append(f"before {step}")

        def after_backward(self, net, step):
            assert net.head.fc.weight.grad is not None
            calls.append(f"backward {step}")

        def after_step(self, net, step, loss):
            assert loss > 0
            calls.append(f"after {step}")

        def on_eval(self, step, metrics):
            calls.append(f"eval {step}")

    net = kit.net("cls")
    train(kit, net, recipe(steps=2), evaluate=Scores(net, 0.5), hooks=[Note()])
    assert calls == [
        "start",
        "before 1",
        "backward 1",
        "after 1",
        "before 2",
        "backward 2",
        "after 2",
        "eval 2",
    ]


def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_weights(kit):
    for freeze in (True, False):
        net = kit.net("cls")
        before = kit.weights(net)
        train(kit, net, recipe(steps=2, freeze_bn=freeze))
        changed = kit.differing(before, kit.weights(net))
        assert any("_mean" in name or "_variance" in name for name in changed) is not freeze
        assert "backbone.conv1.bn.weight" in changed


def test_epochs_become_steps_of_the_data(kit):
    assert train(kit, kit.net("cls"), TrainRecipe(epochs=1, batch_size=4)).steps == 5


def test_unknown_kind_and_missing_teacher_are_refused(kit):
    with pytest.raises(UnsupportedModel, match="no training loss for kind 'e2e'"):
        train(kit, kit.net("cls"), kind="e2e", batches=kit.Batches("cls"))
    with pytest.raises(InputError, match="there is no teacher"):
        train(kit, kit.net("cls"), recipe(distill=0.5))


def test_unwritable_folder_is_one_clear_error_before_the_first_step(kit, tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(InputError, match="file: cannot write checkpoints here"):
        train(kit, kit.net("cls"), recipe(steps=1), out=blocked, hooks=[StopAfter(0)])


def test_progress_shows_loss_rate_speed_and_metric(kit):
    shown: list[dict[str, object]] = []

    class Task:
        def advance(self, n=1, **fields):
            shown.append({"n": n, **fields})

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    class Reporter:
        def info(self, message):
            shown.append({"info": message})

        def warn(self, message):
            raise AssertionError(message)

        def task(self, label, total=None):
            assert (label, total) == ("train", 3)
            return Task()

    net = kit.net("cls")
    train(kit, net, recipe(steps=3, eval_every=2), evaluate=Scores(net, 0.5, 0.6), progress=Reporter())
    steps = [entry for entry in shown if "loss" in entry]
    assert len(steps) == 3 and set(steps[2]) == {"n", "loss", "lr", "images_per_s", "best_acc"}
    assert any(
        "acc 0.5000" in str(entry.get("info")) and "(best)" in str(entry.get("info")) for entry in shown
    )

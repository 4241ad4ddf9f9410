"""Training with quantizers: starts from calibrated clips, ends without PACT, same bits for same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quant import lsq, pact, ptq, qat, rules, wrap
from quant.scheme import QuantScheme
from slim.bundle import Bundle
from slim.config.ours import QuantSection, TrainRecipe
from slim.errors import Diverged, StageFailed
from slim.spec import ModelSpec

Images = Callable[[ModelSpec, int], np.ndarray]
RECIPE = TrainRecipe(steps=3, batch_size=4, lr=1e-4)
DISTILLED = RECIPE.model_copy(update={"distill": 0.5})


@pytest.fixture
def prepared(originals: Mapping[str, Bundle], images: Images) -> tuple[Bundle, QuantScheme]:
    bundle = originals["cls"].clone()
    scheme = rules.build_scheme(bundle.net, QuantSection(mode="qat"), bundle.spec.input.shape)
    scheme = ptq.calibrate(bundle.net, scheme, [images(bundle.spec, 4)])
    wrap.prepare(bundle.net, scheme)
    wrap.install_clips(bundle.net, scheme)
    return replace(bundle, scheme=scheme.to_json()), scheme


def test_trained_model_is_finished_and_reopens(
    originals: Mapping[str, Bundle], prepared: tuple[Bundle, QuantScheme], turned: object, images: Images
) -> None:
    bundle, scheme = prepared
    start = bundle.state()
    done, result = qat.train(bundle, scheme, DISTILLED, turned, teacher=originals["cls"], seed=1)  # type: ignore[arg-type]
    assert result.steps == 3
    assert not pact.alphas(bundle.net)
    assert not bundle.net.training
    state = bundle.state()
    assert set(state) == set(start), "training must leave no PACT names behind"
    assert not np.array_equal(state["backbone.conv1.conv.weight"], start["backbone.conv1.conv.weight"])
    scales = [p for name, p in bundle.net.named_parameters() if "_fake_quant_" in name]
    assert scales
    assert all(p.stop_gradient for p in scales), "a second training would train the scales as weights"
    moved = [path for path in scheme.paths if done.clips[path] != scheme.clips[path]]
    assert len(moved) > 40, "the moving averages did not follow the training batches"
    # Three batches at rate 0.9 move a clip that starts in its steady state by at most 27%, if every
    # batch had a range of 0, and upwards in proportion: a blank start would be off by far more.
    assert all(0.5 < done.clips[path] / scheme.clips[path] < 2.0 for path in scheme.paths)
    again = replace(bundle, scheme=done.to_json()).clone(wrap.restore)
    x = images(bundle.spec, 2)
    assert np.array_equal(again.run(x), bundle.run(x))


def test_same_seed_same_bytes_and_a_stopped_run_goes_on(
    prepared: tuple[Bundle, QuantScheme], turned: object, tmp_path: Path
) -> None:
    bundle, scheme = prepared
    other = bundle.clone(wrap.restore)
    qat.train(bundle, scheme, RECIPE, turned, work=tmp_path, seed=1)  # type: ignore[arg-type]
    _, result = qat.train(other, scheme, RECIPE, turned, work=tmp_path, seed=1)  # type: ignore[arg-type]
    assert result.resumed_from == 3
    assert other.sha256() == bundle.sha256()


def test_score_is_asked_while_training(prepared: tuple[Bundle, QuantScheme], turned: object) -> None:
    bundle, scheme = prepared
    asked: list[bool] = []

    def score(seen: Bundle) -> float:
        asked.append(seen.net.training)
        return float(len(asked))

    recipe = RECIPE.model_copy(update={"eval_every": 2, "steps": 2})
    _, result = qat.train(bundle, scheme, recipe, turned, score=score, seed=1)  # type: ignore[arg-type]
    assert asked == [False]
    assert result.best_metric == 1.0


def test_blank_observers_are_refused(originals: Mapping[str, Bundle], turned: object) -> None:
    bundle = originals["cls"].clone()
    scheme = rules.build_scheme(bundle.net, QuantSection(), bundle.spec.input.shape)
    wrap.prepare(bundle.net, scheme)
    with pytest.raises(StageFailed, match="54 of 54 quantized layers have no calibrated input range"):
        qat.train(bundle, scheme, RECIPE, turned, seed=1)  # type: ignore[arg-type]


def test_steps_are_learned_from_the_calibrated_ranges(
    prepared: tuple[Bundle, QuantScheme], turned: object, images: Images
) -> None:
    bundle, scheme = prepared
    names = set(bundle.state())
    done, _ = qat.train(bundle, replace(scheme, clip="lsq"), RECIPE, turned, seed=1)  # type: ignore[arg-type]
    assert not lsq.steps(bundle.net)
    assert set(bundle.state()) == names
    moved = [abs(done.clips[path] / scheme.clips[path] - 1) for path in scheme.paths]
    # Adam moves a step by about lr = 1e-4 of itself, three times; cosine lowers the later ones.
    assert min(moved) > 0 and max(moved) < 4e-4
    again = replace(bundle, scheme=done.to_json()).clone(wrap.restore)
    x = images(bundle.spec, 2)
    assert np.array_equal(again.run(x), bundle.run(x))


def test_collapse_stops_and_the_best_weights_are_kept(
    prepared: tuple[Bundle, QuantScheme], turned: object, tmp_path: Path
) -> None:
    bundle, scheme = prepared
    scores = [93.0, 94.0, 46.9, 90.0]
    recipe = RECIPE.model_copy(update={"eval_every": 1, "steps": 4})
    with pytest.raises(Diverged) as caught:
        qat.train(
            bundle,
            scheme.with_metrics(float=94.0),
            recipe,
            turned,
            score=lambda _: scores.pop(0),
            work=tmp_path,
            seed=1,
        )  # type: ignore[arg-type]
    message = str(caught.value)
    assert "fell to 46.90 points at step 3, under 0.5 times the float model's 94.00" in message
    assert f"94.00 points at step 2, are {tmp_path / 'best_accuracy.pdparams'}" in message
    assert (tmp_path / "best_accuracy.pdparams").is_file()
    assert scores == [90.0], "training went on"


def test_half_of_the_metric_is_no_collapse(prepared: tuple[Bundle, QuantScheme], turned: object) -> None:
    bundle, scheme = prepared
    recipe = RECIPE.model_copy(update={"eval_every": 1})
    qat.train(bundle, scheme.with_metrics(float=94.0), recipe, turned, score=lambda _: 47.0, seed=1)  # type: ignore[arg-type]


def test_weights_that_were_spoiled_are_a_collapse(
    originals: Mapping[str, Bundle], prepared: tuple[Bundle, QuantScheme], turned: object, images: Images
) -> None:
    """Sabotage: a learning rate of 1000 spoils the real net, and it is seen."""
    bundle, scheme = prepared
    x = images(bundle.spec, 8)
    wanted = originals["cls"].run(x).argmax(1)
    assert set(wanted) == {0, 1}

    def score(seen: Bundle) -> float:
        # The worse of both classes: a net that always answers the same is right half of the time.
        found = seen.run(x).argmax(1)
        return 100.0 * float(min(np.mean(found[wanted == k] == k) for k in (0, 1)))

    fine = score(bundle)
    assert fine > 70
    recipe = RECIPE.model_copy(update={"eval_every": 1, "lr": 1000.0, "steps": 6})
    with pytest.raises(Diverged, match=r"the metric fell to|is nan"):
        qat.train(bundle, scheme.with_metrics(float=fine), recipe, turned, score=score, seed=1)  # type: ignore[arg-type]

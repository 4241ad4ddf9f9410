"""Training with quantizers: starts from calibrated clips, ends without PACT, same bits for same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quant import pact, ptq, qat, rules, wrap
from quant.scheme import QuantScheme
from slim.bundle import Bundle
from slim.config.ours import QuantSection, TrainRecipe
from slim.errors import StageFailed
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

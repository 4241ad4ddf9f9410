"""The loop over real label files: loader, bundle, teacher, evaluation, resume together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slim.bundle import Bundle
from slim.config import TrainRecipe
from slim.data.dataset import open_dataset
from slim.data.loader import TrainBatches
from slim.errors import CheckpointError
from slim.evaluate import evaluate
from slim.spec import InputSpec, ModelSpec
from slim.training import Hook, fit, reestimate_bn


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """16 lines, the classes told apart by brightness."""
    folder = tmp_path_factory.mktemp("lines")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(16):
        bright = number % 2
        cv2.imwrite(
            str(folder / f"{number}.png"), rng.integers(0, 100, (48, 120, 3), np.uint8) + bright * 120
        )
        rows.append(f"{number}.png\t{'180' if bright else '0'}\n")
    (folder / "labels.txt").write_text("".join(rows))
    return folder / "labels.txt"


def bundle(kit, seed: int = 0) -> Bundle:
    arch = {"model_type": "cls"}
    return Bundle(ModelSpec("tiny", "cls", arch, ("0", "180"), InputSpec(48, 96)), kit.net("cls", seed))


def run(kit, labels, model: Bundle, **more):
    data = open_dataset([labels], labels.parent, "cls")
    recipe = TrainRecipe(epochs=10, batch_size=4, lr=0.02, eval_every=10, distill=0.2, temperature=2.0)
    return fit(
        model,
        recipe,
        TrainBatches(data, model.spec, 4, 5),
        kind="cls",
        evaluate=lambda: evaluate(model.run, data, model.spec, batch_size=8).metrics,
        teacher=kit.net("cls", 9),
        seed=5,
        **more,
    )


def test_a_bundle_is_trained_scored_and_resumed(kit, labels, tmp_path):
    class Stop(Hook):
        def before_step(self, step):
            if step == 26:
                raise KeyboardInterrupt

    whole, cut, again = bundle(kit), bundle(kit), bundle(kit)
    result = run(kit, labels, whole)
    assert result.steps == 40 and result.best_metric == 1.0  # bright and dark lines are easy to tell apart
    with pytest.raises(KeyboardInterrupt):
        run(kit, labels, cut, out=tmp_path, hooks=[Stop()])
    resumed = run(kit, labels, again, out=tmp_path)
    assert resumed.resumed_from == 20, (
        "the interrupt came in the middle of step 26, after the save of step 20"
    )
    assert again.sha256() == whole.sha256()
    assert resumed.history == result.history


def test_another_label_file_is_another_run(kit, labels, tmp_path):
    run(kit, labels, bundle(kit), out=tmp_path)
    fewer = labels.with_name("fewer.txt")
    fewer.write_text("".join(labels.read_text().splitlines(keepends=True)[:12]))
    with pytest.raises(CheckpointError, match="differs in: .*data"):
        run(kit, fewer, bundle(kit), out=tmp_path)


def test_statistics_from_real_lines(kit, labels):
    model = bundle(kit)
    before = model.run(np.ones((1, 3, 48, 96), np.float32))
    data = open_dataset([labels], labels.parent, "cls")
    reestimate_bn(model.net, TrainBatches(data, model.spec, 4, 5), 4)
    assert np.isfinite(model.run(np.ones((1, 3, 48, 96), np.float32))).all()
    assert not np.array_equal(before, model.run(np.ones((1, 3, 48, 96), np.float32)))

"""PaddleOCR's training keys as one recipe, and lengths in steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from slim.config import Config, TrainRecipe, WrongConfig, load_config
from slim.errors import ConfigError

DATA = Path(__file__).parent / "data"


def test_every_training_key_arrives() -> None:
    config = load_config(
        DATA / "rec_korean_lite_train.yml", ["Optimizer.lr.warmup_epoch=5", "Optimizer.clip_norm=3.0"]
    )
    assert config.train_recipe() == TrainRecipe(
        epochs=500,
        batch_size=256,
        lr=0.001,
        schedule="cosine",
        warmup_epochs=5.0,
        optimizer="adam",
        l2=1e-5,
        clip_norm=3.0,
        eval_every=2000,
        save_every_epochs=3,
        log_every=10,
        augment=True,
        width=320,
    )
    det = load_config(DATA / "ch_det_res18_db_v2.0.yml").train_recipe()
    assert (det.eval_start, det.eval_every, det.width) == (3000, 2000, 960)
    assert load_config(DATA / "rec_mv3_none_bilstm_ctc.yml").train_recipe().schedule == "constant"
    assert load_config(DATA / "rec_mv3_none_bilstm_ctc.yml").train_recipe().augment is False


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "Optimizer.lr.name=Piecewise",
            "Optimizer.lr.name is Piecewise, supported are Const, Cosine, Linear",
        ),
        ("Optimizer.name=RMSProp", "Optimizer.name is RMSProp, supported are Adam, AdamW, Momentum"),
        ("Optimizer.regularizer={name: L1, factor: 0.1}", "Optimizer.regularizer.name is L1"),
        ("Global.epoch_num=null", "Global.epoch_num is missing"),
    ],
)
def test_what_cannot_be_trained_is_refused(override: str, says: str) -> None:
    config = load_config(DATA / "rec_korean_lite_train.yml", [override])
    with pytest.raises(ConfigError, match=says):
        config.train_recipe()


def test_lengths_in_steps() -> None:
    recipe = TrainRecipe(epochs=3, warmup_epochs=0.25, save_every_epochs=2).in_steps(10)
    assert (recipe.steps, recipe.epochs) == (30, None)
    assert (recipe.warmup_steps, recipe.warmup_epochs) == (3, None)
    assert (recipe.save_every, recipe.save_every_epochs) == (20, None)
    given = TrainRecipe(steps=7, warmup_steps=2, save_every=3)
    assert given.in_steps(10) == given
    assert TrainRecipe(epochs=3).in_steps(0).steps == 3


@pytest.mark.parametrize(
    ("finetune", "says"),
    [
        ("{}", "needs exactly one of steps and epochs"),
        ("{steps: 1, epochs: 1}", "needs exactly one of steps and epochs"),
        ("{steps: 1, warmup_steps: 2, warmup_epochs: 1}", "has both warmup_steps and warmup_epochs"),
        ("{steps: 1, save_every: 2, save_every_epochs: 1}", "has both save_every and save_every_epochs"),
        ("{steps: 0}", "Prune.Finetune.steps: is 0, must be at least 1"),
        ("{steps: 1.5}", "Prune.Finetune.steps: is 1.5, must be a whole number"),
        ("{steps: true}", "Prune.Finetune.steps: is true, must be a whole number"),
        ("{steps: '1'}", "Prune.Finetune.steps: is '1', must be a whole number"),
        ("{steps: 1, lr: 0}", "Prune.Finetune.lr: is 0, must be above 0"),
        ("{steps: 1, lr: .inf}", "Prune.Finetune.lr: is inf, must be a finite number"),
        ("{steps: 1, lr: .nan}", "Prune.Finetune.lr: is nan, must be a finite number"),
        ("{steps: 1, schedule: cosin}", "must be one of cosine, constant, linear"),
        ("{steps: 1, distill: 1.5}", "must be at most 1"),
    ],
)
def test_a_wrong_recipe_names_the_key(finetune: str, says: str) -> None:
    with pytest.raises(WrongConfig) as error:
        load_config(None, [f"Prune.Finetune={finetune}"])
    assert says in str(error.value)


def _det(*overrides: str) -> Config:
    return load_config(DATA / "ch_det_mv3_db_v2.0.yml", overrides, notices=lambda line: None)


def test_a_detector_recipe() -> None:
    recipe = _det().train_recipe()
    assert (recipe.width, recipe.shrink_loss, recipe.augment) == (960, "dice", True)
    assert _det("Loss.main_loss_type=BCELoss").train_recipe().shrink_loss == "bce"
    assert "shrink_loss" not in TrainRecipe(steps=1).plain()  # runs of other kinds keep their identity


TRANSFORMS = "Train.dataset.transforms=[{{{}}}]"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "Loss.main_loss_type=Euclidean",
            "Loss.main_loss_type is Euclidean, supported are DiceLoss",
        ),
        ("Loss.alpha=1", "Loss.alpha is 1.0, supported is 5.0"),
        ("Loss.ohem_ratio=2", "Loss.ohem_ratio is 2.0, supported is 3.0"),
        (
            TRANSFORMS.format("MakeShrinkMap: {shrink_ratio: 0.5}"),
            "MakeShrinkMap.shrink_ratio is 0.5",
        ),
        (TRANSFORMS.format("MakeBorderMap: {thresh_max: 0.8}"), "MakeBorderMap.thresh_max is 0.8"),
        (
            TRANSFORMS.format("EastRandomCropData: {size: [320, 640]}"),
            r"EastRandomCropData.size is \[320, 640\], must be square",
        ),
    ],
)
def test_what_detector_training_cannot_do_is_refused(override: str, said: str) -> None:
    config = _det(override)
    with pytest.raises(ConfigError, match=said):
        config.train_recipe()


def test_what_will_be_refused_is_told_when_the_file_is_read() -> None:
    notices: list[str] = []
    load_config(DATA / "ch_det_mv3_db_v2.0.yml", ["Loss.beta=1"], notices.append)
    assert "Loss.beta is 1.0, supported is 10.0; slim train will refuse it" in notices
    assert "Train.dataset.transforms: IaaAugment replaced by our own augmentation" in notices

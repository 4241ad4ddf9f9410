"""PaddleOCR's training keys as one TrainRecipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from slim.config.architecture import DBLoss
from slim.config.ours import TrainRecipe
from slim.config.paddleocr import LearningRate, LoaderSection, OptimizerSection
from slim.config.transforms import (
    AUGMENTATIONS,
    EastRandomCropDataArgs,
    MakeBorderMapArgs,
    MakeShrinkMapArgs,
    RecResizeImgArgs,
)
from slim.errors import ConfigError

if TYPE_CHECKING:
    from slim.config.fields import Section
    from slim.config.schema import Config

_OPTIMIZERS = {"Adam": "adam", "AdamW": "adamw", "Momentum": "momentum"}
_SHRINK_LOSSES: dict[str, Literal["bce", "dice"]] = {
    "DiceLoss": "dice",
    "BCELoss": "bce",
    "CrossEntropy": "bce",
}
_SCHEDULES = {None: "constant", "Const": "constant", "Cosine": "cosine", "Linear": "linear"}


def train_recipe(config: Config) -> TrainRecipe:
    """The recipe ``slim train`` follows; lengths given in epochs stay so until the data set is known.

    Raises:
        ConfigError: no Global.epoch_num, or an optimizer, schedule or regularizer that is not supported.
    """
    optimizer = config.Optimizer or OptimizerSection()
    loader = (config.Train.loader if config.Train else None) or LoaderSection()
    glob = config.Global
    if glob.epoch_num is None:
        raise ConfigError(
            "Global.epoch_num is missing", where=config.source, remedy="give the number of epochs"
        )
    start, interval = glob.eval_batch_step or (0, None)
    return TrainRecipe(
        epochs=glob.epoch_num,
        batch_size=loader.batch_size_per_card,
        eval_every=interval,
        eval_start=start or 0,
        save_every_epochs=glob.save_epoch_step,
        log_every=glob.print_batch_step,
        augment=_augments(config),
        width=_width(config),
        shrink_loss=_shrink_loss(config),
        **_update_rule(optimizer, config.source),
        **_rate(optimizer.lr or LearningRate()),
    )


def unsupported(optimizer: OptimizerSection) -> list[str]:
    """What of the section slim train cannot do, as "path is value, must be ..." texts."""
    found = []
    if optimizer.name not in _OPTIMIZERS:
        found.append(f"Optimizer.name is {optimizer.name}, supported are {', '.join(_OPTIMIZERS)}")
    rate = optimizer.lr.name if optimizer.lr else None
    if rate not in _SCHEDULES:
        found.append(f"Optimizer.lr.name is {rate}, supported are {', '.join(filter(None, _SCHEDULES))}")
    if optimizer.regularizer and optimizer.regularizer.name == "L1" and optimizer.regularizer.factor:
        found.append("Optimizer.regularizer.name is L1, supported is L2")
    return found


def _update_rule(optimizer: OptimizerSection, where: str | None) -> dict[str, Any]:
    wrong = unsupported(optimizer)
    if wrong:
        raise ConfigError(wrong[0], where=where, remedy="change the key, slim train has no such method")
    regularizer = optimizer.regularizer
    return {
        "optimizer": _OPTIMIZERS[optimizer.name],
        "beta1": optimizer.beta1,
        "beta2": optimizer.beta2,
        "momentum": 0.9 if optimizer.momentum is None else optimizer.momentum,
        "l2": optimizer.weight_decay or (regularizer.factor if regularizer else 0.0),
        "clip_norm": optimizer.clip_norm_global or optimizer.clip_norm,
    }


def _rate(rate: LearningRate) -> dict[str, Any]:
    return {
        "lr": rate.learning_rate,
        "schedule": _SCHEDULES[rate.name],
        "warmup_epochs": rate.warmup_epoch or None,
    }


def _augments(config: Config) -> bool:
    steps = (config.Train.dataset.transforms if config.Train else None) or ()
    return any(step.name in AUGMENTATIONS for step in steps)


def _width(config: Config) -> int | None:
    if config.kind == "det":
        return _side(config)
    resize = config.Train.dataset.transform("RecResizeImg") if config.Train else None
    return resize.image_shape[2] if isinstance(resize, RecResizeImgArgs) else None


def _side(config: Config) -> int | None:
    """Side of the square parts of pages."""
    crop = config.Train.dataset.transform("EastRandomCropData") if config.Train else None
    if not isinstance(crop, EastRandomCropDataArgs):
        return None
    if crop.size[0] != crop.size[1]:
        raise ConfigError(
            f"EastRandomCropData.size is {list(crop.size)}, must be square",
            where=config.source,
            remedy="give the same side twice",
        )
    return crop.size[0]


def _shrink_loss(config: Config) -> Literal["bce", "dice"] | None:
    if config.kind != "det":
        return None
    wrong = unsupported_pages(config)
    if wrong:
        raise ConfigError(wrong[0], where=config.source, remedy="slim train has no other")
    loss = config.Loss
    return _SHRINK_LOSSES[loss.main_loss_type] if isinstance(loss, DBLoss) else None


def unsupported_pages(config: Config) -> list[str]:
    """What slim train cannot do of a detector's loss and label maps, as "path is value, ..." texts."""
    found = []
    loss = config.Loss
    if isinstance(loss, DBLoss):
        if loss.main_loss_type not in _SHRINK_LOSSES:
            known = ", ".join(_SHRINK_LOSSES)
            found.append(f"Loss.main_loss_type is {loss.main_loss_type}, supported are {known}")
        found += _other(loss, "Loss", DBLoss(name="DBLoss"), ("balance_loss", "alpha", "beta", "ohem_ratio"))
    for name, usual in (("MakeBorderMap", MakeBorderMapArgs()), ("MakeShrinkMap", MakeShrinkMapArgs())):
        given = config.Train.dataset.transform(name) if config.Train else None
        if given is not None:
            found += _other(given, name, usual, tuple(type(usual).model_fields))
    return found


def _other(given: Section, name: str, usual: Section, keys: tuple[str, ...]) -> list[str]:
    pairs = [(key, getattr(given, key), getattr(usual, key)) for key in keys]
    return [f"{name}.{key} is {value}, supported is {only}" for key, value, only in pairs if value != only]

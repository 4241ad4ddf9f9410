"""Batches for a recipe: the same for training, finetuning and quantization-aware training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from slim.config import TrainRecipe
    from slim.data.dataset import TrainingData
    from slim.data.loader import TrainBatches
    from slim.data.tolerance import Tolerance
    from slim.spec import ModelSpec


def batches(
    spec: ModelSpec,
    data: TrainingData,
    recipe: TrainRecipe,
    seed: int,
    *,
    augment: bool | None = None,
    tolerance: Tolerance | None = None,
) -> TrainBatches:
    """Training batches of ``recipe.batch_size``; rec lines of similar width go together unless it fixes one.

    Args:
        augment: overrides the recipe (BatchNorm statistics want images as they are).
        tolerance: counts bad lines; a fresh one by default.
    """
    from slim.data.augment import augmentation
    from slim.data.loader import TrainBatches

    wanted = recipe.augment if augment is None else augment
    width: int | Literal["auto"] = recipe.width if recipe.width is not None else "auto"
    return TrainBatches(
        data,
        spec,
        recipe.batch_size,
        seed,
        augment=augmentation(spec.kind) if wanted else None,
        width=width if spec.kind == "rec" else None,
        tolerance=tolerance,
    )

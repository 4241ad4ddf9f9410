"""Batches for a recipe: the same for training, finetuning and quantization-aware training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from slim.distributed import gather

if TYPE_CHECKING:
    from slim.config import TrainRecipe
    from slim.data.dataset import TrainingData
    from slim.data.loader import TrainBatches
    from slim.data.page_batches import PageBatches
    from slim.progress import Reporter
    from slim.spec import ModelSpec


PAGE_SIDE = 640


def batches(
    spec: ModelSpec,
    data: TrainingData,
    recipe: TrainRecipe,
    seed: int,
    *,
    augment: bool | None = None,
    strict: bool = False,
) -> TrainBatches | PageBatches:
    """Training batches of ``recipe.batch_size``; rec lines of similar width go together unless it fixes one.

    Of det pages, square parts of ``recipe.width`` are cut (PaddleOCR's 640 unless it is given).

    Args:
        augment: overrides the recipe (BatchNorm statistics want images as they are).
        strict: one unreadable image or character outside the dictionary is an error, not 0.1% of them.
    """
    from slim.data.augment import augmentation
    from slim.data.loader import TrainBatches
    from slim.data.tolerance import Tolerance

    wanted = recipe.augment if augment is None else augment
    if spec.kind == "det":
        return _pages(spec, data, recipe, seed, wanted, strict)
    width: int | Literal["auto"] = recipe.width if recipe.width is not None else "auto"
    return TrainBatches(
        data,
        spec,
        recipe.batch_size,
        seed,
        augment=augmentation(spec.kind) if wanted else None,
        width=width if spec.kind == "rec" else None,
        tolerance=Tolerance(strict=strict),
    )


def _pages(
    spec: ModelSpec, data: TrainingData, recipe: TrainRecipe, seed: int, change: bool, strict: bool
) -> PageBatches:
    from slim.data.page_augment import PageCrop
    from slim.data.page_batches import PageBatches
    from slim.data.tolerance import Tolerance

    crop = PageCrop(recipe.width or PAGE_SIDE, change)
    return PageBatches(data, spec, recipe.batch_size, seed, crop, tolerance=Tolerance(strict=strict))


def tell_bad_lines(source: TrainBatches | PageBatches, progress: Reporter) -> None:
    """Warn once about the lines that training had to leave out, in any process; quiet when there were none.

    Raises:
        InputError: the processes together met more bad lines than one of them may.
    """
    for told in gather(source.tolerance.told()):
        source.tolerance.join(told)
    counts = {name: count for name, count in source.tolerance.summary().items() if count}
    if counts:
        said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        progress.warn(f"lines left out of training: {said} (of {source.tolerance.total})")

"""Training as the pipeline uses it: batches from a data set, a teacher, resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.progress import Reporter

if TYPE_CHECKING:
    from slim.bundle import Bundle
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
    """Batches for a recipe; lines of similar width go together unless the recipe fixes a width."""
    from slim.data.augment import augmentation
    from slim.data.loader import TrainBatches

    wanted = recipe.augment if augment is None else augment
    width: Any = recipe.width if recipe.width is not None else "auto"
    return TrainBatches(
        data,
        spec,
        recipe.batch_size,
        seed,
        augment=augmentation(spec.kind) if wanted else None,
        width=width if spec.kind == "rec" else None,
        tolerance=tolerance,
    )


def finetune(
    bundle: Bundle,
    recipe: TrainRecipe,
    data: TrainingData,
    work: Path,
    teacher: Bundle | None,
    seed: int,
    progress: Reporter,
) -> None:
    """Train ``bundle.net`` in place by ``recipe``; a stopped run in ``work`` is continued."""
    from slim.training import fit

    source = batches(bundle.spec, data, recipe, seed)
    recipe = recipe.in_steps(source.steps_per_epoch)
    fit(
        bundle.net,
        recipe,
        source,
        kind=bundle.spec.kind,
        evaluate=None,
        out=work,
        teacher=teacher.net if teacher is not None and recipe.distill else None,
        progress=progress,
        seed=seed,
    )
    bundle.net.eval()

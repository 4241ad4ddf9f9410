"""What makes two calls of ``fit`` the same run: only then may one go on where the other stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slim.numerics import state_sha256
from slim.training.hooks import BatchSource

if TYPE_CHECKING:
    from paddle import nn

    from slim.config import TrainRecipe

# These change what is shown and how often is saved, not a single weight.
_FREE = ("log_every", "save_every", "save_every_epochs")


def identity_of(
    net: nn.Layer,
    recipe: TrainRecipe,
    batches: BatchSource,
    kind: str,
    main_indicator: str,
    teacher: nn.Layer | None,
    seed: int,
) -> dict[str, Any]:
    """Hashes and values by the name a user knows them by; call it before the first step."""
    plain = {key: value for key, value in recipe.plain().items() if key not in _FREE}
    return {
        "recipe": _digest({**plain, "kind": kind, "main_indicator": main_indicator}),
        "data": _digest({**batches.dataset.describe(), "steps_per_epoch": batches.steps_per_epoch}),
        "seed": seed,
        "start weights": _weights(net),
        "teacher": None if teacher is None else _weights(teacher),
    }


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def _weights(net: nn.Layer) -> str:
    return state_sha256({name: tensor.numpy() for name, tensor in net.state_dict().items()})

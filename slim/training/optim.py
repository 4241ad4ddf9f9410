"""Learning rate, update rule, gradient norm, and the optimizer's memory under the net's own names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn
from paddle.utils import unique_name

from slim.errors import CheckpointError

if TYPE_CHECKING:
    from slim.config import TrainRecipe

# What Adam, AdamW and Momentum of Paddle 2.6.2 remember of each parameter.
_MEMORY = ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc", "velocity")


def rate_at(recipe: TrainRecipe, step: int) -> float:
    """Learning rate of a step counted from 1; ``recipe`` has its lengths in steps.

    The warm-up rises in a straight line and ends at ``lr``; then the schedule runs from ``lr``, and
    cosine and linear would reach 0 one step after the last.

    >>> from slim.config import TrainRecipe
    >>> recipe = TrainRecipe(steps=4, lr=0.8, schedule="linear", warmup_steps=2)
    >>> [round(rate_at(recipe, step), 3) for step in (1, 2, 3, 4)]
    [0.4, 0.8, 0.8, 0.4]
    """
    assert recipe.steps is not None
    if step <= recipe.warmup_steps:
        return recipe.lr * step / recipe.warmup_steps
    done = (step - 1 - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.lr * _SCHEDULES[recipe.schedule](done)


_SCHEDULES = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}


class Optimizer:
    """The recipe's update rule over the trainable parameters of a net.

    L2 is coupled (added to the gradient, after clipping) for adam, sgd and momentum, as PaddleOCR's
    ``regularizer: L2``, and decoupled for adamw. A parameter's own learning rate factor, regularizer
    and ``stop_gradient`` are respected.
    """

    def __init__(self, net: nn.Layer, recipe: TrainRecipe) -> None:
        self._parameters = {path: p for path, p in net.named_parameters() if not p.stop_gradient}
        clip = nn.ClipGradByGlobalNorm(recipe.clip_norm) if recipe.clip_norm is not None else None
        self._rule = _rule(recipe, list(self._parameters.values()), clip)

    def gradient_norm(self) -> float:
        """Euclidean norm of the whole gradient, before clipping; NaN or infinity when any entry is."""
        squares = [(p.grad * p.grad).sum() for p in self._parameters.values() if p.grad is not None]
        return math.sqrt(float(paddle.add_n(squares))) if squares else 0.0

    def step(self, rate: float) -> None:
        """Update the weights with learning rate ``rate`` and drop the gradients."""
        self._rule.set_lr(rate)
        # A fresh name scope: Paddle numbers its memory by how often a name was used in the process.
        with unique_name.guard():
            self._rule.step()
        self._rule.clear_grad(set_to_zero=False)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Memory by the net's attribute paths: ``backbone.conv1.conv.weight_moment1`` -> array.

        Paddle itself names it by running numbers (``conv2d_57.w_0_moment1_0``), which differ from
        process to process.
        """
        names = {theirs: ours for ours, theirs in self._names().items()}
        return {names[key]: value.numpy() for key, value in self._rule.state_dict().items() if key in names}

    def load(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take up memory written by ``state``; raises CheckpointError when it is another net's."""
        names = self._names()
        foreign = sorted(set(state) - set(names))
        if foreign:
            some = ", ".join(foreign[:5])
            raise CheckpointError(
                f"{len(foreign)} optimizer entries belong to no parameter of the net: {some}"
            )
        if state:
            self._rule.set_state_dict({names[name]: np.asarray(value) for name, value in state.items()})

    def _names(self) -> dict[str, str]:
        return {
            f"{path}_{memory}": f"{p.name}_{memory}_0"
            for path, p in self._parameters.items()
            for memory in _MEMORY
        }


def _rule(recipe: TrainRecipe, parameters: list[Any], clip: Any) -> Any:
    common = {"learning_rate": recipe.lr, "parameters": parameters, "grad_clip": clip}
    coupled = paddle.regularizer.L2Decay(recipe.l2) if recipe.l2 else None
    betas = {"beta1": recipe.beta1, "beta2": recipe.beta2}
    if recipe.optimizer == "adam":
        return paddle.optimizer.Adam(**common, **betas, weight_decay=coupled)
    if recipe.optimizer == "adamw":
        return paddle.optimizer.AdamW(**common, **betas, weight_decay=recipe.l2)
    if recipe.optimizer == "momentum":
        return paddle.optimizer.Momentum(**common, momentum=recipe.momentum, weight_decay=coupled)
    return paddle.optimizer.SGD(**common, weight_decay=coupled)

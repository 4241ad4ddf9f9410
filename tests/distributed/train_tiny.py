"""A program for one of several processes: a few steps of a tiny net, its weights written by rank 0.

Arguments: folder, batch norm ("bn" or "plain"), step at which rank 1 meets NaN ("-": never).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from slim import distributed
from slim.config import TrainRecipe
from slim.errors import SlimError
from slim.training import fit
from slim.training.parallel import Rows

ROWS, STEPS = 5, 4


class Data:
    """Names itself."""

    def describe(self) -> Mapping[str, Any]:
        return {"path": "tiny", "count": 20}


class Batches:
    """Five rows a step, so that two processes have unequal shares."""

    dataset, steps_per_epoch = Data(), STEPS

    def __init__(self, nan_at: int | None) -> None:
        self.nan_at = nan_at

    def iterate(self, start_step: int, stop_step: int) -> Iterator[Rows]:
        for step in range(start_step, stop_step):
            rng = np.random.default_rng([5, step])
            image = rng.normal(size=(ROWS, 3, 8, 8)).astype(np.float32)
            if self.nan_at == step:
                image[1] = np.nan  # a row of rank 1
            labels = rng.integers(0, 2, ROWS)
            yield Rows(image, labels, np.ones(ROWS, np.int64), tuple(f"{step}_{k}" for k in range(ROWS)))


def main(folder: Path, norm: str, nan_at: str) -> int:
    paddle.seed(1)
    layers = [nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4) if norm == "bn" else nn.Identity(), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 2))
    recipe = TrainRecipe(
        steps=STEPS, batch_size=ROWS, lr=0.1, optimizer="momentum", l2=0.01, log_every=1, save_every=1
    )
    batches = Batches(None if nan_at == "-" else int(nan_at))
    scores = iter([0.3, 0.9, 0.5, 0.4])
    recipe = recipe.model_copy(update={"eval_every": 1})
    try:
        result = fit(
            net, recipe, batches, kind="cls", out=folder, seed=1, evaluate=lambda: {"acc": next(scores)}
        )
    except SlimError as error:
        print(f"slim: {error}", file=sys.stderr)
        distributed.fail(error)
        return error.exit_code
    if distributed.is_first():
        losses = [entry["loss"] for entry in result.history if "loss" in entry]
        weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
        np.savez(folder / "end.npz", losses=losses, best=result.best_step, **weights)
    distributed.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))

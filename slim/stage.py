"""What every stage shares: its context, its checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.errors import UsageError
from slim.progress import Reporter, Silent

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.data.dataset import TrainingData


LEAST_SCORE = 5.0
"""Points below which a model has nothing to lose: what a stage would measure on it says nothing."""


def require_trained(score: float, source: str | None = None) -> None:
    """Refuse to work on a model whose metric, in points, is near zero before anything is done to it.

    >>> require_trained(94.0)

    Raises:
        UsageError: below `LEAST_SCORE`, or NaN; it names ``source``, where the model is.
    """
    if not score >= LEAST_SCORE:
        raise UsageError(
            f"the model's metric is {score:.2f}% before anything is done to it, below {LEAST_SCORE:g}%",
            where=source,
            remedy="is this checkpoint trained, and does it fit the dictionary and the data? A pruned one: "
            "cut less (Prune.flops, Prune.ratio) or finetune longer (Prune.Finetune.steps)",
        )


@dataclass(frozen=True)
class Check:
    """One measured fact beside its bound.

    Attributes:
        name: what was measured, in words.
        value: the measurement.
        bound: the limit.
        unit: of both ("points", "bytes", "abs", "images", ...).
        relation: "<=", ">=" or "==" between value and bound.

    >>> Check("drop", 0.4, 1.0, "points", "<=").passed
    True
    >>> Check("drop", float("nan"), 1.0, "points", "<=").passed
    False
    """

    name: str
    value: float
    bound: float
    unit: str
    relation: str = "<="
    passed: bool = field(init=False)

    def __post_init__(self) -> None:
        compare: dict[str, Callable[[float, float], bool]] = {
            "<=": lambda a, b: a <= b,
            ">=": lambda a, b: a >= b,
            "==": lambda a, b: a == b,
        }
        if self.relation not in compare:
            raise ValueError(f"relation {self.relation!r} is not one of {', '.join(compare)}")
        ok = not math.isnan(self.value) and compare[self.relation](self.value, self.bound)
        object.__setattr__(self, "passed", ok)

    def line(self) -> str:
        """One line for a table or an error.

        >>> Check("drop", 0.4, 1.0, "points").line()
        'drop 0.4 <= 1 points: pass'
        """
        verdict = "pass" if self.passed else "FAIL"
        return f"{self.name} {self.value:g} {self.relation} {self.bound:g} {self.unit}: {verdict}"

    def to_json(self) -> dict[str, Any]:
        """Plain data; a NaN value becomes null, since JSON has none."""
        value = None if math.isnan(self.value) else self.value
        return {**self.__dict__, "value": value}


@dataclass(frozen=True)
class StageContext:
    """What a stage may use beside its model and recipe.

    Attributes:
        work: folder for checkpoints and partial results, so that a stopped stage can be resumed.
        seed: seed of everything random.
        train: data set for finetuning (augmented, shuffled by the loader), None if the stage needs none.
        teacher: the float original, whose outputs finetuning may be drawn to.
        calibration: data set calibration draws from; never the evaluation set.
        score: the task metric of a model in percent, on held-out lines.
        strict: one bad training line is an error.
        nb_bytes: bytes of the ARM file of a float model, as the export would write it.
        latencies: times of float models in Paddle-Lite x86, measured side by side in one run.
    """

    work: Path
    seed: int
    train: TrainingData | None = None
    teacher: Bundle | None = None
    calibration: TrainingData | None = None
    score: Callable[[Bundle], float] | None = None
    nb_bytes: Callable[[Bundle], int] | None = None
    latencies: Callable[[Sequence[Bundle]], list[float]] | None = None
    strict: bool = False
    progress: Reporter = field(default_factory=Silent)

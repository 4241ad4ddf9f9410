"""The shipped ARM file in the real Paddle-Lite x86 runtime, on images: int8 flips counted, texts equal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.nb import device_math, witness
from export.nb.executor import load
from slim.data.dataset import Dataset
from slim.evaluate import EvalResult, evaluate, same_answer
from slim.progress import Reporter, Silent
from slim.spec import ModelSpec
from slim.stage import Check

# Probability. Without a flip executor and witness differ in the order of a few float sums (2.4e-7 on the
# stored outputs of the device); one int8 value on the other side of a rounding moves far more than this.
SAME_ROUNDING = 1e-6
ANSWERS = {"cls": "text", "rec": "text", "det": "regions"}
"""What a model of each kind says of an image, in the words of the checks."""


@dataclass(frozen=True)
class WitnessReport:
    """What two independent engines made of the same images.

    Attributes:
        images: scored by both.
        flipped: images with an output that differs by more than ``SAME_ROUNDING``: some int8 value was
            rounded the other way, because a float sum in front of it was taken in another order.
        max_abs: largest difference of an output value.
        same_text: images whose answer (text, or regions of a page) is that of the shipped file.
        kind: of the model.
    """

    images: int
    flipped: int
    max_abs: float
    same_text: int
    kind: str

    def to_json(self) -> dict[str, int | float | str]:
        """Plain data for the report."""
        return dict(self.__dict__)

    def check(self, name: str, least: float) -> Check:
        """The share of equal texts beside its bound."""
        label = (
            f"{name}: same {ANSWERS[self.kind]} in Paddle-Lite x86 on {self.images} images "
            f"({self.flipped} with a flip)"
        )
        return Check(label, self.same_text / self.images, least, "share", ">=")


def second_witness(
    path: Path, shipped: EvalResult, dataset: Dataset, spec: ModelSpec, limit: int, progress: Reporter | None
) -> WitnessReport:
    """Run an int8 ARM file, rewritten to float kernels, in the real x86 runtime, and compare.

    Flips are counted against the executor with exact exp and division, as x86 has them; texts are compared
    with those of the shipped file, whose exp is the device's.

    Args:
        path: the ARM file.
        shipped: its scored images, at least ``limit`` of them, or all.
    Raises:
        UnsupportedModel: the file holds an op or kernel without a float counterpart.
        StageFailed, ToolMissing: the x86 runtime died, or is not installed.
    """
    found: dict[str, list[np.ndarray]] = {"seen": [], "expected": []}
    exact = load(path, math=device_math.LIBM)
    runtime = witness.load(path)

    def run(x: np.ndarray) -> np.ndarray:
        found["seen"].append(runtime.run(x))
        found["expected"].append(exact.run(x))
        return found["seen"][-1]

    limit = min(limit, shipped.images)
    try:
        rows = evaluate(run, dataset, spec, limit=limit, progress=progress or Silent()).predictions
    finally:
        runtime.close()
    apart = [float(np.abs(a - b).max()) for a, b in zip(*found.values(), strict=True)]
    pairs = zip(rows, shipped.predictions[:limit], strict=True)
    same = sum(same_answer(spec.kind, a, b) for a, b in pairs)
    flipped = sum(value > SAME_ROUNDING for value in apart)
    return WitnessReport(limit, flipped, max(apart), same, spec.kind)

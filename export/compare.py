"""Two runtimes on the same tensors: how far apart, and whether one keeps a memory of earlier inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.program import random_input
from export.runtimes.base import Runtime
from slim.numerics import cosine, max_abs
from slim.spec import ModelSpec
from slim.stage import Check


@dataclass(frozen=True)
class TensorComparison:
    """One input through two runtimes.

    Attributes:
        name: what the input was.
        shape: of the input.
        max_abs: largest absolute difference; NaN where an output holds NaN or the shapes differ.
        cosine: of the two outputs as vectors.
        argmax_agreement: share of rows (rec: time steps, det: 0/1 decisions at 0.5) with the same class.
        finite: both outputs hold only finite numbers.
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    cosine: float
    argmax_agreement: float
    finite: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data; a NaN becomes null."""
        plain = asdict(self)
        return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in plain.items()}


def compare_outputs(
    name: str, shape: Sequence[int], expected: np.ndarray, found: np.ndarray
) -> TensorComparison:
    """Compare two outputs for an input of ``shape``.

    >>> same = np.array([[0.25, 0.75]], np.float32)
    >>> compare_outputs("x", (1, 3, 48, 192), same, same).max_abs
    0.0
    """
    finite = bool(np.isfinite(expected).all() and np.isfinite(found).all())
    if expected.shape != found.shape:
        return TensorComparison(name, tuple(shape), float("nan"), float("nan"), 0.0, finite)
    # A class axis of 1 is a map (det): its decision is the threshold at one half.
    wide = expected.ndim > 1 and expected.ndim < 4
    a = expected.argmax(-1) if wide else expected > 0.5
    b = found.argmax(-1) if wide else found > 0.5
    return TensorComparison(
        name,
        tuple(shape),
        max_abs(expected, found) if finite else float("nan"),
        cosine(expected, found) if finite else float("nan"),
        float((a == b).mean()),
        finite,
    )


def probes(spec: ModelSpec, widths: Sequence[int], *, batch: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """Named inputs: noise, zeros, line-like blocks, a batch, and the other widths, all within -1..1.

    Widths are only for models whose width is dynamic; a detector is tried with other sizes instead.
    """
    inp = spec.input
    height, width = (96, 160) if inp.dynamic_height else (inp.height, inp.width)
    nominal = (1, inp.channels, height, width)
    found = [
        ("noise", random_input(nominal, seed)),
        ("zeros", np.zeros(nominal, np.float32)),
        ("blocks", blocks(nominal, seed)),
    ]
    if batch > 1:
        found.append((f"batch of {batch}", blocks((batch, *nominal[1:]), seed + 1)))
    if inp.dynamic_height:
        found.append(("another size", blocks((1, inp.channels, 2 * height, width), seed + 2)))
    elif inp.dynamic_width:
        found += [(f"width {w}", blocks((1, inp.channels, height, w), seed + w)) for w in widths]
    return found


def blocks(shape: Sequence[int], seed: int) -> np.ndarray:
    """Dark blocks of 2..12 columns on a light ground: edges like those of text, float32 in -1..1."""
    rng = np.random.default_rng([seed, *shape, 7])
    x = np.full(shape, 0.8, np.float32)
    for image in x:
        column = 0
        while column < shape[-1]:
            step = int(rng.integers(2, 13))
            top = int(rng.integers(0, shape[-2] // 2))
            image[:, top : shape[-2] - top, column : column + step // 2] = rng.uniform(-1, 0)
            column += step
    return x


def compare(
    reference: Runtime, candidate: Runtime, inputs: Sequence[tuple[str, np.ndarray]]
) -> list[TensorComparison]:
    """Both runtimes over named inputs."""
    return [compare_outputs(name, x.shape, reference.run(x), candidate.run(x)) for name, x in inputs]


def repeats(runtime: Runtime, a: np.ndarray, b: np.ndarray) -> float:
    """Run A, B, A and give the largest difference between the two answers to A; 0.0 is what must come out."""
    first = np.array(runtime.run(a))
    runtime.run(b)
    second = runtime.run(a)
    return max_abs(first, second) if first.shape == second.shape else float("nan")


def tensor_checks(label: str, found: Sequence[TensorComparison], bound: float) -> list[Check]:
    """The worst of each kind against its bound."""
    worst = max((c.max_abs for c in found), key=lambda v: (np.isnan(v), v))
    return [
        Check(f"{label}: largest difference on {len(found)} tensors", worst, bound, "abs"),
        Check(f"{label}: outputs not finite", sum(not c.finite for c in found), 0, "tensors", "=="),
    ]

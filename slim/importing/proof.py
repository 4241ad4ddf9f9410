"""The recovered net against the model it came from: the same inputs, the same outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from slim.errors import StageFailed
from slim.importing.match import Pairs
from slim.numerics import max_abs
from slim.stage import Check

if TYPE_CHECKING:
    from slim.bundle import Bundle

Array = npt.NDArray[np.float32]
# Probabilities. Paddle's Predictor, which sums in another order, moved them by 7e-6 on noise and by 2e-6 on
# lines (the bundled models); a weight that is off in its third digit moves them by 1e-3 and more.
BOUND = 1e-4
# A layer counts as different when its result is off by this share of its largest value.
LAYER_BOUND = 1e-4


class Source(Protocol):
    """A deployed model that can be run."""

    def run(self, x: Array) -> Array:
        """Float32 N x C x H x W to its output."""

    def taps(self, names: Sequence[str], x: Array) -> Mapping[str, Array]:
        """Results of inner layers by their variables' names."""


def prove(bundle: Bundle, source: Source, inputs: Mapping[str, Array], pairs: Pairs) -> list[Check]:
    """Run both on every input.

    Args:
        inputs: what it is -> float32 N x C x H x W.
        pairs: our layers and the source's, to find where a difference begins.
    Returns:
        One passed check per input: largest absolute difference of the outputs.
    Raises:
        StageFailed: an output differs by more than BOUND; the first layer that does is named.
    """
    checks = []
    for name, x in inputs.items():
        expected, found = source.run(x), bundle.run(x)
        value = max_abs(expected, found) if expected.shape == found.shape else float("nan")
        check = Check(f"recovered net against the source, {name}", value, BOUND, "abs")
        if not check.passed:
            shapes = f", shapes {list(found.shape)} and {list(expected.shape)}"
            raise StageFailed(
                f"the recovered net's output differs from the source's by {value:.3g} on {name}"
                f"{shapes if expected.shape != found.shape else ''}, the limit is {BOUND:g}; "
                + first_difference(bundle, source, x, pairs),
                remedy="give the config of this model (--config)",
            )
        checks.append(check)
    return checks


def first_difference(bundle: Bundle, source: Source, x: Array, pairs: Pairs) -> str:
    """The first layer whose result differs, by its path in our net."""
    ours = _inner(bundle, [node.output for node, _ in pairs], x)
    theirs = source.taps([other.output for _, other in pairs], x)
    for node, other in pairs:
        if node.output not in ours or other.output not in theirs:
            continue
        a, b = ours[node.output], theirs[other.output]
        if a.size != b.size:
            return f"the first layer that differs is {node.name()}: {a.size} against {b.size} values"
        largest = float(np.max(np.abs(b))) or 1.0
        # Some exporters keep sequences as T x N x C: sorted, order does not count.
        off = max_abs(a, b) if a.shape == b.shape else max_abs(np.sort(a, None), np.sort(b, None))
        if not off <= LAYER_BOUND * largest:
            return f"the first layer that differs is {node.name()}, by {off:.3g} of at most {largest:.3g}"
    return "no inner layer differs: the order of axes at the end may"


def _inner(bundle: Bundle, names: Sequence[str], x: Array) -> Mapping[str, Array]:
    from export.program import save_program

    with tempfile.TemporaryDirectory(prefix="slim-import-") as folder:
        prefix = Path(folder) / "inference"
        save_program(bundle, prefix)
        return PaddleSource(prefix).taps(names, x)


class PaddleSource:
    """An inference program in Paddle's Predictor."""

    def __init__(self, prefix: Path) -> None:
        from export.runtimes import paddle

        self._prefix = prefix
        self._run: Callable[[Array], Array] = paddle.load(prefix).run

    def run(self, x: Array) -> Array:
        """See Source."""
        return self._run(x)

    def taps(self, names: Sequence[str], x: Array) -> Mapping[str, Array]:
        """See Source; a result inside a layer of several steps has no variable and is left out."""
        from export import proto
        from export.taps import Taps

        program = proto.read_program(proto.model_path(self._prefix))
        known = [name for name in names if proto.var(program, name) is not None]
        with tempfile.TemporaryDirectory(prefix="slim-import-") as work:
            return Taps(self._prefix, known, Path(work)).run(x)

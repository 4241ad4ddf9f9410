"""Quantization-aware training: from calibrated clips, with PACT or LSQ, back to a finished simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from quant import lsq, pact, wrap
from quant.scheme import QuantScheme
from slim.errors import Diverged
from slim.progress import Reporter, Silent
from slim.training import Hook, fit
from slim.training.checkpoints import BEST

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import TrainRecipe
    from slim.training import BatchSource, FitResult

# A metric below this part of the float model's is no loss of precision but a broken model.
COLLAPSE = 0.5
# Update rules that move a parameter by about the learning rate, whatever the size of its gradient.
ADAPTIVE = ("adam", "adamw")


def train(
    bundle: Bundle,
    scheme: QuantScheme,
    recipe: TrainRecipe,
    source: BatchSource,
    *,
    teacher: Bundle | None = None,
    score: Callable[[Bundle], float] | None = None,
    work: Path | None = None,
    progress: Reporter | None = None,
    seed: int,
) -> tuple[QuantScheme, FitResult]:
    """Train a prepared and calibrated bundle in place.

    The input quantizers go on from the calibrated clips with their moving average; the weights' scales
    follow the weights. ``scheme.clip`` "pact" clips each input by a learned bound first, "lsq" learns the
    quantizer's step instead of averaging; either is taken off again at the end.

    Args:
        bundle: wrapped by ``wrap.prepare``, clips installed.
        teacher: the float model its outputs are drawn towards, with weight ``recipe.distill``.
        score: points of a bundle; used every ``recipe.eval_every`` steps to keep the best weights.
        work: folder of checkpoints; a run that was stopped goes on from there.
    Returns:
        The scheme with the clips after training, and how training went. ``bundle.net`` is in eval mode.
    Raises:
        StageFailed: the net is not prepared, not calibrated, or a clip became NaN or not positive.
        Diverged: loss, gradient or metric is NaN or infinite, or an evaluation is under half of the float
            model's metric; the last good and the best checkpoint stay in ``work``.
    """
    wrap.require_clips(wrap.read_clips(bundle.net), scheme)
    if scheme.clip == "pact":
        pact.attach(bundle.net)
    elif scheme.clip == "lsq":
        lsq.attach(bundle.net, adaptive=recipe.optimizer in ADAPTIVE)
    evaluate, hooks = None, []
    if score is not None:
        evaluate = _evaluator(bundle, score) if recipe.eval_every is not None else None
        hooks = [CollapseStop(scheme.metrics["float"], work)] if "float" in scheme.metrics else []
    result = fit(
        bundle.net,
        recipe,
        source,
        kind=bundle.spec.kind,
        evaluate=evaluate,
        out=work,
        teacher=teacher.net if teacher is not None and recipe.distill else None,
        hooks=hooks,
        progress=progress or Silent(),
        seed=seed,
    )
    return wrap.finalize(bundle.net, scheme), result


class CollapseStop(Hook):
    """Stops training when an evaluation is under half of the float model's metric: more steps rarely mend it.

    Args:
        original: points of the float model.
        work: where ``fit`` keeps its checkpoints.
    """

    def __init__(self, original: float, work: Path | None) -> None:
        self._original, self._work, self._best = original, work, (-math.inf, 0)

    def on_eval(self, step: int, metrics: Mapping[str, float]) -> None:
        found = metrics["acc"]
        self._best = max(self._best, (found, -step))
        if found >= COLLAPSE * self._original:
            return
        points, at = self._best
        kept = (
            f"; the best weights, {points:.2f} points at step {-at}, are {self._work / BEST}.pdparams"
            if self._work
            else ""
        )
        raise Diverged(
            f"the metric fell to {found:.2f} points at step {step}, under {COLLAPSE:g} times the float "
            f"model's {self._original:.2f}{kept}",
            remedy="lower lr, or train without learned clips (Quant.clip=none)",
        )


def _evaluator(bundle: Bundle, score: Callable[[Bundle], float]) -> Callable[[], dict[str, float]]:
    return lambda: {"acc": score(bundle)}

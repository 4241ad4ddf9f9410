"""Quantization-aware training: from calibrated clips, with PACT, back to a finished simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from quant import pact, wrap
from quant.scheme import QuantScheme
from slim.progress import Reporter, Silent
from slim.training import fit

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import TrainRecipe
    from slim.training import BatchSource, FitResult


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
    follow the weights. With ``scheme.pact`` each input is clipped by a learned bound first, which is
    taken off again at the end.

    Args:
        bundle: wrapped by ``wrap.prepare``, clips installed.
        teacher: the float model its outputs are drawn towards, with weight ``recipe.distill``.
        score: points of a bundle; used every ``recipe.eval_every`` steps to keep the best weights.
        work: folder of checkpoints; a run that was stopped goes on from there.
    Returns:
        The scheme with the clips after training, and how training went. ``bundle.net`` is in eval mode.
    Raises:
        StageFailed: the net is not prepared, not calibrated, or a clip became NaN or not positive.
        Diverged: loss, gradient or metric is NaN or infinite; the last good checkpoint stays in ``work``.
    """
    wrap.require_clips(wrap.read_clips(bundle.net), scheme)
    if scheme.pact:
        pact.attach(bundle.net)
    evaluate = None
    if score is not None and recipe.eval_every is not None:
        evaluate = _evaluator(bundle, score)
    result = fit(
        bundle.net,
        recipe,
        source,
        kind=bundle.spec.kind,
        evaluate=evaluate,
        out=work,
        teacher=teacher.net if teacher is not None and recipe.distill else None,
        progress=progress or Silent(),
        seed=seed,
    )
    return wrap.finalize(bundle.net, scheme), result


def _evaluator(bundle: Bundle, score: Callable[[Bundle], float]) -> Callable[[], dict[str, float]]:
    return lambda: {"acc": score(bundle)}

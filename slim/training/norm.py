"""BatchNorm in training: frozen statistics, and statistics measured anew after a cut."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paddle
from paddle import nn

from slim.errors import StageFailed
from slim.progress import Reporter, Silent
from slim.training.hooks import BatchSource

_NORMS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D)


def norms(net: nn.Layer) -> list[nn.Layer]:
    """Every BatchNorm layer of a net."""
    return [layer for layer in net.sublayers(include_self=True) if isinstance(layer, _NORMS)]


def to_training(net: nn.Layer, *, freeze_bn: bool) -> None:
    """Training mode; with ``freeze_bn`` BatchNorm keeps using, and not changing, its statistics."""
    net.train()
    if freeze_bn:
        for layer in norms(net):
            layer.eval()


@contextmanager
def quiet_norms() -> Iterator[None]:
    """Without Paddle 2.6's warning that BatchNorm in training mode does what that mode is for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="When training, we now always track global mean")
        yield


@contextmanager
def _only_norms_training(net: nn.Layer) -> Iterator[list[nn.Layer]]:
    modes = [(layer, layer.training) for layer in net.sublayers(include_self=True)]
    layers = norms(net)
    momenta = [layer._momentum for layer in layers]
    net.eval()
    for layer in layers:
        layer.training = True
    try:
        yield layers
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer._momentum = momentum
        for layer, mode in modes:
            layer.training = mode


def reestimate_bn(
    net: nn.Layer, batches: BatchSource, n_batches: int, *, progress: Reporter | None = None
) -> None:
    """Replace BatchNorm's running statistics by their plain average over ``n_batches`` batches.

    Batch k (from 0) enters with momentum k / (k + 1), which makes the running value the mean of all
    batches so far and forgets the old one. Weights do not change; modes and momenta are put back.
    0 batches leave the net as it is.

    Raises:
        StageFailed: a statistic came out as NaN or infinity.
    """
    with (
        quiet_norms(),
        _only_norms_training(net) as layers,
        (progress or Silent()).task("batch norm statistics", n_batches) as task,
        paddle.no_grad(),
    ):
        for k, batch in enumerate(batches.iterate(0, n_batches)):
            for layer in layers:
                layer._momentum = k / (k + 1)
            net(paddle.to_tensor(batch.image))
            task.advance(1)
    for path, layer in net.named_sublayers():
        if isinstance(layer, _NORMS) and not bool(
            paddle.isfinite(layer._mean).all() & paddle.isfinite(layer._variance).all()
        ):
            raise StageFailed(
                "BatchNorm statistics are NaN or infinite", where=path, remedy="remove fewer channels"
            )


def correct_bn(
    after: nn.Layer,
    before: nn.Layer,
    cut: Callable[[nn.Layer], None],
    batches: BatchSource,
    n_batches: int,
    *,
    progress: Reporter | None = None,
) -> None:
    """Move the statistics of a pruned net by what the cut moved, measured on the same batches.

    Statistics measured anew replace those of the training data, and here that costs more than the cut:
    on unpruned bundled models it took the classifier from 95.2% to 75.2% (other images, other padding) and
    the recognizer from 89.4% to 68.2%. So both nets are measured, and only the difference is applied::

        mean     = stored mean     + (mean pruned - mean whole)
        variance = stored variance * (variance pruned + eps) / (variance whole + eps)

    Whatever the batches have in common with both nets cancels; without a cut nothing changes.

    Args:
        after: the pruned net; its statistics change, nothing else.
        before: a copy of the whole net, which is used up.
        cut: slices ``before`` like ``after``.
    Raises:
        StageFailed: a statistic came out as NaN or infinity.

    Example: ``correct_bn(pruned, whole.clone().net, lambda net: apply_cuts(net, cuts), batches, 20)``
    """
    stored = {path: _statistics(layer) for path, layer in _named_norms(after)}
    reestimate_bn(before, batches, n_batches, progress=progress)
    cut(before)
    whole = {path: _statistics(layer) for path, layer in _named_norms(before)}
    reestimate_bn(after, batches, n_batches, progress=progress)
    for path, layer in _named_norms(after):
        (mean, variance), (whole_mean, whole_variance) = stored[path], whole[path]
        pruned_mean, pruned_variance = _statistics(layer)
        epsilon = layer._epsilon
        layer._mean.set_value(mean + (pruned_mean - whole_mean))
        layer._variance.set_value(variance * (pruned_variance + epsilon) / (whole_variance + epsilon))


def _named_norms(net: nn.Layer) -> list[tuple[str, nn.Layer]]:
    return [(path, layer) for path, layer in net.named_sublayers() if isinstance(layer, _NORMS)]


def _statistics(layer: nn.Layer) -> tuple[paddle.Tensor, paddle.Tensor]:
    return layer._mean.clone(), layer._variance.clone()

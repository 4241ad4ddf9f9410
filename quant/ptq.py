"""Calibration: the activation clips of a scheme, from the float net's own values on real lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from quant import wrap
from quant.calibrators import Calibrator, build
from quant.scheme import QuantScheme
from slim.errors import StageFailed
from slim.progress import Reporter, Silent

if TYPE_CHECKING:
    from slim.data.dataset import Dataset
    from slim.spec import InputSpec

BATCH = 8


def calibrate(
    net: nn.Layer,
    scheme: QuantScheme,
    batches: Iterable[npt.NDArray[np.float32]],
    *,
    progress: Reporter | None = None,
) -> QuantScheme:
    """Run a float net over batches and choose each quantized layer's activation clip.

    The net runs in eval mode without gradients: weights and BatchNorm statistics stay as they are.
    The values are those of the float net, so the order in which layers are quantized has no effect.

    Args:
        net: the float net the scheme was planned for.
        batches: float32 N x C x H x W, at least one.
        scheme: its ``algo`` names the calibrator.
    Returns:
        The scheme with clips.
    Raises:
        StageFailed: no batch, or a layer's values are NaN, infinite or all zero.
    """
    task = (progress or Silent()).task("calibrate")
    seen: dict[str, Calibrator] = {path: build(scheme.algo, scheme.moving_rate) for path in scheme.paths}
    layers = dict(net.named_sublayers())
    hooks = [layers[path].register_forward_pre_hook(_feeder(one)) for path, one in seen.items()]
    training = net.training
    net.eval()
    count = 0
    try:
        with task, paddle.no_grad():
            for batch in batches:
                net(paddle.to_tensor(batch))
                count += len(batch)
                task.advance(len(batch))
    finally:
        for hook in hooks:
            hook.remove()
        if training:
            net.train()
    if count == 0:
        raise StageFailed("calibration saw no image", remedy="give a calibration data set that is not empty")
    clips = {path: one.clip() for path, one in seen.items()}
    wrap.require_clips(clips, scheme)
    return scheme.with_clips(clips)


def batches(
    dataset: Dataset, spec: InputSpec, images: int, seed: int, *, batch: int = BATCH
) -> Iterator[npt.NDArray[np.float32]]:
    """Calibration batches: ``images`` lines drawn without repetition, in the order of the data set.

    Lines are padded to the model's nominal width. Pages (det) have sizes of their own: one at a time.

    Raises:
        InputError: an image or label of the data set is bad.
    """
    from slim.ocr.preprocess import to_tensor

    chosen = pick(len(dataset), images, seed)
    size = 1 if spec.dynamic_height else batch
    for start in range(0, len(chosen), size):
        yield np.stack([to_tensor(dataset[i].image, spec) for i in chosen[start : start + size]])


def pick(total: int, images: int, seed: int) -> list[int]:
    """Rising numbers of at most ``images`` lines out of ``total``, the same for the same seed.

    >>> pick(3, 10, seed=0)
    [0, 1, 2]
    """
    if images >= total:
        return list(range(total))
    return sorted(int(i) for i in np.random.default_rng(seed).choice(total, images, replace=False))


def _feeder(one: Calibrator):  # type: ignore[no-untyped-def]
    def hook(layer: nn.Layer, inputs: tuple[paddle.Tensor, ...]) -> None:
        one.update(inputs[0].numpy())

    return hook

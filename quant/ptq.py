"""Calibration: the activation clips of a scheme, from the float net's own values on real lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from quant import auto, equalize, reconstruct, wrap
from quant.calibrators import AUTO, Calibrator, build, build_all, update_all
from quant.follow import Behind, behind
from quant.scheme import LayerScheme, QuantScheme
from quant.watch import watch
from slim.errors import StageFailed
from slim.progress import Reporter, Silent

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config.ours import QuantSection
    from slim.data.dataset import Dataset
    from slim.spec import InputSpec

BATCH = 8


def prepare(
    bundle: Bundle,
    scheme: QuantScheme,
    section: QuantSection,
    read: Callable[[], Iterable[npt.NDArray[np.float32]]],
    *,
    progress: Reporter | None = None,
) -> tuple[Bundle, QuantScheme]:
    """Everything calibration does to a float model: equalize, choose clips, round, correct biases.

    Args:
        bundle: the float model; it stays as it is.
        section: which of these are asked for.
        read: gives the calibration batches, from the start each time it is called.
    Returns:
        The float model to be wrapped (``bundle`` itself where no weight changes), and the scheme with
        clips; its ``methods`` say what else was done.
    Raises:
        StageFailed: see `calibrate`. UnsupportedModel: see `quant.reconstruct.reconstruct`.
    """
    adaround = section.rounding == "adaround"
    changes = section.equalize or section.bias_correction or adaround
    work = bundle.clone() if changes else bundle
    following = behind(bundle) if changes or scheme.algo == AUTO else {}
    if section.equalize:
        pairs = equalize.pairs(scheme.paths, following, work.net)
        equalize.equalize(work.net, pairs, following, read())
        scheme = scheme.with_methods(equalized=pairs)
    scheme = calibrate(work.net, scheme, read(), following=following, progress=progress)
    if section.bias_correction or adaround:
        goes = reconstruct.where_bias_goes(work.net, scheme, following) if section.bias_correction else {}
        reconstruct.reconstruct(work.net, scheme, read(), correct=goes, adaround=adaround, progress=progress)
        scheme = scheme.with_methods(**{"bias_correction": goes} if goes else {})
        scheme = scheme.with_methods(**{"rounding": section.rounding} if adaround else {})
    return work, scheme


def calibrate(
    net: nn.Layer,
    scheme: QuantScheme,
    batches: Iterable[npt.NDArray[np.float32]],
    *,
    following: Mapping[str, Behind] | None = None,
    progress: Reporter | None = None,
) -> QuantScheme:
    """Run a float net over batches and choose each quantized layer's activation clip.

    The net runs in eval mode without gradients: weights and BatchNorm statistics stay as they are.
    The values are those of the float net, so the order in which layers are quantized has no effect.

    Args:
        net: the float net the scheme was planned for.
        batches: float32 N x C x H x W, at least one; read once.
        scheme: its ``algo`` names the calibrator, or "auto".
        following: algo auto: what stands behind each layer (`quant.follow.behind`), to weigh channels.
    Returns:
        The scheme with clips; with algo auto its ``methods`` say which calibrator each layer got.
    Raises:
        StageFailed: no batch, or a layer's values are NaN, infinite or all zero.
    """
    seen = {layer.path: _calibrators(scheme, layer) for layer in scheme.layers}
    kept: list[npt.NDArray[np.float32]] = []
    training = net.training
    net.eval()
    try:
        _feed(net, seen, _keeping(batches, kept), progress or Silent())
        clips = {path: {name: one.clip() for name, one in several.items()} for path, several in seen.items()}
        # The first calibrator sees every value, so what no calibrator can use fails here.
        wrap.require_clips({path: next(iter(found.values())) for path, found in clips.items()}, scheme)
        if scheme.algo != AUTO:
            return _require(scheme, {path: found[scheme.algo] for path, found in clips.items()})
        usable = {path: {n: c for n, c in found.items() if c > 0.0} for path, found in clips.items()}
        names = auto.choose(net, scheme, usable, kept, following or {})
    finally:
        if training:
            net.train()
    return _require(scheme, {path: clips[path][name] for path, name in names.items()}).with_methods(
        calibrators=names
    )


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


def _calibrators(scheme: QuantScheme, layer: LayerScheme) -> dict[str, Calibrator]:
    if scheme.algo == AUTO:
        return build_all(scheme.moving_rate, layer.activation_bits)
    return {scheme.algo: build(scheme.algo, scheme.moving_rate, layer.activation_bits)}


def _require(scheme: QuantScheme, clips: Mapping[str, float]) -> QuantScheme:
    wrap.require_clips(clips, scheme)
    return scheme.with_clips(clips)


def _feed(
    net: nn.Layer,
    seen: Mapping[str, Mapping[str, Calibrator]],
    batches: Iterable[npt.NDArray[np.float32]],
    progress: Reporter,
) -> None:
    def feed(several: Mapping[str, Calibrator], layer: nn.Layer, x: paddle.Tensor) -> None:
        update_all(several, x.numpy())

    looks = {path: partial(feed, several) for path, several in seen.items()}
    with progress.task("calibrate") as task:
        count = watch(net, looks, batches, task.advance)
    if count == 0:
        raise StageFailed("calibration saw no image", remedy="give a calibration data set that is not empty")


def _keeping(
    batches: Iterable[npt.NDArray[np.float32]], kept: list[npt.NDArray[np.float32]]
) -> Iterator[npt.NDArray[np.float32]]:
    """The batches; the first ones, up to `quant.auto.PROBE` images, stay in ``kept``."""
    for batch in batches:
        if sum(map(len, kept)) < auto.PROBE:
            kept.append(batch)
        yield batch

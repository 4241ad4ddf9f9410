"""The weights that make a group's channels, as plain arrays: what a criterion looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from paddle import nn

from prune.groups import Group
from slim.errors import UnsupportedModel

Array = npt.NDArray[np.float32]


def filters(net: nn.Layer, group: Group) -> Array:
    """One row per channel: the filters of every layer that makes it, side by side.

    A channel of a residual sum is made by several layers; its row holds all their filters, so that it
    is judged by all of them.

    Returns:
        float32, shape: group size x weights per channel.
    """
    layers = dict(net.named_sublayers())
    rows = [_rows(layers[m.path], m.path, group.size) for m in group.producers]
    if not rows:
        raise UnsupportedModel(f"group {group.name} is made by no layer")
    return np.ascontiguousarray(np.concatenate(rows, axis=1), dtype=np.float32)


def _rows(layer: nn.Layer, path: str, size: int) -> Array:
    """Conv2D holds filters as out x in x kh x kw, Conv2DTranspose as in x out x .., Linear as in x out."""
    if not isinstance(layer, (nn.Conv2D, nn.Conv2DTranspose, nn.Linear)):
        raise UnsupportedModel(f"{path} is a {type(layer).__name__}, whose filters cannot be ranked")
    weight: Array = layer.weight.numpy()
    swapped = weight if isinstance(layer, nn.Conv2D) else np.swapaxes(weight, 0, 1)
    return swapped.reshape(size, -1)


def drop_lowest(scores: npt.NDArray[np.floating], count: int) -> list[int]:
    """Kept channels, rising, after the ``count`` lowest scores are dropped; at least one stays.

    >>> drop_lowest(np.array([3.0, 1.0, 2.0]), 1)
    [0, 2]
    """
    count = min(max(count, 0), len(scores) - 1)
    return sorted(int(i) for i in np.argsort(scores, kind="stable")[count:])


def kept_count(size: int, ratio: float, align: int = 1) -> int:
    """Channels that stay when ``ratio`` of ``size`` goes, rounded up to a multiple of ``align``.

    >>> kept_count(24, 0.25), kept_count(24, 0.25, align=8), kept_count(20, 0.1, align=8)
    (18, 24, 20)
    """
    kept = max(1, size - int(round(size * ratio)))
    return min(size, -(-kept // align) * align)


def check_kept(kept: Sequence[int], group: Group) -> None:
    """Raise UnsupportedModel unless ``kept`` is a rising, non-empty choice of the group's channels."""
    fits = kept and list(kept) == sorted(set(kept)) and kept[0] >= 0 and kept[-1] < group.size
    if not fits:
        raise UnsupportedModel(f"{list(kept)} are not channels of {group.name}, which has {group.size}")

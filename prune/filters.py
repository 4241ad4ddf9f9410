"""The weights that make, scale and read a group's channels, as plain arrays: what a criterion looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from paddle import nn

from prune.criteria import GroupData
from prune.gradients import Gradients
from prune.groups import Group
from prune.readers import Reader, directions, readers
from slim.errors import UnsupportedModel

Array = npt.NDArray[np.float32]


def group_data(net: nn.Layer, group: Group, gradients: Gradients | None = None) -> GroupData:
    """Everything a criterion may look at.

    Args:
        gradients: of `prune.gradients.gradients` on the same net, for criteria that need them.
    """
    layers = dict(net.named_sublayers())
    found = [r for m in group.consumers for r in readers(layers[m.path], m, group.size)]
    reading = np.concatenate([r.rows(r.tensor.numpy()) for r in found], axis=1)
    slopes = None if gradients is None else _slopes(found, gradients)
    return GroupData(filters(net, group), _norms(layers, group), reading, slopes)


def has_norm(net: nn.Layer, group: Group) -> bool:
    """Whether a BatchNorm with a scale follows the group's channels."""
    return _norms(dict(net.named_sublayers()), group) is not None


def _norms(layers: Mapping[str, nn.Layer], group: Group) -> Array | None:
    columns = []
    for m in group.members:
        layer = layers[m.path]
        if isinstance(layer, nn.BatchNorm2D) and layer.weight is not None:
            places = m.offset + np.arange(group.size)[:, None] * m.repeat + np.arange(m.repeat)
            columns.append(layer.weight.numpy()[places])
    return np.concatenate(columns, axis=1) if columns else None


def _slopes(found: Sequence[Reader], gradients: Gradients) -> Array:
    """Batches x channels x weights, in the order of the reading weights."""
    count = len(next(iter(gradients.values())))
    rows = []
    for number in range(count):
        # A layer that the loss does not reach has no gradient: silencing it changes nothing.
        values = [
            gradients[r.tensor.name][number] if r.tensor.name in gradients else np.zeros(r.tensor.shape, "f4")
            for r in found
        ]
        rows.append(np.concatenate([r.rows(v) for r, v in zip(found, values, strict=True)], axis=1))
    return np.stack(rows)


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
    if isinstance(layer, nn.LSTM):
        return _unit_rows(layer, size)
    if not isinstance(layer, (nn.Conv2D, nn.Conv2DTranspose, nn.Linear)):
        raise UnsupportedModel(f"{path} is a {type(layer).__name__}, whose filters cannot be ranked")
    weight: Array = layer.weight.numpy()
    swapped = weight if isinstance(layer, nn.Conv2D) else np.swapaxes(weight, 0, 1)
    return swapped.reshape(size, -1)


def _unit_rows(layer: nn.LSTM, size: int) -> Array:
    """What makes hidden unit k: row k of its four gates, in every layer and direction.

    paddle holds ``weight_ih`` as 4 hidden x in and ``weight_hh`` as 4 hidden x hidden, gate by gate.
    """
    names = [
        f"{part}_l{number}{tail}"
        for number in range(layer.num_layers)
        for tail in directions(layer)
        for part in ("weight_ih", "weight_hh")
    ]
    gates = [getattr(layer, name).numpy().reshape(4, size, -1) for name in names]
    return np.concatenate([np.swapaxes(g, 0, 1).reshape(size, -1) for g in gates], axis=1)


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

"""Cutting channels out of a built net: how a pruned model is reopened.

A cut maps a layer's path to the indices that stay: ``{"backbone.conv1.conv": {"out": [0, 2, 3]}}``.
It is data (JSON) and names layers by their attribute path, never by a running number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import paddle
from paddle import nn

from slim.errors import ArtifactError

Cuts = Mapping[str, Mapping[str, Sequence[int]]]


def apply_cuts(net: nn.Layer, cuts: Cuts) -> None:
    """Slice the layers of ``net`` in place.

    Args:
        cuts: layer path -> {"out": kept output channels, "in": kept input channels}; either may be
            absent. Known layers: Conv2D (also depthwise: "out" only), Conv2DTranspose, BatchNorm2D
            ("out"), Linear, LSTM ("in": kept input features, "hidden": kept units of each of its layers
            and directions).
    Raises:
        ArtifactError: a path that is not in the net, an index out of range, a layer that cannot be cut.

    >>> net = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4))
    >>> apply_cuts(net, {"0": {"out": [0, 3]}, "1": {"out": [0, 3]}})
    >>> net[0].weight.shape
    [2, 3, 1, 1]
    """
    layers = dict(net.named_sublayers())
    for path, cut in cuts.items():
        if path not in layers:
            raise ArtifactError(f"the plan cuts layer {path!r}, which the net does not have")
        if not isinstance(cut, Mapping) or not set(cut) <= {"out", "in", "hidden"}:
            raise ArtifactError(f"the plan's cut of {path} is {cut!r:.80}, must hold 'out', 'in' or 'hidden'")
        _cut_layer(net, path, layers[path], cut)


def _cut_layer(net: nn.Layer, path: str, layer: nn.Layer, cut: Mapping[str, Sequence[int]]) -> None:
    if isinstance(layer, nn.LSTM):
        _refuse(path, cut, "out", layer)
        into = _kept(path, cut, "in", layer.input_size)
        _replace(net, path, _cut_lstm(layer, into, _kept(path, cut, "hidden", layer.hidden_size)))
        return
    _refuse(path, cut, "hidden", layer)
    if isinstance(layer, nn.Conv2D):
        _cut_conv(path, layer, cut)
    elif isinstance(layer, nn.Conv2DTranspose):
        _cut_transposed(path, layer, cut)
    elif isinstance(layer, nn.BatchNorm2D):
        _cut_norm(path, layer, cut)
    elif isinstance(layer, nn.Linear):
        _cut_linear(path, layer, cut)
    else:
        raise ArtifactError(
            f"the plan cuts layer {path!r} of type {type(layer).__name__}, which cannot be cut"
        )


def _kept(path: str, cut: Mapping[str, Sequence[int]], side: str, size: int) -> list[int] | None:
    if side not in cut:
        return None
    given = cut[side]
    if not isinstance(given, Sequence) or not all(_is_whole(i) for i in given):
        raise ArtifactError(f"the plan's {side!r} indices of {path} are not a list of whole numbers")
    kept = [int(i) for i in given]
    if not kept or len(set(kept)) != len(kept) or min(kept) < 0 or max(kept) >= size:
        raise ArtifactError(f"the plan's {side!r} indices of {path} do not fit its {size} channels")
    return kept


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _refuse(path: str, cut: Mapping[str, Sequence[int]], side: str, layer: nn.Layer) -> None:
    if side in cut:
        raise ArtifactError(
            f"the plan cuts side {side!r} of {path}, which a {type(layer).__name__} does not have"
        )


def _take(layer: nn.Layer, name: str, axis: int, kept: list[int] | None) -> None:
    tensor = getattr(layer, name, None)
    if tensor is None or kept is None:
        return
    value = np.take(tensor.numpy(), kept, axis=axis)
    if name in layer._buffers:
        layer._buffers[name] = paddle.to_tensor(value)
        return
    fresh = layer.create_parameter(
        shape=list(value.shape),
        dtype=str(value.dtype),
        default_initializer=nn.initializer.Assign(value),
    )
    fresh.stop_gradient = tensor.stop_gradient
    fresh.optimize_attr = tensor.optimize_attr
    fresh.regularizer = tensor.regularizer
    layer.add_parameter(name, fresh)


def _cut_conv(path: str, layer: nn.Conv2D, cut: Mapping[str, Sequence[int]]) -> None:
    out = _kept(path, cut, "out", layer._out_channels)
    depthwise = layer._groups > 1
    if depthwise and (layer._groups != layer._in_channels or layer._groups != layer._out_channels):
        raise ArtifactError(f"{path} is a grouped convolution ({layer._groups} groups), which cannot be cut")
    _take(layer, "weight", 0, out)
    _take(layer, "bias", 0, out)
    if out is not None:
        layer._out_channels = len(out)
    if depthwise:
        _refuse(path, cut, "in", layer)
        if out is not None:
            layer._in_channels = layer._groups = len(out)
        return
    into = _kept(path, cut, "in", layer._in_channels)
    _take(layer, "weight", 1, into)
    if into is not None:
        layer._in_channels = len(into)


def _cut_transposed(path: str, layer: nn.Conv2DTranspose, cut: Mapping[str, Sequence[int]]) -> None:
    if layer._groups != 1:
        raise ArtifactError(f"{path} is a grouped convolution ({layer._groups} groups), which cannot be cut")
    out = _kept(path, cut, "out", layer._out_channels)
    into = _kept(path, cut, "in", layer._in_channels)
    _take(layer, "weight", 1, out)
    _take(layer, "bias", 0, out)
    _take(layer, "weight", 0, into)
    layer._out_channels = layer._out_channels if out is None else len(out)
    layer._in_channels = layer._in_channels if into is None else len(into)


def _cut_norm(path: str, layer: nn.BatchNorm2D, cut: Mapping[str, Sequence[int]]) -> None:
    _refuse(path, cut, "in", layer)
    out = _kept(path, cut, "out", layer._num_features)
    for name in ("weight", "bias", "_mean", "_variance"):
        _take(layer, name, 0, out)
    if out is not None:
        layer._num_features = len(out)


def _cut_linear(path: str, layer: nn.Linear, cut: Mapping[str, Sequence[int]]) -> None:
    rows, columns = layer.weight.shape
    into, out = _kept(path, cut, "in", rows), _kept(path, cut, "out", columns)
    _take(layer, "weight", 0, into)
    _take(layer, "weight", 1, out)
    _take(layer, "bias", 0, out)


def _cut_lstm(layer: nn.LSTM, into: list[int] | None, hidden: list[int] | None) -> nn.LSTM:
    """A fresh LSTM over the kept input features and units; only layer 0 reads the features."""
    into = list(range(layer.input_size)) if into is None else into
    hidden = list(range(layer.hidden_size)) if hidden is None else hidden
    fresh = nn.LSTM(
        len(into),
        len(hidden),
        num_layers=layer.num_layers,
        direction="bidirectional" if layer.num_directions == 2 else "forward",
        time_major=layer.time_major,
        dropout=layer.dropout,
    )
    # Rows: four gates of hidden units each. Columns of a layer above: the units of each direction.
    rows = [gate * layer.hidden_size + k for gate in range(4) for k in hidden]
    below = [d * layer.hidden_size + k for d in range(layer.num_directions) for k in hidden]
    state: dict[str, Any] = {}
    for name, tensor in layer.state_dict().items():
        value = tensor.numpy()[rows]
        if "weight_hh" in name:
            value = value[:, hidden]
        elif "weight_ih" in name:
            first = name.startswith(("weight_ih_l0", "0."))
            value = value[:, into if first else below]
        state[name] = value
    fresh.set_state_dict(state)
    fresh.training = layer.training
    return fresh


def _replace(net: nn.Layer, path: str, layer: nn.Layer) -> None:
    parent_path, _, name = path.rpartition(".")
    parent = dict(net.named_sublayers(include_self=True))[parent_path] if parent_path else net
    setattr(parent, name, layer)

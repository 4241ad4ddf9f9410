"""Putting PaddleSlim's quantized layers into a net, setting and reading their scales, finishing.

State names stay structural: a wrapped layer keeps ``<path>.weight`` and ``<path>.bias`` and gains
``<path>._fake_quant_input._scale`` (and ``_state``, ``_accum``) and ``<path>._fake_quant_weight._scale``,
so the float model's names are a subset of the quantized model's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from quant import lsq, lstm, pact
from quant.paddle_qat import INPUT, WEIGHT, is_wrapper, output_observers, qat, quietly
from quant.scheme import QuantScheme
from slim.errors import ArtifactError, StageFailed

if TYPE_CHECKING:
    from slim.bundle import Bundle

# What PaddleSlim creates a blank input quantizer with: a layer still at this value was never fed.
BLANK_CLIP = 0.001


def prepare(net: nn.Layer, scheme: QuantScheme) -> nn.Layer:
    """Wrap the layers a scheme names, in place, and check that exactly those are wrapped.

    PaddleSlim also puts an observer behind every layer, which records output ranges. They are taken
    off again: the nb files with and without them are equal but for attributes that no runtime reads,
    they break the names of the LSTM's tensors, and ``jit.save`` fails on one behind a bare conv.

    Raises:
        ArtifactError: the scheme names a layer the net does not have, or one of another type.
        StageFailed: PaddleSlim wrapped another set of layers than the scheme says.
    """
    layers = dict(net.named_sublayers())
    for layer in scheme.layers:
        found = type(layers[layer.path]).__name__ if layer.path in layers else "not in the net"
        if found != layer.type:
            raise ArtifactError(
                f"the scheme quantizes {layer.path!r} ({layer.type}), which is {found}",
                remedy="quantize this model again",
            )
    for one in scheme.lstms:
        if not isinstance(layers.get(one.path), nn.LSTM):
            raise ArtifactError(
                f"the scheme has an LSTM at {one.path!r}, the net has none",
                remedy="quantize this model again",
            )
        lstm.attach(layers[one.path], one)
    wanted = set(scheme.paths)
    skipped = [layer for path, layer in layers.items() if path not in wanted]
    try:
        for layer in skipped:
            layer.skip_quant = True
        with quietly():
            qat(scheme).quantize(net)
    finally:
        for layer in skipped:
            del layer.skip_quant
    for path, observer in output_observers(net).items():
        _replace(net, path, observer._layer)
    _set_bits(_checked(net, scheme), scheme)
    refresh_weight_scales(net)
    return net


def restore(net: nn.Layer, scheme: Mapping[str, Any]) -> nn.Layer:
    """Wrap a float net as a saved scheme says: what ``slim.bundle`` needs to reopen a quantized model."""
    return prepare(net, QuantScheme.from_json(scheme))


def wrappers(net: nn.Layer) -> dict[str, nn.Layer]:
    """Path -> quantized layer, in the net's order."""
    return {path: layer for path, layer in net.named_sublayers() if is_wrapper(layer)}


def install_clips(net: nn.Layer, scheme: QuantScheme) -> None:
    """Write the scheme's activation clips into the wrapped net.

    The moving average is set to its steady state (state = 1 / (1 - rate), accum = clip * state), so
    that training goes on from the calibrated clip instead of from PaddleSlim's blank 0.001.

    Raises:
        StageFailed: a layer has no usable clip.
    """
    require_clips(scheme.clips, scheme)
    state = 1.0 / (1.0 - scheme.moving_rate)
    for path, wrapper in _checked(net, scheme).items():
        quantizer, clip = getattr(wrapper, INPUT), scheme.clips[path]
        for name, value in (("_scale", clip), ("_state", state), ("_accum", clip * state)):
            getattr(quantizer, name).set_value(np.asarray([value], np.float32))


def read_clips(net: nn.Layer) -> dict[str, float]:
    """Path -> activation clip as it stands in the wrapped net."""
    return {path: float(getattr(layer, INPUT)._scale.numpy()[0]) for path, layer in wrappers(net).items()}


def require_clips(clips: Mapping[str, float], scheme: QuantScheme) -> None:
    """Raise StageFailed, naming the layers, unless every quantized layer has a calibrated clip."""
    bad = [
        f"{path} ({clips.get(path, math.nan):g})"
        for path in scheme.paths
        if not math.isfinite(clips.get(path, math.nan))
        or clips[path] <= 0.0
        or math.isclose(clips[path], BLANK_CLIP, rel_tol=1e-6)
    ]
    if bad:
        raise StageFailed(
            f"{len(bad)} of {len(scheme.paths)} quantized layers have no calibrated input range: "
            + ", ".join(bad[:5]),
            remedy="calibrate first, with images the model was made for, or exclude these layers",
        )


def quantized_weight(wrapper: nn.Layer) -> npt.NDArray[np.float32]:
    """The weight a wrapped layer computes with, rounded to its grid; shape of the weight."""
    with paddle.no_grad():
        return np.asarray(getattr(wrapper, WEIGHT)(wrapper.weight).numpy(), np.float32)


def refresh_weight_scales(net: nn.Layer) -> None:
    """Recompute each ``_fake_quant_weight._scale`` from the weights (PaddleSlim does so while running)."""
    for wrapper in wrappers(net).values():
        quantized_weight(wrapper)


def finalize(net: nn.Layer, scheme: QuantScheme) -> QuantScheme:
    """End of preparation, calibration or training: PACT and LSQ off, eval mode, every scale checked.

    Returns:
        The scheme with the clips that stand in the net.
    Raises:
        StageFailed: the net is not wrapped as the scheme says, or a clip is blank, NaN or not positive.
    """
    _checked(net, scheme)
    pact.strip(net)
    lsq.strip(net)
    clips = read_clips(net)
    require_clips(clips, scheme)
    refresh_weight_scales(net)
    _fix_scales(net)
    net.eval()
    return scheme.with_clips(clips)


def float_view(bundle: Bundle) -> Bundle:
    """The same weights in a net without quantized layers (a new bundle; a float bundle is cloned)."""
    from dataclasses import replace

    view = replace(bundle, scheme=None).clone()
    missing = sorted(set(view.state()) - set(bundle.state()))
    if missing:
        raise StageFailed(f"the quantized net has lost {len(missing)} tensors: {', '.join(missing[:5])}")
    return view


def _checked(net: nn.Layer, scheme: QuantScheme) -> dict[str, nn.Layer]:
    found = wrappers(net)
    missing = [path for path in scheme.paths if path not in found]
    extra = sorted(set(found) - set(scheme.paths))
    if missing or extra:
        named = ", ".join((missing + extra)[:5])
        raise StageFailed(
            f"{len(missing)} layers of the scheme are not quantized, {len(extra)} others are: {named}",
            remedy="prepare the net with this scheme first",
        )
    return found


def _fix_scales(net: nn.Layer) -> None:
    """PaddleSlim's ops switch ``stop_gradient`` of the scales off; a next training would train them."""
    for wrapper in wrappers(net).values():
        for tensor in (*getattr(wrapper, INPUT).parameters(), *getattr(wrapper, WEIGHT).parameters()):
            tensor.stop_gradient = True


def _set_bits(found: Mapping[str, nn.Layer], scheme: QuantScheme) -> None:
    for layer in scheme.layers:
        getattr(found[layer.path], WEIGHT)._quant_bits = layer.weight_bits
        getattr(found[layer.path], INPUT)._quant_bits = layer.activation_bits


def _replace(net: nn.Layer, path: str, layer: nn.Layer) -> None:
    parent_path, _, name = path.rpartition(".")
    parent = net
    for step in parent_path.split(".") if parent_path else ():
        parent = parent._sub_layers[step]
    parent.add_sublayer(name, layer)

"""Layers of a quantized bundle back to float, and nets that simulate only one half of quantization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import paddle
from paddle import nn

from quant import wrap
from quant.paddle_qat import INPUT, WEIGHT
from quant.scheme import FloatLayer, QuantScheme
from slim.errors import InputError

if TYPE_CHECKING:
    from slim.bundle import Bundle

HALVES = ("weights", "activations")


def with_float_layers(bundle: Bundle, reasons: Mapping[str, str]) -> Bundle:
    """A new bundle in which these layers are float: same weights, same clips elsewhere.

    Args:
        bundle: quantized and finalized; it is not changed.
        reasons: path -> why the layer is float, kept in the scheme.
    Raises:
        InputError: the bundle is a float model, or a path is not one of its quantized layers.
    """
    if bundle.scheme is None:
        raise InputError("is a float model", where=bundle.source, remedy="quantize it first")
    scheme = QuantScheme.from_json(bundle.scheme)
    unknown = sorted(set(reasons) - set(scheme.paths))
    if unknown:
        raise InputError(f"{unknown[0]!r} is not a quantized layer of the model", where=bundle.source)
    gone = [FloatLayer(la.path, la.type, reasons[la.path]) for la in scheme.layers if la.path in reasons]
    kept = tuple(la for la in scheme.layers if la.path not in reasons)
    scheme = replace(scheme, layers=kept, kept_float=(*scheme.kept_float, *gone))
    work = wrap.float_view(bundle)
    wrap.prepare(work.net, scheme)
    wrap.install_clips(work.net, scheme)
    return replace(work, scheme=wrap.finalize(work.net, scheme).to_json())


@contextmanager
def only(bundle: Bundle, half: str) -> Iterator[Bundle]:
    """The bundle with only its "weights" or only its "activations" on their grid, inside the block.

    No file like this exists: it tells apart in the net's simulation which half of quantization costs more.
    """
    if half not in HALVES:
        raise ValueError(f"half is {half!r}, must be one of {', '.join(HALVES)}")
    silenced = INPUT if half == "weights" else WEIGHT
    before = {path: getattr(layer, silenced) for path, layer in wrap.wrappers(bundle.net).items()}
    for layer in wrap.wrappers(bundle.net).values():
        setattr(layer, silenced, _Identity())
    try:
        yield bundle
    finally:
        for path, layer in wrap.wrappers(bundle.net).items():
            setattr(layer, silenced, before[path])


class _Identity(nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x

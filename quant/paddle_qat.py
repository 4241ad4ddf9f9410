"""PaddleSlim's dygraph QAT, imported late and quietly: the only file that knows its classes.

The wrappers simulate int8 in float: each reads float values, rounds input and weights to the grid of
its scales and computes in float. ``onnx_format=False`` keeps the old program format: it is what
Paddle-Lite's ``opt`` reads, and it rounds where the device rounds (the ONNX format adds output
quantizers that neither training nor the device applies).
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from paddle import nn

from quant.scheme import QuantScheme
from slim.errors import ToolMissing

# Names of PaddleSlim's sublayers inside a wrapper; part of the saved state's names.
INPUT = "_fake_quant_input"
WEIGHT = "_fake_quant_weight"
PREPROCESS = "_act_preprocess"


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """PaddleSlim and paddle log and warn at import and on every save; none of it concerns the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def qat(scheme: QuantScheme) -> Any:
    """A ``paddleslim.QAT`` set up as the scheme says (bits of single layers are set after wrapping)."""
    with quietly():
        try:
            from paddleslim import QAT
        except ImportError as error:
            raise ToolMissing(f"paddleslim does not import ({error})", remedy="run make install") from error
        return QAT(
            {
                "weight_quantize_type": scheme.layers[0].weight_type,
                "activation_quantize_type": scheme.layers[0].activation_type,
                "weight_bits": scheme.layers[0].weight_bits,
                "activation_bits": scheme.layers[0].activation_bits,
                "moving_rate": scheme.moving_rate,
                "quantizable_layer_type": sorted({layer.type for layer in scheme.layers}),
                "onnx_format": False,
            }
        )


def is_wrapper(layer: nn.Layer) -> bool:
    """Whether a layer is one of PaddleSlim's quantized layers."""
    from paddle.nn.quant import quant_layers

    return isinstance(layer, (quant_layers.QuantizedConv2D, quant_layers.QuantizedLinear))


def output_observers(net: nn.Layer) -> dict[str, nn.Layer]:
    """Path -> layer that only records the range of another layer's output."""
    from paddle.nn.quant import quant_layers

    kinds = (quant_layers.MAOutputScaleLayer, quant_layers.FakeQuantMAOutputScaleLayer)
    return {path: layer for path, layer in net.named_sublayers() if isinstance(layer, kinds)}

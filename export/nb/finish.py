"""From sums to an op's output: scale, bias, activation, rounding.

Sources: ``lite/kernels/arm/conv_gemmlike.cc`` (PrepareForRun: scales and bias), ``conv_depthwise.cc``,
``fc_compute.cc``, ``lite/backends/arm/math/gemm_prepacked_int8.cc`` (fused multiply-add, rounding).
"""

from __future__ import annotations

import numpy as np

from export.nb import device_math
from export.nb.activations import Activation, relu

Array = np.ndarray


class Finish:
    """From sums to the op's output: scale, bias, activation, rounding.

    fp32_out: act(acc * (w_scale*in_scale) + bias); int8_out: round(act(acc * (w_scale*in_scale/out_scale) +
    bias/out_scale)). The product and the sum are one fused multiply-add on the device: float64 here, rounded
    once.

    Args:
        scale: w_scale*in_scale per channel; None for float kernels.
        bias: one float per channel, or None.
        out_scale: set where the output is int8.
        trailing: how many axes follow the channel axis in the sums.
    """

    def __init__(
        self, scale: Array | None, bias: Array | None, activation: Activation | None,
        out_scale: np.float32 | None, trailing: int,
    ) -> None:  # fmt: skip
        self.activation, self.rounds = activation, out_scale is not None
        if out_scale is not None:
            bias = None if bias is None else bias / out_scale
            scale = None if scale is None else scale / out_scale
        shape = (-1,) + (1,) * trailing
        self.scale = None if scale is None else scale.reshape(shape)
        self.bias = None if bias is None else bias.reshape(shape)
        self.wide: tuple[Array, Array] | None = None
        if self.scale is not None and self.bias is not None:
            self.wide = self.scale.astype(np.float64), self.bias.astype(np.float64)

    def __call__(self, acc: Array, out: Array) -> None:
        """Write the output for the sums ``acc`` (which may be overwritten) into ``out`` of the same shape."""
        self._affine(acc, out)
        y = out if self.activation is None else self.activation(out)
        if self.rounds:
            device_math.to_int8(y, out=out, positive=self.activation is relu)
        elif y is not out:
            out[...] = y

    def _affine(self, acc: Array, out: Array) -> None:
        if self.scale is None:
            np.copyto(out, acc) if self.bias is None else np.add(acc, self.bias, out=out)
        elif self.wide is None:
            # A product alone is rounded once in float32 too.
            np.multiply(acc, self.scale, out=out, casting="same_kind")
        else:
            wide = np.multiply(acc, self.wide[0], dtype=np.float64)
            wide += self.wide[1]
            np.copyto(out, wide, casting="same_kind")

"""The one description of how a model is quantized: data, read by training, calibration, export and check."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from quant.calibrators import MOVING_AVERAGE
from slim.errors import ArtifactError

FORMAT = 2
# 1: without lstms (their simulation was float), and with pact: true or false in place of clip.
READABLE = (1, FORMAT)
CLIPS = ("pact", "lsq", "none")
MODES = ("qat", "ptq")
WEIGHT_TYPE = "channel_wise_abs_max"
ACTIVATION_TYPE = "moving_average_abs_max"


@dataclass(frozen=True)
class LayerScheme:
    """One layer computed in integers.

    Attributes:
        path: attribute path in the float net, e.g. "backbone.conv1.conv".
        type: "Conv2D" or "Linear".
        weight_bits: bits of the weights, symmetric: 8 bits are the 255 steps -127..127.
        activation_bits: bits of the layer's input.
        weight_type: one scale for each output channel, max |w| of the channel.
        activation_type: one scale for the tensor, fixed after calibration or training.
        activation_clip: |input| that becomes the largest step; None until calibrated.
    """

    path: str
    type: str
    weight_bits: int = 8
    activation_bits: int = 8
    weight_type: str = WEIGHT_TYPE
    activation_type: str = ACTIVATION_TYPE
    activation_clip: float | None = None


@dataclass(frozen=True)
class FloatLayer:
    """One layer with weights that stays float, and why."""

    path: str
    type: str
    reason: str


@dataclass(frozen=True)
class LstmScheme:
    """One LSTM, whose arithmetic is float.

    Attributes:
        path: attribute path in the float net.
        weight_bits: 8 where its matrices are stored as int8, one scale each; None: as floats.
        float_matrices: names of matrices that stay float all the same, since int8 would cost too much.
    """

    path: str
    weight_bits: int | None = 8
    float_matrices: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuantScheme:
    """How a model is quantized.

    Attributes:
        mode: "qat" or "ptq".
        layers: layers in integers, in the net's order.
        kept_float: every other layer with weights, each with the reason.
        algo: name of the calibrator that chose the clips.
        clip: what QAT learns of each activation's range: "pact" a bound in front of the quantizer, "lsq" the
            step itself, "none" nothing: the moving average alone.
        lstms: how each LSTM's matrices are stored.
        moving_rate: memory of the moving averages.
        metrics: points of the task metric: "float", "calibrated", "final", as far as measured; "trained"
            where training was worse than "calibrated", whose weights were kept.
        methods: what calibration did beyond clips, by name: "calibrators" (algo auto: path -> the one
            chosen), "equalized" (path -> path of the layer it was equalized with), "bias_correction"
            (path -> where the correction went), "rounding" (how weights were rounded; absent: nearest).
    """

    mode: str
    layers: tuple[LayerScheme, ...]
    kept_float: tuple[FloatLayer, ...] = ()
    algo: str = MOVING_AVERAGE
    clip: str = "none"
    moving_rate: float = 0.9
    metrics: Mapping[str, float] = field(default_factory=dict)
    lstms: tuple[LstmScheme, ...] = ()
    methods: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the quantized layers."""
        return tuple(layer.path for layer in self.layers)

    @property
    def clips(self) -> dict[str, float]:
        """Path -> activation clip, for the layers that have one."""
        return {la.path: la.activation_clip for la in self.layers if la.activation_clip is not None}

    def with_clips(self, clips: Mapping[str, float]) -> QuantScheme:
        """The same scheme with these activation clips (every layer must be named)."""
        layers = tuple(replace(la, activation_clip=float(clips[la.path])) for la in self.layers)
        return replace(self, layers=layers)

    def with_metrics(self, **metrics: float) -> QuantScheme:
        """The same scheme with further measured metrics."""
        return replace(self, metrics={**self.metrics, **metrics})

    def with_methods(self, **methods: Any) -> QuantScheme:
        """The same scheme with a record of what else was done."""
        return replace(self, methods={**self.methods, **methods})

    def to_json(self) -> dict[str, Any]:
        """Plain data for scheme.json."""
        return {
            "format": FORMAT,
            "mode": self.mode,
            "algo": self.algo,
            "clip": self.clip,
            "moving_rate": self.moving_rate,
            "metrics": dict(self.metrics),
            "methods": dict(self.methods),
            "layers": [asdict(layer) for layer in self.layers],
            "lstms": [{**asdict(one), "float_matrices": list(one.float_matrices)} for one in self.lstms],
            "kept_float": [asdict(layer) for layer in self.kept_float],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: str = "scheme.json") -> QuantScheme:
        """Rebuild from ``to_json``; raises ArtifactError naming what is missing or wrong.

        >>> plain = QuantScheme("ptq", (LayerScheme("head.fc", "Linear"),))
        >>> QuantScheme.from_json(plain.to_json()) == plain
        True
        """
        try:
            if data["format"] not in READABLE:
                raise ArtifactError(
                    f"scheme format is {data['format']!r}, this version reads 1 and {FORMAT}", where=where
                )
            data = _from_format_1(data) if data["format"] == 1 else data
            scheme = cls(
                mode=str(data["mode"]),
                layers=tuple(LayerScheme(**layer) for layer in data["layers"]),
                kept_float=tuple(FloatLayer(**layer) for layer in data["kept_float"]),
                algo=str(data["algo"]),
                clip=str(data["clip"]),
                moving_rate=float(data["moving_rate"]),
                metrics={str(k): float(v) for k, v in data["metrics"].items()},
                lstms=tuple(_lstm(**one) for one in data["lstms"]),
                methods=dict(data["methods"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"scheme is incomplete or damaged ({error})", where=where, remedy="quantize the model again"
            ) from error
        _validate(scheme, where)
        return scheme


def _from_format_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Written before LSTM matrices, LSQ and PTQ's further methods were part of a scheme."""
    return {**data, "clip": "pact" if data["pact"] else "none", "lstms": [], "methods": {}}


def _lstm(path: str, weight_bits: int | None, float_matrices: list[str]) -> LstmScheme:
    return LstmScheme(path, weight_bits, tuple(float_matrices))


def _validate(scheme: QuantScheme, where: str) -> None:
    if scheme.mode not in MODES:
        raise ArtifactError(f"mode is {scheme.mode!r}, must be one of {', '.join(MODES)}", where=where)
    if scheme.clip not in CLIPS:
        raise ArtifactError(f"clip is {scheme.clip!r}, must be one of {', '.join(CLIPS)}", where=where)
    for one in scheme.lstms:
        if one.weight_bits not in (8, None):
            raise ArtifactError(
                f"weight_bits of {one.path} is {one.weight_bits!r}, must be 8 or null", where=where
            )
    if not 0.0 < scheme.moving_rate < 1.0:
        raise ArtifactError(f"moving_rate is {scheme.moving_rate:g}, must be between 0 and 1", where=where)
    paths = [la.path for la in scheme.layers] + [la.path for la in scheme.kept_float]
    if len(set(paths)) != len(paths):
        raise ArtifactError("a layer is named twice", where=where, remedy="quantize the model again")
    for layer in scheme.layers:
        _validate_layer(layer, where)


def _validate_layer(layer: LayerScheme, where: str) -> None:
    for name, bits in (("weight_bits", layer.weight_bits), ("activation_bits", layer.activation_bits)):
        if type(bits) is not int or not 2 <= bits <= 8:
            raise ArtifactError(f"{name} of {layer.path} is {bits!r}, must be 2 to 8", where=where)
    if (layer.weight_type, layer.activation_type) != (WEIGHT_TYPE, ACTIVATION_TYPE):
        raise ArtifactError(
            f"{layer.path} is quantized as {layer.weight_type}, {layer.activation_type}; "
            f"this version knows {WEIGHT_TYPE}, {ACTIVATION_TYPE}",
            where=where,
        )
    clip = layer.activation_clip
    if clip is not None and not (isinstance(clip, (int, float)) and math.isfinite(clip) and clip > 0):
        raise ArtifactError(f"activation_clip of {layer.path} is {clip!r}, must be above 0", where=where)

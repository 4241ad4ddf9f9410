"""The scheme as data: round trip, and damaged files refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from quant.scheme import FloatLayer, LayerScheme, QuantScheme
from slim.errors import ArtifactError


@pytest.fixture
def scheme() -> QuantScheme:
    layers = (
        LayerScheme("a.conv", "Conv2D", activation_clip=2.5),
        LayerScheme("b.fc", "Linear", weight_bits=7),
    )
    return QuantScheme(
        "qat", layers, (FloatLayer("c", "LSTM", "no kernel"),), clip="pact", metrics={"float": 94.5}
    )


def test_round_trip_through_json_text(scheme: QuantScheme) -> None:
    assert QuantScheme.from_json(json.loads(json.dumps(scheme.to_json()))) == scheme


def test_format_1_is_read(scheme: QuantScheme) -> None:
    old = scheme.to_json() | {"format": 1, "pact": True}
    for key in ("clip", "lstms", "methods"):
        del old[key]
    assert QuantScheme.from_json(json.loads(json.dumps(old))) == scheme
    assert QuantScheme.from_json(old | {"pact": False}).clip == "none"


def test_with_clips_names_every_layer(scheme: QuantScheme) -> None:
    done = scheme.with_clips({"a.conv": 1.0, "b.fc": 3})
    assert done.clips == {"a.conv": 1.0, "b.fc": 3.0}
    assert scheme.clips == {"a.conv": 2.5}


def test_metrics_add_up(scheme: QuantScheme) -> None:
    assert scheme.with_metrics(final=93.0).metrics == {"float": 94.5, "final": 93.0}


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.__setitem__(key, value)


def _set_layer(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["layers"][0].__setitem__(key, value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set("format", 9), "format is 9, this version reads 1 and 2"),
        (_set("mode", "int4"), "mode is 'int4'"),
        (_set("moving_rate", 1.0), "moving_rate is 1, must be between 0 and 1"),
        (_set("layers", "x"), "incomplete or damaged"),
        (_set("metrics", None), "incomplete or damaged"),
        (lambda data: data.pop("kept_float"), "incomplete or damaged"),
        (_set_layer("weight_bits", 16), "weight_bits of a.conv is 16, must be 2 to 8"),
        (_set_layer("weight_bits", True), "weight_bits of a.conv is True"),
        (_set_layer("activation_clip", float("nan")), "activation_clip of a.conv is nan"),
        (_set_layer("activation_clip", -1), "activation_clip of a.conv is -1"),
        (_set_layer("weight_type", "abs_max"), "quantized as abs_max"),
        (_set_layer("surprise", 1), "incomplete or damaged"),
        (_set_layer("path", "b.fc"), "named twice"),
    ],
)
def test_damage_is_named(
    scheme: QuantScheme, damage: Callable[[dict[str, Any]], object], message: str
) -> None:
    data = json.loads(json.dumps(scheme.to_json()))
    damage(data)
    with pytest.raises(ArtifactError, match=message):
        QuantScheme.from_json(data)

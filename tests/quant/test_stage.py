"""The stage from plan to checks, and that each check can fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from paddle import nn

from quant import stage, wrap
from quant.scheme import QuantScheme
from slim.bundle import Bundle
from slim.config.ours import QuantSection
from slim.errors import InputError, UsageError
from slim.progress import Silent
from slim.stage import Check, StageContext

SECTION = QuantSection(mode="ptq", images=4)


class Notes(Silent):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def _context(tmp_path: Path, lines: Callable[..., object], scores: list[float] | None = None) -> StageContext:
    left = list(scores or [])
    score = (lambda bundle: left.pop(0)) if scores else None
    return StageContext(tmp_path, 0, calibration=lines(6, turn=True), score=score, progress=Notes())  # type: ignore[arg-type]


@pytest.fixture
def done(originals: Mapping[str, Bundle], lines: Callable[..., object], tmp_path: Path) -> Bundle:
    ctx = _context(tmp_path, lines)
    return stage.apply(originals["cls"], stage.plan(originals["cls"], SECTION, ctx), SECTION, ctx)


def _failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_ptq_from_plan_to_checks(originals: Mapping[str, Bundle], done: Bundle) -> None:
    checks = stage.checks(originals["cls"], done, SECTION)
    assert _failed(checks) == []
    assert {check.name: check.value for check in checks}["quantized layers"] == 54
    assert originals["cls"].scheme is None
    assert not wrap.wrappers(originals["cls"].net), "the original must stay float"
    scheme = QuantScheme.from_json(done.scheme or {})
    assert len(scheme.clips) == 54
    assert scheme.metrics == {}


def test_layer_that_went_back_to_float_is_seen(originals: Mapping[str, Bundle], done: Bundle) -> None:
    layer = nn.Linear(*done.net.head.fc.weight.shape)
    done.net.head.fc = layer
    assert "quantized layers" in _failed(stage.checks(originals["cls"], done, SECTION))


def test_weights_that_are_not_rounded_are_seen(originals: Mapping[str, Bundle], done: Bundle) -> None:
    done.net.head.fc._fake_quant_weight._quant_bits = 16
    assert _failed(stage.checks(originals["cls"], done, SECTION)) == ["weights off their int grid"]


def test_inputs_that_are_not_rounded_are_seen(originals: Mapping[str, Bundle], done: Bundle) -> None:
    done.net.head.fc._fake_quant_input._quant_bits = 16
    assert _failed(stage.checks(originals["cls"], done, SECTION)) == ["inputs off their int grid"]


def test_clip_that_is_not_the_recorded_one_is_seen(originals: Mapping[str, Bundle], done: Bundle) -> None:
    scale = done.net.head.fc._fake_quant_input._scale
    scale.set_value(scale * 1.01)
    assert _failed(stage.checks(originals["cls"], done, SECTION)) == ["clips that differ from the scheme"]


def test_collapse_warns_and_fails_the_check(
    originals: Mapping[str, Bundle], lines: Callable[..., object], tmp_path: Path
) -> None:
    ctx = _context(tmp_path, lines, scores=[94.0, 20.0])
    bad = stage.apply(originals["cls"], stage.plan(originals["cls"], SECTION, ctx), SECTION, ctx)
    assert isinstance(ctx.progress, Notes)
    assert ["from 94.00 to 20.00 points" in line for line in ctx.progress.warnings] == [True]
    assert _failed(stage.checks(originals["cls"], bad, SECTION)) == ["metric after quantization"]
    assert QuantScheme.from_json(bad.scheme or {}).metrics == {
        "float": 94.0,
        "calibrated": 20.0,
        "final": 20.0,
    }


def test_quantized_model_is_not_quantized_again(
    done: Bundle, lines: Callable[..., object], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is quantized already"):
        stage.plan(done, SECTION, _context(tmp_path, lines))


def test_checks_of_a_float_model_are_refused(originals: Mapping[str, Bundle]) -> None:
    with pytest.raises(InputError, match="is a float model"):
        stage.checks(originals["cls"], originals["cls"], SECTION)


def test_missing_data_is_named(
    originals: Mapping[str, Bundle], lines: Callable[..., object], tmp_path: Path
) -> None:
    ctx = _context(tmp_path, lines)
    scheme = stage.plan(originals["cls"], SECTION, ctx)
    with pytest.raises(UsageError, match="no calibration data"):
        stage.apply(originals["cls"], scheme, SECTION, replace(ctx, calibration=None))

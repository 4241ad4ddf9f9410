"""The inference program: same as the net, whatever was built before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import paddle
import pytest

from export import program, proto
from slim.bundle import Bundle
from slim.errors import UnsupportedModel
from slim.spec import InputSpec


def seen(bundle: Bundle) -> tuple[set[str], str, str]:
    """What exporting must leave alone."""
    return {p.name for p in bundle.net.parameters()}, bundle.sha256(), type(bundle.net.forward).__name__


def test_the_same_model_gives_the_same_bytes(cls_bundle: Bundle, cls_program: Path, tmp_path: Path) -> None:
    paddle.nn.Conv2D(3, 3, 3)  # moves Paddle's counters of names
    before = seen(cls_bundle)
    program.save_program(cls_bundle, tmp_path / "again")
    assert seen(cls_bundle) == before
    for path in (proto.model_path, proto.params_path):
        assert path(tmp_path / "again").read_bytes() == path(cls_program).read_bytes()


def test_rec_with_lstm_gives_the_same_bytes(rec_bundle: Bundle, rec_program: Path, tmp_path: Path) -> None:
    program.save_program(rec_bundle, tmp_path / "again")
    assert proto.model_path(tmp_path / "again").read_bytes() == proto.model_path(rec_program).read_bytes()


def test_the_program_equals_the_net(rec_bundle: Bundle, rec_program: Path) -> None:
    checks = program.verify_program(rec_bundle, rec_program, widths=(96, 200))
    assert len(checks) == 4 and all(check.passed for check in checks)
    assert "3x3x32x200" in checks[-1].name


def test_another_nets_program_is_seen(cls_bundle: Bundle, cls_program: Path) -> None:
    other = cls_bundle.clone()
    bias = other.net.head.fc.bias
    bias.set_value(bias + paddle.to_tensor([0.01, 0.0]))
    assert not any(check.passed for check in program.verify_program(other, cls_program))


def test_quantized_bundle_needs_its_saver(cls_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="quantized model cannot be exported here"):
        program.save_program(replace(cls_bundle, scheme={"mode": "qat"}), tmp_path / "x")


def test_shapes() -> None:
    assert program.input_shape(InputSpec(48, 192)) == [None, 3, 48, 192]
    assert program.input_shape(InputSpec(48, 192), dynamic_batch=False) == [1, 3, 48, 192]
    det = InputSpec(640, 640, dynamic_width=True, dynamic_height=True)
    assert program.input_shape(det) == [None, 3, None, None]

"""Each fix: the symptom without it, the cure with it, and the same numbers in Paddle before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paddle import nn
from paddle.nn import functional as F

from export import fixes, proto
from export.nb.format import read_nb
from export.runtimes import lite_x86
from export.runtimes import paddle as predictor
from slim.errors import OptFailed, StageFailed, UnsupportedModel
from slim.numerics import max_abs

Save = Callable[[nn.Layer, list[int | None]], Path]
Convert = Callable[..., Path]
# Float32 sums of a few terms in another order.
TINY = 1e-6


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, shape).astype(np.float32)


def types(prefix: Path) -> list[str]:
    return [op.type for op in proto.ops(proto.read_program(proto.model_path(prefix)))]


def x86(path: Path, x: np.ndarray) -> np.ndarray:
    runtime = lite_x86.load(path)
    try:
        return runtime.run(x)
    finally:
        runtime.close()


class Flat(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3)
        self.fc = nn.Linear(4 * 6 * 6, 5)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.fc(nn.Flatten()(self.conv(x)))


class Swish(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return F.swish(self.conv(x))


class Transposed(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3)
        self.up = nn.Conv2DTranspose(4, 2, 2, stride=2)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.up(self.conv(x))


def test_flatten_kills_opt_without_xshape(program: Save, to_x86: Convert) -> None:
    prefix = program(Flat(), [None, 3, 8, 8])
    with pytest.raises(OptFailed, match="SIGSEGV"):
        to_x86(prefix)
    x = noise(2, 3, 8, 8)
    found = x86(to_x86(prefix, fixes.give_flatten_xshape), x)
    assert max_abs(predictor.load(prefix).run(x), found) <= TINY


def test_swish_needs_beta(program: Save, to_x86: Convert) -> None:
    prefix = program(Swish(), [None, 3, 8, 8])
    with pytest.raises(OptFailed, match=r"swish lacks its attribute beta"):
        to_x86(prefix)
    x = noise(2, 3, 8, 8)
    found = x86(to_x86(prefix, fixes.complete_swish), x)
    assert max_abs(predictor.load(prefix).run(x), found) <= TINY


def test_lstm_with_dynamic_batch_dies_at_run_time(rec_program: Path, to_x86: Convert) -> None:
    x = noise(2, 3, 32, 160)
    with pytest.raises(StageFailed, match="died at input"):
        x86(to_x86(rec_program), x)
    found = x86(to_x86(rec_program, fixes.shape_zero_rank_constants), x)
    # Probabilities behind an LSTM: sums in another order, 2.3e-6 was measured.
    assert max_abs(predictor.load(rec_program).run(x), found) <= 2e-5


def test_conv_bias_is_folded_by_opt_only_as_axis_1(program: Save, to_x86: Convert) -> None:
    prefix = program(Transposed(), [None, 3, 8, 8])
    plain = read_nb(to_x86(prefix))
    folded = to_x86(prefix, fixes.fold_conv_bias)
    assert [op.type for op in plain.ops].count("reshape2") == 2
    left = [op.type for op in read_nb(folded).ops]
    assert "reshape2" not in left and "elementwise_add" not in left
    x = noise(2, 3, 8, 8)
    assert max_abs(predictor.load(prefix).run(x), x86(folded, x)) <= TINY


def test_bias_fold_leaves_a_bias_that_is_read_twice(program: Save, tmp_path: Path) -> None:
    prefix = program(Transposed(), [None, 3, 8, 8])
    model = proto.read_program(proto.model_path(prefix))
    shaped = next(proto.outputs(op, "Out")[0] for op in proto.ops(model) if op.type == "reshape2")
    for op in proto.ops(model):
        if op.type == "fetch":
            op.inputs[0].arguments[:] = [shaped]
    assert fixes.fold_conv_bias(model) == 1  # the other one only


def test_all_fixes_are_bit_equal_in_paddle(rec_program: Path, tmp_path: Path) -> None:
    counts = fixes.fix_program(rec_program, tmp_path / "fixed")
    assert counts["fold_conv_bias"] == 18
    assert counts["shape_zero_rank_constants"] == 4
    assert counts["drop_dead_attrs"] > 500
    x = noise(2, 3, 32, 160)
    before, after = (predictor.load(p, optimize=False).run(x) for p in (rec_program, tmp_path / "fixed"))
    assert max_abs(before, after) == 0.0


def test_a_wrong_fix_would_be_seen(rec_program: Path, tmp_path: Path) -> None:
    """The twin of the test above: add the bias on another axis' channels and the outputs differ."""
    fixes.fix_program(rec_program, tmp_path / "fixed")
    path = proto.model_path(tmp_path / "fixed")
    model = proto.read_program(path)
    adds = [op for op in proto.ops(model) if op.type == "elementwise_add" and proto.attr(op, "axis").i == 1]
    same_width = [op for op in adds if proto.dims(proto.var(model, proto.inputs(op, "Y")[0])) == (288,)]
    first, second = (slot for op in same_width[:2] for slot in op.inputs if slot.parameter == "Y")
    first.arguments[:], second.arguments[:] = list(second.arguments), list(first.arguments)
    proto.write_program(model, path)
    x = noise(2, 3, 32, 160)
    before, after = (predictor.load(p, optimize=False).run(x) for p in (rec_program, tmp_path / "fixed"))
    assert max_abs(before, after) > 1e-4


def test_dead_attributes_only_cost_bytes(cls_program: Path, to_x86: Convert) -> None:
    full, lean = to_x86(cls_program), to_x86(cls_program, fixes.drop_dead_attrs)
    assert lean.stat().st_size < full.stat().st_size - 15_000
    x = noise(1, 3, 48, 192)
    assert max_abs(x86(full, x), x86(lean, x)) == 0.0


def test_float_view_equals_the_net_without_quantizers(exported_int8, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    prefix = exported_int8.folder / "inference" / "inference"
    # Each of the 54 layers has a quantizer in front of its weights and one in front of its input.
    assert fixes.float_program(prefix, tmp_path / "view") == 108
    assert not [kind for kind in types(tmp_path / "view") if "quantize" in kind]
    x = noise(2, 3, 48, 192)
    from quant.wrap import float_view

    expected = float_view(exported_int8.bundle).run(x)
    # Conv and BN fused: sums in another order.
    assert max_abs(predictor.load(tmp_path / "view").run(x), expected) <= 1e-5


def test_integer_weights_have_no_float_view(cls_program: Path, tmp_path: Path) -> None:
    model = proto.read_program(proto.model_path(cls_program))
    proto.ops(model)[3].type = "fake_dequantize_max_abs"
    proto.write_program(model, tmp_path / "odd.pdmodel")
    (tmp_path / "odd.pdiparams").write_bytes(proto.params_path(cls_program).read_bytes())
    with pytest.raises(UnsupportedModel, match="fake_dequantize_max_abs"):
        fixes.float_program(tmp_path / "odd", tmp_path / "view")


def test_the_source_is_never_overwritten(cls_program: Path) -> None:
    with pytest.raises(StageFailed, match="beside their source"):
        fixes.fix_program(cls_program, cls_program)

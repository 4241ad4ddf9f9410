"""The inference program: old format, same numbers as the net, any batch and width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest

from quant import freeze, ptq, rules, wrap
from slim.bundle import Bundle
from slim.config.ours import QuantSection
from slim.errors import InputError, StageFailed
from slim.spec import ModelSpec

Images = Callable[[ModelSpec, int], np.ndarray]
SHAPES = {"cls": (None, 3, 48, 192), "rec": (None, 3, 32, None)}


@pytest.fixture(scope="module")
def quantized(originals: Mapping[str, Bundle], images: Images) -> dict[str, Bundle]:
    done = {}
    for kind, original in originals.items():
        scheme = rules.build_scheme(original.net, QuantSection(mode="ptq"), original.spec.input.shape)
        scheme = ptq.calibrate(original.net, scheme, [images(original.spec, 4)])
        work = original.clone()
        wrap.prepare(work.net, scheme)
        wrap.install_clips(work.net, scheme)
        done[kind] = replace(work, scheme=wrap.finalize(work.net, scheme).to_json())
    return done


def _run(prefix: Path, x: np.ndarray) -> np.ndarray:
    from paddle.inference import Config, create_predictor

    config = Config(f"{prefix}.pdmodel", f"{prefix}.pdiparams")
    config.disable_glog_info()
    config.switch_ir_optim(False)
    predictor = create_predictor(config)
    feed = predictor.get_input_handle(predictor.get_input_names()[0])
    feed.reshape(x.shape)
    feed.copy_from_cpu(x)
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()


@pytest.fixture(scope="module")
def saved(quantized: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> prefix of its program."""
    prefixes = {kind: tmp_path_factory.mktemp(kind) / "inference" for kind in quantized}
    for kind, prefix in prefixes.items():
        before = quantized[kind].sha256()
        freeze.save_inference(quantized[kind], prefix, SHAPES[kind])
        assert quantized[kind].sha256() == before
    return prefixes


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_program_computes_what_the_net_computes(
    quantized: dict[str, Bundle], saved: dict[str, Path], images: Images, kind: str
) -> None:
    names = sorted(p.name for p in saved[kind].parent.iterdir())
    assert names == ["inference.pdiparams", "inference.pdmodel"]
    x = images(quantized[kind].spec, 3)
    narrow = x[:1, :, :, :160] if kind == "rec" else x[:1]
    for one in (x, np.ascontiguousarray(narrow)):
        # Same kernels in the same order, no fusion: probabilities equal to float32 rounding.
        assert np.abs(_run(saved[kind], one) - quantized[kind].run(one)).max() <= 1e-6
    assert paddle.in_dynamic_mode()


def _count(program: bytes, op: bytes) -> int:
    """Ops of a type: OpDesc.type is protobuf field 3, a string."""
    return program.count(b"\x1a" + bytes([len(op)]) + op)


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_program_has_one_quantizer_for_each_layer_in_the_old_format(
    saved: dict[str, Path], kind: str
) -> None:
    program = saved[kind].with_suffix(".pdmodel").read_bytes()
    assert _count(program, b"fake_quantize_dequantize_moving_average_abs_max") == 54
    assert _count(program, b"fake_channel_wise_quantize_dequantize_abs_max") == 54
    assert _count(program, b"quantize_linear") == 0, "the ONNX format is not what opt reads"
    assert _count(program, b"moving_average_abs_max_scale") == 0
    assert _count(program, b"batch_norm") > 0, "ops are not found by this count"


@pytest.mark.parametrize("kind", ["cls", "rec"])
def test_program_names_layers_by_path_and_no_file_of_this_machine(saved: dict[str, Path], kind: str) -> None:
    program = saved[kind].with_suffix(".pdmodel").read_bytes()
    assert b"backbone.blocks.3.mid_se.conv1._fake_quant_input._scale" in program
    assert b"op_callstack" not in program
    assert b"freeze.py" not in program


def test_same_model_gives_the_same_bytes(
    quantized: dict[str, Bundle], saved: dict[str, Path], tmp_path: Path
) -> None:
    again = quantized["cls"].clone(wrap.restore)
    freeze.save_inference(again, tmp_path / "inference", SHAPES["cls"])
    for suffix in freeze.SUFFIXES:
        assert (tmp_path / f"inference{suffix}").read_bytes() == saved["cls"].with_suffix(suffix).read_bytes()


def test_float_and_unfinished_models_are_refused(
    originals: Mapping[str, Bundle], quantized: dict[str, Bundle], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is a float model; quantize it first"):
        freeze.save_inference(originals["cls"], tmp_path / "inference", SHAPES["cls"])
    blank = quantized["cls"].clone(wrap.restore)
    next(iter(wrap.wrappers(blank.net).values()))._fake_quant_input._scale.set_value(paddle.zeros([1]))
    with pytest.raises(StageFailed, match="1 of 54 quantized layers have no calibrated input range"):
        freeze.save_inference(blank, tmp_path / "inference", SHAPES["cls"])
    assert not list(tmp_path.iterdir())


def test_shape_that_does_not_fit_leaves_nothing_behind(quantized: dict[str, Bundle], tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="Paddle cannot save the quantized net"):
        freeze.save_inference(quantized["cls"], tmp_path / "inference", (1, 5, 48, 192))
    assert not list(tmp_path.iterdir())

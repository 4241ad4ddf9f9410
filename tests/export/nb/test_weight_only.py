"""Files of opt's own weight-only quantization and of its half precision mode, made by opt itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.compare import blocks
from export.nb.executor import NbRuntime, load
from export.nb.format import Attr, AttrType, read_nb
from export.nb.weight_only import dequantized, is_weight_only
from export.opt import run_opt
from export.stage import variant_file
from slim.errors import InputError, UnsupportedModel

from ..conftest import Options

X = blocks((4, 3, 48, 192), 2)


@pytest.fixture(scope="module")
def made(cls_program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("modes")
    modes = ("plain", "weights-int8", "weights-int16", "fp16")
    return {mode: run_opt(cls_program, "arm", folder / f"{mode}.nb", timeout=60, mode=mode) for mode in modes}


@pytest.mark.parametrize(("mode", "bits", "bound"), [("weights-int8", 8, 0.1), ("weights-int16", 16, 5e-4)])
def test_integers_of_the_file_are_floats_in_memory(made: dict[str, Path], mode: str, bits: int, bound: float):
    """Bounds in probability: int16 keeps 15 bits of each weight, int8 seven."""
    model = read_nb(made[mode])
    assert is_weight_only(model) and not is_weight_only(read_nb(made["plain"]))
    stored = [a for a in model.params.values() if a.dtype in (np.int8, np.int16)]
    assert stored and {a.dtype.itemsize * 8 for a in stored} == {bits}
    apart = np.abs(load(made[mode]).run(X) - load(made["plain"]).run(X)).max()
    assert 0 < apart <= bound
    # One scale per output channel of a conv.
    conv = next(op for op in model.ops if op.type == "conv2d")
    name = conv.inputs["Filter"][0]
    scales = np.asarray(conv.attr(f"{name}_quant_scale"), np.float32)
    wanted = model.params[name].astype(np.float32) * scales[:, None, None, None]
    assert np.array_equal(dequantized(model).params[name], wanted)


def test_a_changed_scale_is_seen(made: dict[str, Path]) -> None:
    model = read_nb(made["weights-int16"]).copy()
    conv = next(op for op in model.ops if op.type == "conv2d")
    name = f"{conv.inputs['Filter'][0]}_quant_scale"
    conv.attrs[name] = Attr(AttrType.FLOATS, tuple(2 * s for s in conv.attrs[name].value))
    assert np.abs(NbRuntime(model).run(X) - load(made["plain"]).run(X)).max() > 5e-4


def test_scales_that_do_not_fit_are_named(made: dict[str, Path]) -> None:
    model = read_nb(made["weights-int8"]).copy()
    conv = next(op for op in model.ops if op.type == "conv2d")
    name = f"{conv.inputs['Filter'][0]}_quant_scale"
    conv.attrs[name] = Attr(AttrType.FLOATS, conv.attrs[name].value[:-1])
    with pytest.raises(UnsupportedModel, match="has 7 scales"):
        NbRuntime(model)


def test_half_precision_keeps_float_weights_and_is_not_executed(made: dict[str, Path]) -> None:
    model = read_nb(made["fp16"])
    assert {op.kernel.precision for op in model.ops if op.type == "conv2d"} == {"fp16"}
    assert {a.dtype for a in model.params.values()} == {np.dtype(np.float32)}
    with pytest.raises(UnsupportedModel, match="precision fp16"):
        NbRuntime(model)


def test_variants_are_compacted(cls_program: Path, made: dict[str, Path], tmp_path: Path) -> None:
    facts = variant_file(cls_program, Options(), tmp_path / "small.nb", "weights-int8")
    assert facts.bytes == (tmp_path / "small.nb").stat().st_size < made["weights-int8"].stat().st_size
    same = np.abs(load(tmp_path / "small.nb").run(X) - load(made["weights-int8"]).run(X)).max()
    assert same <= 1e-5  # conv biases were folded before opt quantized them


def test_an_unknown_mode_lists_the_known(cls_program: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use plain or weights-int8"):
        run_opt(cls_program, "arm", tmp_path / "x.nb", mode="int4")

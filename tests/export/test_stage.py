"""Exported folders: complete, run again, and nothing shipped that computes something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import facts, fixes, opt, proto, stage
from export.nb.format import read_nb, write_nb
from export.preflight import preflight
from export.runtimes import nb
from slim.bundle import Bundle
from slim.errors import StageFailed, ToolMissing
from slim.numerics import max_abs

from .conftest import Exported, Options

FILES = [
    "inference/inference.pdiparams",
    "inference/inference.pdmodel",
    "labels.txt",
    "model.arm.nb",
    "model.x86.nb",
    "preprocess.json",
    "selftest/input0.f32",
    "selftest/input1.f32",
    "selftest/output0.f32",
    "selftest/output1.f32",
    "selftest/selftest.json",
    "selftest/selftest.txt",
    "spec.json",
]


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_float_model(exported_cls: Exported) -> None:
    result = exported_cls.result
    assert listing(exported_cls.folder) == FILES
    assert all(check.passed for check in result.checks) and len(result.checks) == 3
    assert result.quantized_layers == 0
    # Bytes: the compaction limits of a float classifier.
    assert result.files["arm"].bytes <= 570_000 < result.files["arm"].bytes_from_opt
    assert result.files["arm"].fixes["fold_conv_bias"] == 18
    assert result.files["x86"].kernels["conv2d"] == {"float": 41}
    json.dumps(result.to_json(), allow_nan=False)


def test_int8_model(exported_int8: Exported) -> None:
    result = exported_int8.result
    assert listing(exported_int8.folder) == FILES
    arm, x86 = result.files["arm"], result.files["x86"]
    assert (result.quantized_layers, arm.int8_layers, arm.float_layers) == (54, 54, 0)
    assert x86.int8_layers == 0 and set(x86.bytes_by_dtype) == {"float32"}
    assert stage.FLOAT_VIEW in result.notes
    # Bytes: the limit of an int8 classifier without pruning.
    assert arm.bytes <= 205_000


def test_a_model_weighed_without_data_weighs_what_its_export_does(
    exported_int8: Exported, cls_bundle: Bundle, tmp_path: Path
) -> None:
    """`Prune.nb_bytes` cuts by it. With equal clips the file came out 2,456 bytes too small."""
    from quant.stage import weighed
    from slim.config import ExportSection, QuantSection
    from slim.pipeline.exporting import one_nb

    light = weighed(cls_bundle, QuantSection(mode="ptq"))
    found = one_nb(light, ExportSection(), tmp_path / "weighed.nb").bytes
    assert abs(found - exported_int8.result.files["arm"].bytes) < 300  # bytes: some real scales are equal


def test_rec_keeps_the_lstm_float_in_float_models(exported_rec: Exported) -> None:
    arm = exported_rec.result.files["arm"]
    assert set(arm.bytes_by_dtype) == {"float32"} and arm.kernels["rnn"] == {"float": 1}


def test_lstm_weights_int8(exported_rec: Exported, tmp_path: Path) -> None:
    options = Options(targets=("arm",), lstm_weights="int8")
    result = stage.export_nb(exported_rec.folder / "inference", options, tmp_path / "out")
    # Two bidirectional layers: 2 * (288 + 48 + 96 + 48) * 4 * 48 weights, one byte each.
    assert result.files["arm"].bytes_by_dtype["int8"] == 184_320
    assert result.files["arm"].bytes < exported_rec.result.files["arm"].bytes - 500_000
    moved = next(c for c in result.checks if "opt's file" in c.name)
    assert 0 < moved.value <= moved.bound


def test_a_foreign_inference_folder(cls_program: Path, tmp_path: Path) -> None:
    """As PaddleOCR exports it: no spec beside it, so no labels either."""
    result = stage.export_nb(cls_program.parent, Options(targets=("x86",)), tmp_path / "out")
    assert listing(tmp_path / "out") == [FILES[0], FILES[1], "model.x86.nb"]
    assert all(check.passed for check in result.checks)


@pytest.mark.slow
def test_the_same_model_gives_the_same_file(
    cls_bundle: Bundle, exported_cls: Exported, tmp_path: Path
) -> None:
    stage.export_nb(cls_bundle, Options(targets=("arm",)), tmp_path / "out")
    for name in ("model.arm.nb", "inference/inference.pdmodel", "preprocess.json"):
        assert (tmp_path / "out" / name).read_bytes() == (exported_cls.folder / name).read_bytes()


def test_compaction_off(cls_program: Path, exported_cls: Exported, tmp_path: Path) -> None:
    result = stage.export_nb(cls_program, Options(targets=("arm",), compact=False), tmp_path / "out")
    arm = result.files["arm"]
    assert arm.bytes == arm.bytes_from_opt > exported_cls.result.files["arm"].bytes and arm.passes == {}


@pytest.mark.slow
def test_detector(det_bundle: Bundle, tmp_path: Path) -> None:
    result = stage.export_nb(det_bundle, Options(), tmp_path / "out")
    assert all(check.passed for check in result.checks)
    assert result.files["arm"].kernels["conv2d_transpose"] == {"float": 2}
    assert json.loads((tmp_path / "out" / "preprocess.json").read_text())["kind"] == "det"


def test_a_layer_that_opt_leaves_in_float_is_an_error(exported_int8: Exported) -> None:
    arm = exported_int8.folder / "model.arm.nb"
    seen = preflight(exported_int8.folder / "inference" / "inference", "arm")
    good = facts.nb_facts(read_nb(arm), "arm", 1)
    stage._require_int8(good, seen, arm)
    with pytest.raises(StageFailed, match="computes 53 layers in int8, the program quantizes 54"):
        stage._require_int8(replace(good, int8_layers=53), seen, arm)
    # As many int8 layers, but not those that were asked for.
    other = tuple(name for name in good.int8_weights if name != "head.fc.weight")
    with pytest.raises(StageFailed, match=r"opt left 1 in float \(head\.fc\.weight\)"):
        stage._require_int8(replace(good, int8_weights=(*other, "another")), seen, arm)


@pytest.mark.parametrize("target", ["arm", "x86"])
def test_a_changed_weight_fails_the_stage(
    exported_cls: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """The twin of the checks that pass: a file whose one bias moved by 0.01 is not shipped."""
    real = opt.run_opt

    def damaged(prefix: Path, target: str, out: Path, *, timeout: float) -> Path:
        model = read_nb(real(prefix, target, out, timeout=timeout))
        name = next(n for n, a in sorted(model.params.items()) if "bn" not in n and a.ndim == 1)
        model.params[name] = model.params[name] + np.float32(0.01)
        write_nb(model, out)
        return out

    monkeypatch.setattr(opt, "run_opt", damaged)
    with pytest.raises(StageFailed, match="computes something else"):
        stage.export_nb(exported_cls.folder / "inference", Options(targets=(target,)), tmp_path / "out")


def test_no_opt(exported_cls: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(ToolMissing, match="pip install paddlelite") as caught:
        stage.export_nb(exported_cls.folder / "inference", Options(), tmp_path / "out")
    assert caught.value.exit_code == 3


def test_inference_folder_tells_nothing_of_this_machine(exported_rec: Exported) -> None:
    data = proto.model_path(exported_rec.folder / "inference" / "inference").read_bytes()
    assert b"site-packages" not in data and b".py" not in data


def test_fixes_do_not_change_int8_arithmetic(exported_int8: Exported, tmp_path: Path) -> None:
    """Attributes dropped before opt are not what opt reads the scales from."""
    prefix = exported_int8.folder / "inference" / "inference"
    fixes.fix_program(prefix, tmp_path / "fixed")
    x = np.random.default_rng(1).uniform(-1, 1, (2, 3, 48, 192)).astype(np.float32)
    plain = nb.load(opt.run_opt(prefix, "arm", tmp_path / "plain.nb")).run(x)
    fixed = nb.load(opt.run_opt(tmp_path / "fixed", "arm", tmp_path / "fixed.nb")).run(x)
    assert max_abs(plain, fixed) == 0.0

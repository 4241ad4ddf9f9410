"""What calibration does to the weights is what the ARM file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.nb.format import read_nb
from export.stage import export_nb
from quant import stage
from quant.freeze import save_inference
from quant.layers import rows
from quant.wrap import float_view
from slim.config import ExportSection, QuantSection
from slim.pipeline.opening import open_model
from slim.progress import Silent
from slim.stage import StageContext


class _Noise:
    """Smooth random lines; enough to calibrate on, nothing is scored."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int):  # type: ignore[no-untyped-def]
        from slim.data.dataset import Line

        rough = np.random.default_rng(number).integers(0, 255, (6, 24, 3), np.uint8)
        return Line(str(number), np.kron(rough, np.ones((8, 8, 1), np.uint8)), "0")


@pytest.mark.slow
def test_learned_rounding_reaches_the_file_step_by_step(tmp_path: Path) -> None:
    model = open_model("zoo:ch_ppocr_mobile_v2.0_cls", None, Silent())
    section = QuantSection(
        mode="ptq", images=4, algo="mse", rounding="adaround", bias_correction=True, equalize=True
    )
    context = StageContext(tmp_path, 0, calibration=_Noise())  # type: ignore[arg-type]
    done = stage.apply(model, stage.plan(model, section, context), section, context)
    assert all(check.passed for check in stage.checks(model, done, section))
    export_nb(done, ExportSection(), tmp_path / "out", save_quantized=save_inference)
    held = [p for p in read_nb(tmp_path / "out" / "model.arm.nb").params.values() if p.dtype == np.int8]
    layers, before = dict(float_view(done).net.named_sublayers()), dict(model.net.named_sublayers())
    turned = 0
    for path in done.scheme["methods"]["bias_correction"]:
        matrix = rows(layers[path])
        largest = np.abs(matrix).max(axis=1, keepdims=True)
        written = np.rint(matrix / np.where(largest > 0, largest, 1) * 127)
        shape = tuple(layers[path].weight.shape)
        as_stored = written.T if len(shape) == 2 else written.reshape(shape)
        # opt turns the sign of a channel whose BatchNorm factor is negative.
        assert any(
            p.shape == shape and np.array_equal(np.abs(p.astype(int)), np.abs(as_stored)) for p in held
        ), path
        original = rows(before[path])
        if np.array_equal(np.abs(original).max(axis=1, keepdims=True), largest):
            turned += int((np.rint(original / np.where(largest > 0, largest, 1) * 127) != written).sum())
    assert turned > 1000, "learned rounding equals rounding to nearest: nothing was learned"

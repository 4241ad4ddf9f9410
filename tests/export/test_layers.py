"""The per-layer comparison: every layer is paired, and a damaged one is named, not those behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import bench, layers, layers_folder, stage, subjects
from export import check as harness
from export.compare import blocks
from export.layers import LayerLoss, compare_layers
from export.layers_pairs import pair
from export.layers_plot import draw_layers
from export.nb.compact import compact
from export.nb.executor import NbRuntime, output_scale
from export.nb.format import NbModel, read_nb, write_nb
from export.nb.model import Attr
from export.program import save_program
from export.proto import model_path, read_program
from slim.arch import build_net
from slim.bundle import Bundle
from slim.errors import ArtifactError
from slim.report import report_markdown, report_text
from slim.report.escaping import markdown_safe

from .conftest import CLS, Exported, Options, backbone

CLS_IMAGES = [blocks((1, 3, 48, 192), 11), blocks((1, 3, 48, 192), 12)]
# float32 carries 24 bits, 144 dB; sums of up to 576 products in another order cost some of them: 125 dB and
# more were measured for one layer. A wrong pair has 10 dB or less.
FLOAT_DB = 110.0
# 8 bits make 40 to 50 dB; clips and narrow channels cost: 17 dB was the worst measured of a sound int8 layer.
INT8_DB = 12.0
SWAPPED = ("backbone.blocks.4.linear_conv.conv", "backbone.blocks.5.linear_conv.conv")

Compare = Callable[[NbModel], list[LayerLoss]]


@pytest.fixture(scope="module")
def against_cls(cls_program: Path) -> Compare:
    def compare(model: NbModel) -> list[LayerLoss]:
        losses, alone = compare_layers(model, cls_program, CLS_IMAGES)
        assert alone == []
        return losses

    return compare


def int8_file(exported: Exported) -> NbModel:
    return read_nb(exported.folder / "model.arm.nb")


def by_name(losses: list[LayerLoss]) -> dict[str, LayerLoss]:
    return {loss.layer: loss for loss in losses}


def test_every_layer_of_a_float_file_equals_its_original(
    exported_cls: Exported, against_cls: Compare
) -> None:
    losses = against_cls(read_nb(exported_cls.folder / "model.arm.nb"))
    assert len(losses) == exported_cls.result.files["arm"].float_layers
    assert losses[0].snr_db >= FLOAT_DB, losses[0]
    assert all(loss.precision == "float" and loss.cosine == pytest.approx(1, abs=1e-9) for loss in losses)
    # opt merges two 1x1 convs without an activation between: one operator, compared behind the second.
    merged = by_name(losses)["backbone.blocks.0.linear_conv.conv"]
    assert merged.merged == ("backbone.blocks.1.expand_conv.conv",)


def test_an_int8_file_loses_rounding_in_every_layer(exported_int8: Exported, against_cls: Compare) -> None:
    losses = against_cls(int8_file(exported_int8))
    assert len(losses) == 54 and {loss.precision for loss in losses} == {"int8"}
    assert [loss.snr_db for loss in losses] == sorted(loss.snr_db for loss in losses)
    assert losses[0].snr_db >= INT8_DB and losses[-1].snr_db < FLOAT_DB
    # Nothing is in front of the first layer: what arrives is its own loss.
    first = by_name(losses)["backbone.conv1.conv"]
    assert first.arrived_snr_db == pytest.approx(first.snr_db, abs=1e-9)


def test_a_swapped_pair_comes_first(exported_int8: Exported, against_cls: Compare) -> None:
    """Two layers with the same shapes exchange their weights: they are named, and no layer behind them."""
    model = int8_file(exported_int8)
    sound = by_name(against_cls(model))
    a, b = (f"{name}.weight" for name in SWAPPED)
    assert model.params[a].shape == model.params[b].shape
    model.params[a], model.params[b] = model.params[b], model.params[a]
    losses = against_cls(model)
    assert {loss.layer for loss in losses[:2]} == set(SWAPPED)
    assert losses[1].snr_db < 6 < sound[SWAPPED[0]].snr_db
    for loss in losses[2:]:
        assert loss.snr_db == sound[loss.layer].snr_db, loss.layer
    # The whole of the file behind the pair is off: without the float input, the table would name them.
    assert by_name(losses)["head.fc"].arrived_snr_db < sound["head.fc"].arrived_snr_db


def test_a_swapped_pairing_is_seen(cls_program: Path, exported_cls: Exported) -> None:
    """The names of two weights exchanged: the same arithmetic under the wrong names must not look sound."""
    model = read_nb(exported_cls.folder / "model.arm.nb")
    a, b = (f"{name}.weight" for name in SWAPPED)
    other = {a: b, b: a}
    model.params[a], model.params[b] = model.params[b], model.params[a]
    for op in model.ops:
        if "Filter" in op.inputs:
            op.inputs["Filter"] = tuple(other.get(n, n) for n in op.inputs["Filter"])
    losses, _ = compare_layers(model, cls_program, CLS_IMAGES)
    assert {loss.layer for loss in losses[:2]} == set(SWAPPED) and losses[1].snr_db < 6
    assert losses[2].snr_db >= FLOAT_DB


@pytest.mark.parametrize("name", ["Input0_scale", "Filter0_scale", "act_type", "with_act"])
def test_one_damaged_attribute_names_its_layer(
    exported_int8: Exported, against_cls: Compare, name: str
) -> None:
    model = int8_file(exported_int8)
    layer = "backbone.blocks.7.expand_conv.conv"
    op = next(op for op in model.ops if f"{layer}.weight" in op.inputs.get("Filter", ()))
    attr = op.attrs[name]
    changed = {"act_type": "relu", "with_act": False}.get(name)
    if isinstance(attr.value, tuple):
        op.attrs[name] = Attr(attr.type, tuple(3.0 * float(v) for v in attr.value))
    else:
        assert changed is not None and changed != attr.value
        op.attrs[name] = Attr(attr.type, changed)
    assert against_cls(model)[0].layer == layer


def test_what_arrives_is_what_the_executor_computes(exported_int8: Exported, cls_program: Path) -> None:
    model = int8_file(exported_int8)
    pairs, _ = pair(model, read_program(model_path(cls_program)))
    found = layers._Stepper(model, pairs)(CLS_IMAGES[0], {})
    trace = NbRuntime(model).trace(CLS_IMAGES[0])
    written = {id(op): outputs for op, outputs in trace}
    for p in pairs:
        op = model.ops[p.index]
        scale = output_scale(op)
        expected = written[id(op)][p.writes] * (np.float32(1) if scale is None else scale)
        np.testing.assert_array_equal(found[p.index], expected, err_msg=p.layer)


def test_text_recognizer_with_int8_lstm_weights(exported_rec: Exported, rec_program: Path) -> None:
    model, _ = compact(read_nb(exported_rec.folder / "model.arm.nb"), lstm_weights="int8")
    images = [blocks((1, 3, 32, 160), 1), blocks((1, 3, 32, 320), 2)]
    losses, alone = compare_layers(model, rec_program, images)
    assert alone == [] and losses[0].layer == "neck.encoder.lstm"
    assert losses[0].op == "rnn" and losses[0].precision == "float, int8 weights"
    # Weights of 8 bits, one scale a matrix: 37 dB were measured. The rest of the file is float.
    assert 20 < losses[0].snr_db < 60
    assert losses[1].snr_db >= FLOAT_DB


@pytest.mark.slow
def test_detector(det_bundle: Bundle, tmp_path: Path) -> None:
    stage.export_nb(det_bundle, Options(targets=("arm",)), tmp_path)
    exported = subjects.open_exported(tmp_path)
    report = layers_folder.measure(exported, None, original=det_bundle)
    assert report.alone == () and "conv2d_transpose" in {loss.op for loss in report.layers}
    assert report.layers[0].snr_db >= FLOAT_DB - 10, report.layers[0]  # sigmoid by polynomial, few channels


def test_the_reference_is_said(
    exported_int8: Exported, cls_bundle: Bundle, int8_cls: Bundle, tmp_path: Path
) -> None:
    from quant.wrap import float_view

    exported = subjects.open_exported(exported_int8.folder)
    own = layers_folder.measure(exported, None, original=cls_bundle, shipped=int8_cls, float_view=float_view)
    assert own.reference.startswith("the float original")
    wider = replace(CLS, arch={**CLS.arch, "Backbone": backbone(0.5)})
    before = Bundle(wider, build_net(wider.arch, 2), source="before pruning")
    view = layers_folder.measure(exported, None, original=before, shipped=int8_cls, float_view=float_view)
    assert view.reference.startswith("the float view of the quantized net") and "pruned" in view.reference
    gone = layers_folder.measure(exported, None, original=before)
    assert gone.reference.startswith("the float view of the folder's own inference program")
    # PTQ changes no weight: the three references are the same net.
    for other in (view, gone):
        assert [loss.layer for loss in other.layers] == [loss.layer for loss in own.layers]
        assert other.layers[0].snr_db == pytest.approx(own.layers[0].snr_db, abs=1e-3)


def test_another_net_is_an_error(exported_int8: Exported, tmp_path: Path) -> None:
    wider = replace(CLS, arch={**CLS.arch, "Backbone": backbone(0.5)})
    save_program(Bundle(wider, build_net(wider.arch, 2), source="wider"), tmp_path / "wider")
    with pytest.raises(ArtifactError, match=r"in the ARM file and .* in the float net"):
        compare_layers(int8_file(exported_int8), tmp_path / "wider", CLS_IMAGES[:1])


def test_nan_is_the_worst_and_stays_json(exported_cls: Exported, against_cls: Compare) -> None:
    model = read_nb(exported_cls.folder / "model.arm.nb")
    model.params["head.fc.weight"] = np.full_like(model.params["head.fc.weight"], np.nan)
    worst = against_cls(model)[0]
    assert worst.layer == "head.fc" and worst.snr_db == -layers.LIMIT_DB and worst.max_abs is None
    json.dumps(worst.to_json(), allow_nan=False)


def test_report_and_picture(exported_int8: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own way: report.json, both tables and the picture; the bare folder has no manifest."""
    from slim.pipeline.checking import check_artifact
    from slim.progress import Silent

    folder = exported_int8.copy(tmp_path / "copy")
    model = int8_file(exported_int8)
    a, b = (f"{name}.weight" for name in SWAPPED)
    model.params[a], model.params[b] = model.params[b], model.params[a]
    write_nb(model, folder / "model.arm.nb")
    (folder / "model.x86.nb").unlink()
    monkeypatch.setattr(harness, "latencies", lambda timed, x, runs: bench.latencies(timed, x, runs=1))
    check_artifact(
        folder, None, original="zoo:ch_ppocr_mobile_v2.0_cls", per_layer=True, out=tmp_path / "out", seed=0,
        progress=Silent(),
    )  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    first = report["layers"][0]
    assert first["layer"] in SWAPPED and {"layer", "op", "precision", "snr_db", "cosine", "max_abs"} <= set(
        first
    )
    assert len(report["layers"]) == 54 and report["layers_unpaired"] == []
    text, markdown = report_text(report), report_markdown(report)
    assert "the worst 15 of 54 layers" in text
    assert all(name in text for name in SWAPPED)
    assert f"| {markdown_safe(first['layer'])} | conv2d | int8 |" in markdown
    from PIL import Image

    with Image.open(tmp_path / "out" / "layers.png") as picture:
        assert picture.format == "PNG" and picture.size[0] >= 1000
    draw_layers(report["layers"][:1], tmp_path / "one.png", title="one", reference="r" * 300)
    assert (tmp_path / "one.png").stat().st_size > 1000

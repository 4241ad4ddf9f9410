"""What inspect says of the goldens."""

from __future__ import annotations

import json

import pytest

from export.nb.format import KERNEL_ATTR, Attr, AttrType, read_nb
from export.nb.inspect import describe, target_of


def test_an_int8_classifier(golden):
    path = golden("cls_int8").path
    data = describe(read_nb(path), path.stat().st_size)
    json.dumps(data)
    assert (data["bytes"], data["topology_bytes"], data["parameter_bytes"]) == (484_758, 332_952, 151_780)
    assert (data["opt_version"], data["target"], data["meta_version"]) == ("v2.13-rc", "arm", 2)
    assert len(data["ops"]) == 181 and set(data["ops"][0]) >= {"type", "kernel", "precision"}
    assert data["kernels"]["conv2d"] == {"int8": 42}
    assert data["kernels"]["hard_swish"] == {"float": 8}
    assert data["int8_share"] == 1.0 and data["macs"] == 16_315_376
    first = data["parameters"][0]
    assert first == {"name": "batch_norm_35.b_0", "shape": [8], "dtype": "fp32", "bytes": 32}
    assert data["bytes_by_dtype"] == {"fp32": 12_592, "int8": 124_072}
    assert data["compact_bytes"] < 220_000 and data["dead_attributes"] == 1432


def test_what_stayed_float_and_why(golden):
    path = golden("rec_int8").path
    data = describe(read_nb(path), path.stat().st_size)
    assert data["stayed_float"][0]["type"] == "rnn"
    assert "no int8 kernel" in data["stayed_float"][0]["why"]
    assert 0.5 < data["int8_share"] < 1
    path = golden("cls_fp32").path
    data = describe(read_nb(path), path.stat().st_size)
    assert data["int8_share"] == 0.0
    assert data["stayed_float"][0]["type"] == "conv2d" and "not quantized" in data["stayed_float"][0]["why"]


def test_a_conv_counts_its_multiply_adds(golden):
    path = golden("block_conv3x3s2").path
    model = read_nb(path)
    data = describe(model, path.stat().st_size)
    weight = next(model.params[op.inputs["Filter"][0]] for op in model.ops if op.type == "conv2d")
    (work,) = [op["macs"] for op in data["ops"] if op["type"] == "conv2d"]
    assert work == weight.size * 12 * 24  # 24 x 48 pixels at stride 2


@pytest.mark.parametrize(
    ("kernels", "target"),
    [(["4"], "arm"), (["2", "1"], "x86"), (["1", "6"], "host"), (["4", "2"], "mixed"), ([], "none")],
)
def test_targets(golden, kernels, target):
    model = read_nb(golden("block_dw3").path).copy()
    block = model.program.blocks[0]
    block.ops = block.ops[: max(len(kernels), 1)]
    for op in block.ops:
        op.attrs.pop(KERNEL_ATTR)
    for op, number in zip(block.ops, kernels, strict=False):
        op.attrs[KERNEL_ATTR] = Attr(AttrType.STRING, f"{op.type}/def/{number}/1/1")
    assert target_of(model) == target


def test_a_file_that_cannot_be_executed_is_described_all_the_same(golden):
    path = golden("block_dw3").path
    model = read_nb(path).copy()
    model.ops[1].type = "grid_sampler"
    data = describe(model, path.stat().st_size)
    assert data["macs"] is None and "grid_sampler" in data["macs_why"]


def test_the_picture_has_a_box_per_op_in_its_colour(golden):
    import xml.etree.ElementTree as ElementTree

    from export.nb.plot import COLOURS, draw_svg

    model = read_nb(golden("rec_int8").path)
    root = ElementTree.fromstring(draw_svg(model))
    boxes = [r for r in root if r.tag.endswith("rect") and r.get("rx")]
    assert len(boxes) == len(model.ops)
    green = sum(r.get("fill") == COLOURS["int8"] for r in boxes)
    assert green == sum(op.kernel.precision == "int8" and op.type != "calib" for op in model.ops)
    hostile = model.copy()
    hostile.ops[3].type = "<script>&"
    assert "<script>" not in draw_svg(hostile)

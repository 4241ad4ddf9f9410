"""Backbones written out in a configuration: what is built of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from slim.arch import build_net
from slim.arch.sequential import Layers
from slim.config import load_config
from slim.errors import ConfigError, UnsupportedModel

RESIDUAL = {"Residual": {"layers": [{"ConvBN": {"out_channels": 8}}, {"ConvBN": {"out_channels": 8}}]}}
GATED = {
    "Residual": {
        "layers": [
            {"ConvBN": {"out_channels": 24, "kernel_size": 1, "act": "hardswish"}},
            {"DepthwiseConvBN": {"kernel_size": 5, "stride": [2, 1], "act": "hardswish"}},
            {"SqueezeExcite": None},
            {"ConvBN": {"out_channels": 16, "kernel_size": 1, "act": None}},
        ],
        "act": None,
    }
}
STEM = {"ConvBN": {"out_channels": 8, "stride": 2}}
LINE = [STEM, RESIDUAL, GATED, {"MaxPool": {"kernel_size": 2}}, {"AvgPool": {"kernel_size": [4, 1]}}]
HEADS = {"cls": {"name": "ClsHead"}, "rec": {"name": "CTCHead"}, "det": {"name": "DBHead"}}
NECKS = {"rec": {"name": "SequenceEncoder", "hidden_size": 6}, "det": {"name": "DBFPN", "out_channels": 8}}


def arch(kind: str, layers: list[dict[str, Any]]) -> dict[str, Any]:
    backbone = {"name": "Layers", "layers": layers}
    return {"model_type": kind, "Backbone": backbone, "Neck": NECKS.get(kind), "Head": HEADS[kind]}


def pages() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [STEM]
    for width in (8, 12, 16, 24):
        found += [{"ConvBN": {"out_channels": width, "stride": 2}}, {"Output": None}]
    return found


def config(tmp_path: Path, kind: str, layers: Any) -> Any:
    path = tmp_path / "net.yml"
    text = {"Architecture": arch(kind, layers), "Global": {"character_dict_path": "ppocr/utils/en_dict.txt"}}
    path.write_text(yaml.safe_dump(text))
    return load_config(path)


@pytest.mark.parametrize(
    ("kind", "layers", "size", "shape"),
    [
        ("cls", LINE, (48, 96), [2, 7]),
        ("rec", LINE, (32, 96), [2, 24, 7]),
        ("det", pages(), (64, 96), [2, 1, 64, 96]),
    ],
)
def test_a_list_becomes_a_net_of_its_kind(
    tmp_path: Path, kind: str, layers: Any, size: tuple[int, int], shape: list[int]
) -> None:
    written = config(tmp_path, kind, layers).Architecture.arch()
    net = build_net(written, 7)
    net.eval()
    assert net(paddle.zeros([2, 3, *size])).shape == shape


def test_a_residual_block_adds_its_input() -> None:
    paddle.seed(1)
    net = Layers([{"Residual": {"layers": [{"ConvBN": {"out_channels": 3, "act": None}}], "act": None}}])
    net.eval()
    block = net.layers[0]
    assert block.short is None
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(1, 3, 5, 5)).astype(np.float32))
    assert np.array_equal(net(x).numpy(), (x + block.layers(x)).numpy())
    # Another width or a stride needs a conv of the same stride on the shortcut.
    other = Layers([GATED]).layers[0]
    assert (other.short.conv._stride, other.out_channels) == ([2, 1], 16)


@pytest.mark.parametrize("name", ["MaxPool", "AvgPool"])
@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [
        (3, 1, (5, 7)),
        (3, 2, (3, 4)),
        (2, None, (3, 4)),
        ([2, 1], None, (3, 7)),
        (5, 3, (2, 3)),
        (8, None, (1, 1)),
    ],
)
def test_a_pool_divides_a_map_as_a_conv_does(
    name: str, kernel: Any, stride: Any, size: tuple[int, int]
) -> None:
    """On 5 x 7, which no stride divides: the sum with the shortcut's strided conv fits."""
    net = Layers([{"Residual": {"layers": [{name: {"kernel_size": kernel, "stride": stride}}]}}])
    net.eval()
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(1, 3, 5, 7)).astype(np.float32))
    assert tuple(net(x).shape[2:]) == size


@pytest.mark.parametrize(
    ("layers", "part"),
    [
        ([{"ConvBN": {"out_channels": 8, "kernel_size": 4}}], "kernel_size: is 4, must be odd"),
        ([{"ConvBN": {"out_channels": 8}, "MaxPool": None}], "names 2 layers"),
        (["MaxPool"], "is the text 'MaxPool'"),
        ([{"Conv": {"out_channels": 8}}], "ConvBN"),
        ([{"ConvBN": {"kernel_size": 3}}], "out_channels"),
        ([], "has 0 layers, must have 1 to 1000"),
        ([{"Residual": {"layers": [{"ConvBN": {"out_channels": 0}}]}}], "out_channels"),
    ],
)
def test_a_list_with_a_mistake_is_refused_where_it_stands(tmp_path: Path, layers: Any, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, "cls", layers)
    assert part in str(caught.value) and "Architecture.Backbone" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "layers", "part"),
    [
        ("det", [STEM, {"Output": None}], "marks maps at 1/2, a detector needs 1/4, 1/8, 1/16, 1/32"),
        ("det", [STEM], "marks maps at no place"),
        ("cls", [STEM, {"Output": None}], "marks 1 maps, a cls model takes the last one"),
        ("cls", [{"ConvBN": {"out_channels": 8, "groups": 2}}], "groups 2, which divides not both its 3"),
        ("cls", [{"SqueezeExcite": None}], "reduction 4 and 3 channels"),
        ("cls", [{"MaxPool": {"kernel_size": 4, "stride": 2}}], r"kernel_size \[4, 4\] and stride \[2, 2\]"),
        ("cls", [{"AvgPool": {"kernel_size": [2, 3]}}], r"kernel_size \[2, 3\] and stride \[2, 3\]"),
    ],
)
def test_layers_that_do_not_fit_are_refused(kind: str, layers: Any, part: str) -> None:
    with pytest.raises(UnsupportedModel, match=part):
        build_net(arch(kind, layers), 7)


def test_a_line_that_stays_high_is_refused_in_words() -> None:
    net = build_net(arch("rec", LINE[:-1]), 7)
    with pytest.raises(UnsupportedModel, match="maps 4 pixels high, a sequence needs 1"):
        net(paddle.zeros([1, 3, 32, 64]))


def test_a_config_comes_back_from_its_resolved_form(tmp_path: Path) -> None:
    first = config(tmp_path, "rec", LINE)
    again = tmp_path / "again.yml"
    again.write_text(yaml.safe_dump(first.resolved()))
    assert load_config(again).Architecture.arch() == first.Architecture.arch()

"""`slim import` from ONNX files, written op by op from the nets' weights as two exporters would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from benchmarks.onnx_writer import Writer
from slim.bundle import Bundle
from slim.checkpoint import read_pdparams
from slim.config import Config
from slim.errors import InputError, StageFailed, ToolMissing, UnsupportedModel
from slim.importing import run as importing
from slim.importing.graph import Graph
from slim.importing.match import match
from slim.importing.onnx_file import read_onnx
from slim.importing.onnx_graph import onnx_graph
from slim.importing.paddle_graph import paddle_graph
from slim.importing.run import Imported, import_model
from slim.progress import Silent

Recipe = Callable[..., Config]


@pytest.fixture(scope="module")
def written(deployed: dict[str, Path]) -> Callable[..., onnx.ModelProto]:
    """An ONNX model of a bundled net."""

    def write(kind: str, *, folded: bool) -> onnx.ModelProto:
        graph = paddle_graph(deployed[kind] / "inference")
        shape: list[int | str] = ["n", 3, 48, 192] if kind == "cls" else ["n", 3, 32, "w"]
        return Writer(graph, folded=folded).model(shape)

    return write


def bring(model: onnx.ModelProto, config: Config, folder: Path) -> Imported:
    source = folder / "my model.onnx"
    source.write_bytes(model.SerializeToString())
    return import_model(source, config, folder / "m.pdparams", data=None, seed=1, progress=Silent())


@pytest.mark.parametrize(
    ("kind", "folded"),
    [
        ("cls", False),
        pytest.param("cls", True, marks=pytest.mark.slow),
        ("rec", True),
        pytest.param("rec", False, marks=pytest.mark.slow),
    ],
)
def test_weights_come_back_from_onnx(
    kind: str, folded: bool, written: Any, bundled: dict[str, Bundle], recipe: Recipe, tmp_path: Path
) -> None:
    done = bring(written(kind, folded=folded), recipe(kind), tmp_path)
    state, original = read_pdparams(done.out), bundled[kind].state()
    assert set(state) == set(original)
    same = {name for name in state if np.array_equal(state[name], original[name])}
    if folded:
        assert "35 BatchNorms were folded" in done.notes[0]
        assert not [
            n for n in set(state) - same if not n.startswith("backbone.")
        ]  # head and LSTM bit for bit
    else:
        assert done.notes == [] and same == set(state)
    assert len(done.checks) >= 8 and all(check.passed for check in done.checks)


def test_another_net_is_refused_at_its_first_difference(
    written: Any, recipe: Recipe, tmp_path: Path, net_graph: Callable[..., Graph]
) -> None:
    model = written("cls", folded=False)
    gates = [op for op in model.graph.node if op.op_type == "HardSigmoid"]
    gates[3].attribute[0].f = 0.25
    with pytest.raises(
        UnsupportedModel, match=r"behind backbone\.blocks\.5\.mid_se\.conv2.*0\.25, the net's 0\.2"
    ):
        match(net_graph("cls"), onnx_graph(model, "m.onnx"))
    whole = written("cls", folded=False)
    with pytest.raises(UnsupportedModel, match=r"first at backbone\.blocks\.0\.bottleneck_conv\.conv"):
        match(net_graph("rec"), onnx_graph(whole, "m.onnx"))
    mean = next(op for op in whole.graph.node if op.op_type == "GlobalAveragePool")
    mean.op_type = "GlobalMaxPool"
    with pytest.raises(UnsupportedModel, match=r"the global_pool behind backbone.*is GlobalMaxPool"):
        match(net_graph("cls"), onnx_graph(whole, "m.onnx"))


def test_hardswish_is_not_seen_where_it_is_not(written: Any, net_graph: Callable[..., Graph]) -> None:
    model = written("cls", folded=False)
    plus = next(op for op in model.graph.node if op.op_type == "Add" and op.input[0] == "t1")
    (constant,) = (tensor for tensor in model.graph.initializer if tensor.name == plus.input[1])
    constant.CopyFrom(numpy_helper.from_array(np.float32([2.5]), constant.name))
    with pytest.raises(UnsupportedModel, match=r"first at the hardswish behind backbone\.conv1\.conv"):
        match(net_graph("cls"), onnx_graph(model, "m.onnx"))


def test_a_changed_weight_is_found_by_running_both(
    written: Any,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layer_of: Callable[[str], str],
) -> None:
    recover = importing.recover

    def damaged(*args: Any) -> Any:
        found = recover(*args)
        found.state["backbone.conv2.conv.weight"] *= np.float32(1.05)
        return found

    monkeypatch.setattr(importing, "recover", damaged)
    with pytest.raises(StageFailed, match="the limit is 0.0001") as caught:
        bring(written("cls", folded=False), recipe("cls"), tmp_path)
    assert layer_of(str(caught.value)) == "backbone.conv2.conv"


def test_files_that_cannot_be_read(written: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(InputError, match="cannot read"):
        read_onnx(path)
    for junk, said in ((b"\xff" * 99, "is not an ONNX model"), (b"", "no operators")):
        path.write_bytes(junk)
        with pytest.raises(InputError, match=said):
            read_onnx(path)
    model = written("cls", folded=True)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="keeps 1 weights in other files"):
        read_onnx(path)
    model = written("cls", folded=True)
    model.graph.initializer[0].raw_data = b"cut"
    with pytest.raises(InputError, match="is damaged"):
        onnx_graph(model, "m.onnx")
    model.graph.node[0].op_type = "QLinearConv"
    with pytest.raises(InputError, match="is damaged|is quantized"):
        onnx_graph(model, "m.onnx")


@pytest.mark.parametrize(("kind", "part"), [("Conv", "input"), ("MaxPool", "attribute"), ("Conv", "output")])
def test_an_op_without_what_it_needs_is_one_line(kind: str, part: str, written: Any) -> None:
    model = written("rec", folded=True)
    op = next(op for op in model.graph.node if op.op_type == kind)
    del getattr(op, part)[0 if part != "input" else 1 :]
    with pytest.raises(InputError, match="is incomplete or damaged") as caught:
        match(onnx_graph(written("rec", folded=True), "m.onnx"), onnx_graph(model, "m.onnx"))
    assert "\n" not in str(caught.value)


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ToolMissing, match=r"pip install 'paddleocr-slim\[onnx\]'"):
        read_onnx(tmp_path / "m.onnx")

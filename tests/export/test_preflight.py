"""What pre-flight refuses before opt could crash on it, naming the op and the layer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export import preflight, proto
from slim.errors import InputError, UnsupportedModel


def edited(prefix: Path, dest: Path, edit: Any) -> Path:
    """The program with ``edit`` applied to its message."""
    program = proto.read_program(proto.model_path(prefix))
    edit(program)
    proto.write_program(program, dest.with_name(dest.name + ".pdmodel"))
    proto.params_path(dest).write_bytes(proto.params_path(prefix).read_bytes())
    return dest


def test_a_good_program(rec_program: Path) -> None:
    seen = preflight.preflight(rec_program, "arm")
    assert seen.input == (-1, 3, 32, -1)
    assert seen.ops["rnn"] == 1 and seen.ops["conv2d"] == 42
    assert seen.parameters == 229 and seen.quantized_layers == 0 and seen.notes == ()


def test_quantized_layers_are_counted(exported_int8) -> None:  # type: ignore[no-untyped-def]
    seen = preflight.preflight(exported_int8.folder / "inference" / "inference", "arm")
    assert seen.quantized_layers == 54  # 42 convs, 11 depthwise, 1 linear


def test_unknown_op_is_named_with_its_layer(cls_program: Path, tmp_path: Path) -> None:
    def edit(program: Any) -> None:
        next(op for op in proto.ops(program) if op.type == "matmul_v2").type = "erfinv"

    odd = edited(cls_program, tmp_path / "odd", edit)
    with pytest.raises(UnsupportedModel, match=r"no arm kernel for erfinv .*'head.fc.weight'") as caught:
        preflight.preflight(odd, "arm")
    assert caught.value.exit_code == 2


def test_training_mode(cls_program: Path, tmp_path: Path) -> None:
    def edit(program: Any) -> None:
        norm = next(op for op in proto.ops(program) if op.type == "batch_norm")
        proto.attr(norm, "is_test").b = False
        proto.attr(norm, "use_global_stats").b = False

    with pytest.raises(UnsupportedModel, match=r"backbone.conv1.bn.weight' is in training mode"):
        preflight.preflight(edited(cls_program, tmp_path / "train", edit), "arm")


def test_dynamic_channels(cls_program: Path, tmp_path: Path) -> None:
    def edit(program: Any) -> None:
        proto.var(program, "x").type.lod_tensor.tensor.dims[:] = [-1, -1, 48, 192]

    with pytest.raises(UnsupportedModel, match="dynamic number of channels"):
        preflight.preflight(edited(cls_program, tmp_path / "dyn", edit), "arm")


def test_fixed_batch_is_a_note(cls_program: Path, tmp_path: Path) -> None:
    def edit(program: Any) -> None:
        proto.var(program, "x").type.lod_tensor.tensor.dims[:] = [1, 3, 48, 192]

    seen = preflight.preflight(edited(cls_program, tmp_path / "one", edit), "arm")
    assert seen.notes == ("the batch is fixed to 1",)


def test_int8_transposed_conv_is_refused(exported_int8, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def edit(program: Any) -> None:
        next(op for op in proto.ops(program) if op.type == "conv2d").type = "conv2d_transpose"

    source = exported_int8.folder / "inference" / "inference"
    with pytest.raises(UnsupportedModel, match="wrong scales"):
        preflight.preflight(edited(source, tmp_path / "t", edit), "arm")


def test_parameters_of_another_export(cls_program: Path, rec_program: Path, tmp_path: Path) -> None:
    (tmp_path / "mix.pdmodel").write_bytes(proto.model_path(cls_program).read_bytes())
    (tmp_path / "mix.pdiparams").write_bytes(proto.params_path(rec_program).read_bytes())
    with pytest.raises(InputError, match="same export|truncated or damaged"):
        preflight.preflight(tmp_path / "mix", "arm")


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"not a program", b"\xff" * 4096])
def test_a_program_that_is_none(cls_program: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.pdmodel").write_bytes(data)
    (tmp_path / "bad.pdiparams").write_bytes(b"")
    with pytest.raises(InputError, match="not a Paddle program"):
        preflight.preflight(tmp_path / "bad", "arm")


def test_a_truncated_program(cls_program: Path, tmp_path: Path) -> None:
    data = proto.model_path(cls_program).read_bytes()
    (tmp_path / "cut.pdmodel").write_bytes(data[: len(data) // 2])
    (tmp_path / "cut.pdiparams").write_bytes(b"")
    with pytest.raises(InputError, match="not a Paddle program"):
        preflight.preflight(tmp_path / "cut", "arm")


def test_a_folder_must_hold_one_program(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 0 .pdmodel files"):
        proto.inference_prefix(tmp_path)


@pytest.mark.parametrize("target", ["arm", "x86"])
def test_the_embedded_list_is_what_the_wheel_says(target: str) -> None:
    code = (
        f"from paddlelite.lite import Opt; o = Opt(); o.set_valid_places({target!r}); o.print_supported_ops()"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    lines = out.splitlines()
    head = next(i for i, line in enumerate(lines) if "OP_name" in line)
    columns = lines[head].split()[1:]
    middles = [lines[head].index(name) + len(name) / 2 for name in columns]
    said = set()
    for line in lines[head + 1 :]:
        if not line.split():
            continue
        name = line.split()[0]
        marks = [i for i in range(line.index(name) + len(name), len(line)) if line[i] == "Y"]
        where = {columns[min(range(len(columns)), key=lambda k: abs(middles[k] - i))] for i in marks}
        if where - {"kUnk"}:
            said.add(name)
    assert said == set(json.loads(preflight.OPS_FILE.read_text())[target])

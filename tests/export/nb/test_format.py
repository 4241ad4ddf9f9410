"""Reading and writing: round trips, the layout of the bytes, and files that are no nb files."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest

from export.nb.executor import NbRuntime
from export.nb.format import (
    Attr,
    AttrType,
    Block,
    NbModel,
    Op,
    Program,
    Var,
    VarKind,
    encode_nb,
    parse_nb,
    read_nb,
    write_nb,
)
from export.nb.writer import encode_program
from slim.errors import InputError, NbFormatError

NAMES = [
    "block_conv1x1",
    "block_se",
    "block_two",
    "cls_fp32",
    "cls_int8",
    "rec_fp32",
    "rec_int8",
    "rec_int8_lstm8",
]


def same_params(a: NbModel, b: NbModel) -> bool:
    return a.params.keys() == b.params.keys() and all(
        a.params[n].dtype == b.params[n].dtype
        and a.params[n].shape == b.params[n].shape
        and a.params[n].tobytes() == b.params[n].tobytes()
        for n in a.params
    )


@pytest.mark.parametrize("name", NAMES)
def test_read_write_read_gives_the_same_model(golden, name):
    case = golden(name)
    model = read_nb(case.path)
    data = encode_nb(model)
    again = parse_nb(data)
    assert again.program == model.program and same_params(again, model)
    assert again.opt_version == model.opt_version == "v2.13-rc"
    assert encode_nb(again) == data
    x = case.runs[0][0][:1]
    assert np.array_equal(NbRuntime(model).run(x), NbRuntime(again).run(x))


def test_bytes_behind_the_version_are_zero_and_do_not_matter(golden):
    data = bytearray(golden("block_dw3").path.read_bytes())
    data[12:16] = b"\xde\xad\xbe\xef"
    written = encode_nb(parse_nb(bytes(data)))
    assert written[2:18] == b"v2.13-rc" + bytes(8)
    assert written == encode_nb(read_nb(golden("block_dw3").path))


def test_header_and_records_follow_the_layout(golden):
    model = read_nb(golden("block_se").path)
    data = encode_nb(model)
    meta, topology = struct.unpack_from("<H", data)[0], struct.unpack_from("<Q", data, 18)[0]
    at = 26 + topology
    version, meta_size, header, count, largest = struct.unpack_from("<HHHHI", data, at)
    assert (meta, version, meta_size, header, count) == (2, 0, 0, 6, len(model.params))
    assert largest == max(a.nbytes for a in model.params.values())
    at += 12
    for _ in range(count):
        total, offset = struct.unpack_from("<II", data, at)
        assert offset == 4
        at += 4 + total
    assert at == len(data)


def test_names_are_sorted_bytewise():
    attrs = {name: Attr(AttrType.INT, 1) for name in ("b", "a", "Z", "_", "é")}
    op = Op("x", {"Y": ("b",), "X": ("a",)}, {}, attrs)
    params = {name: np.zeros(1, np.float32) for name in ("b", "B", "a")}
    model = parse_nb(encode_nb(NbModel("v", Program([Block(ops=[op])]), params)))
    assert list(model.ops[0].attrs) == ["Z", "_", "a", "b", "é"]
    assert list(model.ops[0].inputs) == ["X", "Y"]
    assert list(model.params) == ["B", "a", "b"]


def test_every_attribute_type_survives():
    values = {
        AttrType.INT: -7, AttrType.FLOAT: 0.5, AttrType.STRING: "text", AttrType.INTS: (1, -2),
        AttrType.FLOATS: (0.25, -0.0), AttrType.STRINGS: ("a", ""), AttrType.BOOLEAN: True,
        AttrType.BOOLEANS: (True, False), AttrType.BLOCK: 3, AttrType.LONG: 1 << 40, AttrType.BLOCKS: (0, 1),
        AttrType.LONGS: (-(1 << 40),), AttrType.FLOAT64S: (1e300,), AttrType.FLOAT64: 0.1,
    }  # fmt: skip
    attrs = {kind.name: Attr(kind, value) for kind, value in values.items()}
    attrs |= {f"empty {kind.name}": Attr(kind, ()) for kind, v in values.items() if isinstance(v, tuple)}
    attrs |= {
        "zero": Attr(AttrType.INT, 0),
        "no": Attr(AttrType.BOOLEAN, False),
        "none": Attr(AttrType.STRING, ""),
    }
    model = NbModel("v", Program([Block(ops=[Op("x", attrs=attrs)])]))
    read = parse_nb(encode_nb(model)).ops[0].attrs
    assert read == attrs
    assert repr(read["FLOATS"].value) == "(0.25, -0.0)"


@pytest.mark.parametrize("dtype", ["?", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "u1", "i1"])
def test_every_tensor_type_survives(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    model = NbModel("v", Program([Block(ops=[Op("x")])]), {"w": array, "scalar": np.array(3, dtype)})
    read = parse_nb(encode_nb(model)).params
    assert read["w"].dtype == np.dtype(dtype) and np.array_equal(read["w"], array)
    assert read["scalar"].shape == ()


def test_variables_and_versions_survive():
    variables = [
        Var("feed", VarKind.FEED_MINIBATCH, VarKind.BOOL, (), persistable=True),
        Var("x", VarKind.LOD_TENSOR, VarKind.FP32, (-1, 3, 48, 192), lod_level=1, need_check_feed=True),
        Var("plain", VarKind.RAW),
    ]
    block = Block(variables, [Op("a", is_target=True)], 1, 2, 3)
    program = Program([block], 2006002, {"conv2d": 1, "a": 0})
    assert parse_nb(encode_nb(NbModel("v2.13-rc", program))).program == program


def test_meta_version_1_is_read(golden):
    from flatbuffers import Builder

    model = read_nb(golden("block_conv1x1").path)
    builder = Builder(1 << 16)
    records = []
    for name, array in model.params.items():
        text, data = builder.CreateString(name), builder.CreateByteVector(array.tobytes())
        builder.StartVector(8, array.ndim, 8)
        for extent in reversed(array.shape):
            builder.PrependInt64(extent)
        dims = builder.EndVector()
        builder.StartObject(5)
        builder.PrependUOffsetTRelativeSlot(2, dims, 0)
        builder.PrependInt32Slot(3, {"i1": 21, "f4": 5}[array.dtype.str[1:]], 0)
        builder.PrependUOffsetTRelativeSlot(4, data, 0)
        tensor = builder.EndObject()
        builder.StartObject(4)
        builder.PrependUOffsetTRelativeSlot(1, text, 0)
        builder.PrependUint8Slot(2, 1, 0)
        builder.PrependUOffsetTRelativeSlot(3, tensor, 0)
        records.append(builder.EndObject())
    builder.StartVector(4, len(records), 4)
    for record in reversed(records):
        builder.PrependUOffsetTRelative(record)
    listed = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, listed, 0)
    builder.Finish(builder.EndObject())
    topology = encode_program(model.program)
    data = struct.pack("<H16sQ", 1, b"v2.7", len(topology)) + topology + bytes(builder.Output())
    read = parse_nb(data)
    assert (read.meta_version, read.opt_version) == (1, "v2.7")
    assert same_params(read, model) and read.program == model.program


def test_files_that_are_none(tmp_path, golden):
    data = golden("block_dw3").path.read_bytes()
    cases = {
        "less than the 26": b"",
        "meta version 0": struct.pack("<H", 0) + data[2:],
        "meta version 20563": b"SP" + data[2:],
        "topology claims": data[:18] + struct.pack("<Q", 1 << 62) + data[26:],
        "truncated": data[:-40],
        "bytes follow the last parameter.*is damaged": data + b"x",
        "parameter version 9": data[: 26 + 7688] + struct.pack("<H", 9) + data[26 + 7688 + 2 :],
    }
    for message, content in cases.items():
        path = tmp_path / "file.nb"
        path.write_bytes(content)
        with pytest.raises(NbFormatError, match=message) as caught:
            read_nb(path)
        assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        read_nb(tmp_path / "missing.nb")


def test_a_damaged_write_leaves_the_old_file(tmp_path, golden):
    model = read_nb(golden("block_dw3").path)
    path = tmp_path / "model.nb"
    write_nb(model, path)
    before = path.read_bytes()
    broken = model.copy()
    broken.params["c"] = np.zeros(1, np.complex64)
    with pytest.raises(NbFormatError, match="complex64"):
        write_nb(broken, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["model.nb"]


@pytest.mark.parametrize("name", ["block_se", "cls_int8", "rec_int8_lstm8"])
def test_the_wheel_reads_what_we_write(golden, tmp_path, name):
    """``Opt().visualize_optimized_nb_model`` draws the same graph from opt's file and from ours."""
    drawn = []
    ours = tmp_path / f"{name}.nb"
    write_nb(read_nb(golden(name).path), ours)
    for path in (golden(name).path, ours):
        folder = tmp_path / f"drawn{len(drawn)}"
        folder.mkdir()
        call = f"visualize_optimized_nb_model({str(path)!r}, {str(folder)!r})"
        code = f"from paddlelite.lite import Opt; Opt().{call}"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
        drawn.append((folder / "Block_0.dot").read_text())
    assert drawn[0] == drawn[1] and "feed" in drawn[0]

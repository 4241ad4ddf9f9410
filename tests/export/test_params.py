"""The parameter file: written as Paddle writes it, and every kind of damage is one clear error."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from export import proto
from export.params import read_params, write_params
from slim.errors import InputError


def names(prefix: Path) -> list[str]:
    return [v.name for v in proto.parameters(proto.read_program(proto.model_path(prefix)))]


def test_round_trip_gives_paddles_bytes(cls_program: Path, tmp_path: Path) -> None:
    path = proto.params_path(cls_program)
    write_params(read_params(path, names(cls_program)), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_parameters_are_named_by_their_layer(cls_program: Path) -> None:
    assert "backbone.conv1.conv.weight" in names(cls_program)


@pytest.mark.parametrize("keep", [0, 1, 19, 20, 25, 400, -1])
def test_truncation(cls_program: Path, tmp_path: Path, keep: int) -> None:
    data = proto.params_path(cls_program).read_bytes()
    (tmp_path / "cut").write_bytes(data[:keep])
    with pytest.raises(InputError, match="truncated|holds 0 tensors"):
        read_params(tmp_path / "cut", names(cls_program))


def test_more_bytes_than_tensors(cls_program: Path, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(proto.params_path(cls_program).read_bytes() + b"12345")
    with pytest.raises(InputError, match="5 bytes more"):
        read_params(tmp_path / "long", names(cls_program))


def test_huge_shape_allocates_nothing(tmp_path: Path) -> None:
    # TensorDesc: field 1 (data type) 5 = float32, field 2 (dims) three times 2**30.
    desc = b"\x08\x05" + 3 * (b"\x10" + b"\x80\x80\x80\x80\x04")
    (tmp_path / "bomb").write_bytes(struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc + b"\0" * 64)
    with pytest.raises(InputError, match="needs more than"):
        read_params(tmp_path / "bomb", ["a"])


def test_a_header_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(struct.pack("<IQIi", 7, 0, 0, 4) + b"\0" * 64)
    with pytest.raises(InputError, match="not that of a tensor"):
        read_params(tmp_path / "odd", ["a"])


def test_integers_and_halves_survive(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.int64).reshape(2, 3),
        "b": np.array([1.5], np.float16),
        "c": np.array([[-3]], np.int8),
    }
    write_params(arrays, tmp_path / "p")
    again = read_params(tmp_path / "p", list(arrays))
    assert all(np.array_equal(again[k], v) and again[k].dtype == v.dtype for k, v in arrays.items())

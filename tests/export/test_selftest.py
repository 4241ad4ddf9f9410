"""The self-test of an exported folder: readable without our code, the same each time, and it can fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import selftest
from export.nb.format import Attr, AttrType, read_nb, write_nb
from export.runtimes import nb
from slim.errors import ArtifactError
from slim.numerics import file_sha256
from slim.stage import Check

from .conftest import Exported


def verify(folder: Path) -> tuple[Check, Check]:
    same_file, outputs = selftest.verify_selftest(folder)
    return same_file, outputs


def facts_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "selftest" / "selftest.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("fixture", "inputs", "tolerance"),
    [
        ("exported_cls", [[1, 3, 48, 192], [1, 3, 48, 192]], 1e-4),
        ("exported_int8", [[1, 3, 48, 192], [1, 3, 48, 192]], 1e-3),
        ("exported_rec", [[1, 3, 32, 96], [1, 3, 32, 160]], 1e-4),
    ],
)
def test_it_travels_with_the_artifact(
    request: pytest.FixtureRequest, fixture: str, inputs: list[list[int]], tolerance: float
) -> None:
    folder = request.getfixturevalue(fixture).folder
    facts = facts_of(folder)
    assert [row["input"]["shape"] for row in facts["cases"]] == inputs
    assert facts["tolerance"]["max_abs"] == tolerance and facts["tolerance"]["unit"]
    assert facts["nb_sha256"] == file_sha256(folder / facts["nb"])
    assert (facts["dtype"], facts["byte_order"], facts["opt_version"]) == ("float32", "little", "v2.13-rc")
    # Bytes: what the folder grows by.
    assert sum(p.stat().st_size for p in (folder / "selftest").iterdir()) <= 404_000
    assert all(check.passed for check in verify(folder))
    # On the machine that wrote it there is nothing to tolerate.
    assert verify(folder)[1].value == 0.0


def test_raw_files_are_what_the_json_says(exported_cls: Exported) -> None:
    """Read as an app would: bytes, shapes, no module of ours."""
    folder = exported_cls.folder / "selftest"
    runtime = nb.load(exported_cls.folder / "model.arm.nb")
    for row in facts_of(exported_cls.folder)["cases"]:
        x, y = (
            np.frombuffer((folder / row[side]["file"]).read_bytes(), "<f4").reshape(row[side]["shape"])
            for side in ("input", "output")
        )
        assert np.array_equal(runtime.run(np.array(x)), y) and np.abs(x).max() <= 1


def test_the_text_says_what_the_json_says(exported_rec: Exported) -> None:
    facts = facts_of(exported_rec.folder)
    words = iter((exported_rec.folder / "selftest" / "selftest.txt").read_text().split())
    assert [next(words), float(next(words)), int(next(words))] == ["model.arm.nb", 1e-4, len(facts["cases"])]
    for row in facts["cases"]:
        for side in ("input", "output"):
            assert next(words) == row[side]["file"]
            assert [int(next(words)) for _ in range(int(next(words)))] == row[side]["shape"]
    assert next(words, None) is None


def test_the_same_file_gives_the_same_bytes(exported_rec: Exported, tmp_path: Path) -> None:
    (tmp_path / "model.arm.nb").write_bytes((exported_rec.folder / "model.arm.nb").read_bytes())
    again = selftest.write_selftest(tmp_path / "model.arm.nb", (-1, 3, 32, -1))
    for path in (exported_rec.folder / "selftest").iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def scale_of_a_conv(model: Any) -> None:
    conv = next(op for op in model.ops if op.type == "conv2d" and op.kernel.precision == "int8")
    first, *rest = conv.attrs["Filter0_scale"].value
    conv.attrs["Filter0_scale"] = Attr(AttrType.FLOATS, (first * 1.1, *rest))


def last_bias(model: Any) -> None:
    name = [op.inputs["Bias"][0] for op in model.ops if op.type == "fc"][-1]
    model.params[name] = model.params[name] + np.array([0.5, 0.0], np.float32)


@pytest.mark.parametrize("damage", [scale_of_a_conv, last_bias])
def test_a_changed_model_fails(
    exported_int8: Exported, tmp_path: Path, damage: Callable[[Any], None]
) -> None:
    """Also beyond the device's tolerance: a phone would see it, too."""
    folder = exported_int8.copy(tmp_path / "damaged")
    model = read_nb(folder / "model.arm.nb").copy()
    damage(model)
    write_nb(model, folder / "model.arm.nb")
    same_file, outputs = verify(folder)
    assert (same_file.passed, same_file.value) == (False, 1)
    assert not outputs.passed and outputs.value > facts_of(folder)["tolerance"]["max_abs"]


def test_a_changed_expectation_fails(exported_cls: Exported, tmp_path: Path) -> None:
    folder = exported_cls.copy(tmp_path / "damaged")
    path = folder / "selftest" / "output0.f32"
    path.write_bytes((np.frombuffer(path.read_bytes(), "<f4") + np.float32(2e-5)).tobytes())
    same_file, outputs = verify(folder)
    assert same_file.passed and not outputs.passed
    path.write_bytes(np.full(2, np.nan, "<f4").tobytes())
    assert math.isnan(verify(folder)[1].value)


def cut(folder: Path, facts: dict[str, Any]) -> None:
    (folder / "input0.f32").write_bytes(b"\0" * 12)


def outside(folder: Path, facts: dict[str, Any]) -> None:
    facts["cases"][0]["input"]["file"] = "../model.arm.nb"


def huge(folder: Path, facts: dict[str, Any]) -> None:
    facts["cases"][0]["output"]["shape"] = [1 << 20, 1 << 20, 1 << 20]


def negative(folder: Path, facts: dict[str, Any]) -> None:
    facts["cases"][0]["input"]["shape"] = [-1, 3]


def gone(folder: Path, facts: dict[str, Any]) -> None:
    (folder / "output0.f32").unlink()


def other_nb(folder: Path, facts: dict[str, Any]) -> None:
    facts["nb"] = "/etc/passwd"


def no_cases(folder: Path, facts: dict[str, Any]) -> None:
    facts["cases"] = []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "has 12 bytes"),
        (outside, "no plain file name"),
        (huge, "at most"),
        (negative, "without file and shape"),
        (gone, "is missing"),
        (other_nb, "no plain file name"),
        (no_cases, "1 to 64 cases"),
    ],
)
def test_a_damaged_selftest_is_one_clear_error(
    exported_cls: Exported, tmp_path: Path, damage: Callable[[Path, dict[str, Any]], None], words: str
) -> None:
    folder = exported_cls.copy(tmp_path / "damaged")
    facts = facts_of(folder)
    damage(folder / "selftest", facts)
    (folder / "selftest" / "selftest.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ArtifactError, match=words) as caught:
        selftest.verify_selftest(folder)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((-1, 3, 48, 192), [(1, 3, 48, 192)] * 2),
        ((-1, 3, -1, -1), [(1, 3, 64, 96)] * 2),
        ((1, 3, 32, -1), [(1, 3, 32, w) for w in (96, 160, 64, 32)]),
    ],
)
def test_inputs_are_small(shape: tuple[int, ...], expected: list[tuple[int, ...]]) -> None:
    assert [x.shape for _, x in selftest._inputs(shape)] == expected

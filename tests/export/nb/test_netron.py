"""Netron, a viewer nobody here wrote, reads the files we write.

Its reader is JavaScript (paddle.js of the Python package ``netron``), so node runs it, without a window:
``netron_driver.mjs`` does what Netron's window does, up to the drawing. The package comes from the registry
into a temporary folder; without registry or node this fails and says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.nb.compact import compact
from export.nb.format import NbModel, read_nb, write_nb

VERSION = "9.3.3"
DRIVER = Path(__file__).with_name("netron_driver.mjs")
NAMES = ["cls_int8", "cls_fp32", "rec_int8", "det_mv3_int8"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def netron(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, Any]]:
    """What Netron says of a file."""
    node = shutil.which("node")
    assert node is not None, (
        "Netron's reader is JavaScript and node is not on PATH: install nodejs 18 or newer"
    )
    folder = tmp_path_factory.mktemp("netron")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    done = subprocess.run(
        [*command, f"netron=={VERSION}"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"netron {VERSION} could not be installed: {done.stderr[-500:]}"
    # Its modules are ES modules in .js files; node wants to be told so.
    (folder / "netron" / "package.json").write_text('{"type": "module"}')

    def read(path: Path) -> dict[str, Any]:
        done = subprocess.run(
            [node, str(DRIVER), str(folder / "netron"), str(path)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(done.stderr.strip())
        return json.loads(done.stdout)

    return read


def assert_same(seen: dict[str, Any], model: NbModel) -> None:
    """Operators in order, attributes, and every parameter's name, shape, dtype and bytes."""
    inner = [op for op in model.ops if op.type not in ("feed", "fetch")]
    assert (seen["type"], seen["graphs"], seen["inputs"], seen["outputs"]) == ("paddle.naive", 1, 1, 1)
    assert seen["ops"] == [op.type for op in inner]
    assert seen["attributes"] == sum(len(op.attrs) for op in inner)
    read = {name for op in inner for names in op.inputs.values() for name in names}
    expected = {
        name: {"name": name, "dtype": str(a.dtype), "shape": list(a.shape), "bytes": a.nbytes}
        for name, a in model.params.items()
        if name in read
    }
    assert {p["name"]: p for p in seen["parameters"]} == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lstm", ["float", "int8"])
def test_netron_reads_what_we_write(golden, netron, tmp_path: Path, name: str, lstm: str) -> None:
    model, _ = compact(read_nb(golden(name).path), lstm_weights=lstm)
    write_nb(model, tmp_path / "compact.nb")
    assert_same(netron(tmp_path / "compact.nb"), read_nb(tmp_path / "compact.nb"))


def test_netron_sees_the_same_operators_before_and_after(golden, netron, tmp_path: Path) -> None:
    """Against opt's own file: Netron has no part of ours in it."""
    before = netron(golden("cls_int8").path)
    model, _ = compact(read_nb(golden("cls_int8").path))
    write_nb(model, tmp_path / "compact.nb")
    after = netron(tmp_path / "compact.nb")
    assert Counter(before["ops"]) == Counter(after["ops"]) and after["attributes"] < before["attributes"]


def test_netron_refuses_a_damaged_file(golden, netron, tmp_path: Path) -> None:
    """The twin: the driver hides nothing."""
    data = golden("cls_int8").path.read_bytes()
    (tmp_path / "cut.nb").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="Error"):
        netron(tmp_path / "cut.nb")

"""A self-test that travels with the ARM file: inputs and expected outputs for the app on the phone.

Raw float32 files and one JSON, so that C++, Java and Swift can read it without our code; `docs/ON_DEVICE.md`
holds a program that does. The expected outputs come from the executor (`export.nb.executor`), that is from
the arithmetic of Paddle-Lite's ARM kernels, not from the float model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.compare import blocks
from export.nb.format import read_nb
from export.nb.model import NbModel
from export.program import random_input
from export.runtimes import nb
from slim import artifact
from slim.errors import ArtifactError, StageFailed
from slim.numerics import file_sha256, max_abs
from slim.stage import Check

FOLDER = "selftest"
FACTS = "selftest.json"
CASES = "selftest.txt"
FORMAT = 1
SEED = 20
# Bytes of all raw files together. A model of fixed large size or many classes still gets one input.
MAX_BYTES = 400_000
# Bytes a raw file may have when it is read again: 4096 x 4096 x 3 float32 would be 200 MB.
_MAX_FILE = 64 << 20
_MAX_CASES = 64
_WIDTHS = (96, 160)
_NARROW = (64, 32)
_DET_SIDES = (64, 96)
# Largest absolute difference on the device, and why.
TOLERANCES = {
    "float": (1e-4, "float sums may be taken in another order and exp is approximated; 3e-6 was measured"),
    "int8": (
        1e-3,
        "integer sums are exact, but a float in front of a rounding may differ in its last bit and one "
        "borderline value may round the other way; 5e-7 was measured",
    ),
}
# The executor against itself on another machine: only numpy's and BLAS's order of float sums may differ
# (2.4e-6 between two BLAS orders of the float classifier).
REPEAT_BOUND = 1e-5
_HOW = (
    "the executor of this toolkit, which follows the arithmetic of Paddle-Lite's ARM kernels (int8 sums "
    "exact, halves rounded away from zero, exp and division as on the device); no phone was involved"
)


@dataclass(frozen=True)
class Case:
    """One input and what must come out: float32 arrays of any shape."""

    name: str
    x: np.ndarray
    y: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.x.nbytes + self.y.nbytes


def write_selftest(path: Path, shape: Sequence[int]) -> Path:
    """Write ``selftest/`` beside an ARM nb file; the caller seals the folder afterwards.

    Files: ``inputI.f32`` and ``outputI.f32`` (float32, little-endian, row-major, no header),
    ``selftest.json``, and ``selftest.txt`` with the same shapes for programs without a JSON reader. The bytes
    depend on the nb and ``shape`` alone.

    Args:
        path: the nb file.
        shape: N x C x H x W of its input, -1 where dynamic.

    Returns:
        The folder written.

    Raises:
        StageFailed: an output is not finite.
    """
    cases = _choose(path, shape)
    for case in cases:
        if not np.isfinite(case.y).all():
            raise StageFailed(f"the output for {case.name!r} is not finite, no self-test", where=path)
    folder = path.parent / FOLDER
    folder.mkdir(exist_ok=True)
    rows = []
    for i, case in enumerate(cases):
        _write_raw(folder / f"input{i}.f32", case.x)
        _write_raw(folder / f"output{i}.f32", case.y)
        rows.append(_row(i, case))
    facts = _facts(path, read_nb(path), rows)
    artifact.write_json(folder / FACTS, facts)
    artifact.write_text(folder / CASES, _lines(facts))
    return folder


def verify_selftest(folder: Path) -> list[Check]:
    """Run the nb of an exported folder again on its self-test.

    Args:
        folder: the exported folder, which holds ``selftest/``.

    Returns:
        Two checks: the nb is the file the self-test was made from; the outputs are those stored.

    Raises:
        ArtifactError: the self-test is missing or damaged.
        InputError, NbFormatError, UnsupportedModel: its nb is.
    """
    facts = artifact.read_json(folder / FOLDER / FACTS)
    where = folder / FOLDER / FACTS
    path = folder / _plain_name(facts.get("nb"), where)
    if not path.is_file():
        raise ArtifactError(f"names {path.name}, which is missing", where=where, remedy="export again")
    cases = list(read_cases(folder / FOLDER))
    runtime = nb.load(path)
    worst = max((_distance(case.y, runtime.run(case.x)) for case in cases), key=lambda v: (math.isnan(v), v))
    changed = int(file_sha256(path) != facts.get("nb_sha256"))
    return [
        Check(f"self-test: {path.name} is not the file it was made from", changed, 0, "files", "=="),
        Check(f"self-test: largest difference on {len(cases)} inputs", worst, REPEAT_BOUND, "abs"),
    ]


def read_cases(folder: Path) -> Iterator[Case]:
    """The cases of a ``selftest`` folder; every name and size is checked before a file is read.

    Raises:
        ArtifactError: a file is missing, of another size than its shape says, or outside the folder.
    """
    where = folder / FACTS
    facts = artifact.read_json(where)
    rows = facts.get("cases")
    if facts.get("format") != FORMAT or not isinstance(rows, list) or not 0 < len(rows) <= _MAX_CASES:
        raise ArtifactError(
            f"is not a self-test of format {FORMAT} with 1 to {_MAX_CASES} cases",
            where=where,
            remedy="export again",
        )
    for row in rows:
        if not isinstance(row, dict):
            raise ArtifactError("holds a case that is no object", where=where, remedy="export again")
        x, y = (_read_raw(folder, row.get(side), where) for side in ("input", "output"))
        yield Case(str(row.get("name")), x, y)


def _choose(path: Path, shape: Sequence[int]) -> list[Case]:
    """Blocks, then noise, as many as fit into MAX_BYTES; at least one."""
    runtime = nb.load(path)
    cases: list[Case] = []
    for name, x in _inputs(shape):
        case = Case(f"{name} {x.shape[-2]}x{x.shape[-1]}", x, np.asarray(runtime.run(x), np.float32))
        if sum(c.nbytes for c in cases) + case.nbytes <= MAX_BYTES:
            cases.append(case)
        if len(cases) == 2:
            return cases
    return cases or [case]


def _inputs(shape: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Small inputs of that shape, widest first only where it is fixed."""
    batch, channels, height, width = shape
    if height <= 0:
        sizes = [_DET_SIDES] * 2
    elif width > 0:
        sizes = [(height, width)] * 2
    else:
        sizes = [(height, w) for w in (*_WIDTHS, *_NARROW)]
    for i, (h, w) in enumerate(sizes):
        full = (max(batch, 1), channels, h, w if width <= 0 else width)
        yield ("blocks", blocks(full, SEED + i)) if i % 2 == 0 else ("noise", random_input(full, SEED + i))


def _row(number: int, case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "input": {"file": f"input{number}.f32", "shape": list(case.x.shape)},
        "output": {"file": f"output{number}.f32", "shape": list(case.y.shape)},
    }


def _facts(path: Path, model: NbModel, rows: list[dict[str, Any]]) -> dict[str, Any]:
    kernels = (op.kernel for op in model.ops)
    precision = "int8" if any(k is not None and k.precision == "int8" for k in kernels) else "float"
    bound, reason = TOLERANCES[precision]
    return {
        "format": FORMAT,
        "nb": path.name,
        "nb_sha256": file_sha256(path),
        "opt_version": model.opt_version,
        "dtype": "float32",
        "byte_order": "little",
        "layout": "row-major, no header",
        "tolerance": {"max_abs": bound, "unit": "absolute difference of an output value", "reason": reason},
        "expected_by": _HOW,
        "cases": rows,
    }


def _lines(facts: dict[str, Any]) -> str:
    """The JSON's cases by words: nb, tolerance, count; then file, axes, extents of each input and output."""
    lines = [f"{facts['nb']} {facts['tolerance']['max_abs']:g} {len(facts['cases'])}"]
    for row in facts["cases"]:
        parts = (row["input"], row["output"])
        lines.append(
            " ".join(f"{p['file']} {len(p['shape'])} {' '.join(map(str, p['shape']))}" for p in parts)
        )
    return "\n".join(lines) + "\n"


def _write_raw(path: Path, array: np.ndarray) -> None:
    path.write_bytes(np.ascontiguousarray(array, "<f4").tobytes())


def _read_raw(folder: Path, entry: Any, where: Path) -> np.ndarray:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n <= _MAX_FILE for n in shape):
        raise ArtifactError("holds an entry without file and shape", where=where, remedy="export again")
    path = folder / _plain_name(entry.get("file"), where)
    expected = 4 * math.prod(shape)
    found = path.stat().st_size if path.is_file() else -1
    if found != expected or found > _MAX_FILE:
        raise ArtifactError(
            f"has {found} bytes, its shape {shape} needs {expected} (at most {_MAX_FILE})"
            if found >= 0
            else "is missing",
            where=path,
            remedy="export again",
        )
    return np.frombuffer(path.read_bytes(), "<f4").astype(np.float32).reshape(shape)


def _plain_name(name: Any, where: Path) -> str:
    """A file name without folders: what a JSON names must lie beside it."""
    if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name or "\0" in name:
        raise ArtifactError(
            f"names {name!r}, which is no plain file name", where=where, remedy="export again"
        )
    return name


def _distance(expected: np.ndarray, found: np.ndarray) -> float:
    return max_abs(expected, found) if expected.shape == found.shape else float("nan")

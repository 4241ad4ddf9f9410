"""Runs a file before and after compaction and compares the outputs.

A file that neither the executor nor the x86 runtime can run is not refused: the result says why it was not
run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.nb.executor import NbRuntime
from export.nb.model import NbModel, VarKind
from export.nb.reader import parse_nb
from export.nb.targets import target_of
from export.nb.writer import encode_nb, write_nb
from slim.errors import StageFailed, ToolMissing, UnsupportedModel

if TYPE_CHECKING:
    from export.nb.compact import CompactionReport

# How far an output (a probability) may move when LSTM matrices become int8. Measured on the trained CRNN:
# 6.8e-3.
LSTM_BOUND = 0.05
# Extents for inputs that leave them open: height, width in pixels. Multiples of 32, as det needs them.
_OPEN = (64, 96)


def probe_input(model: NbModel, images: int = 1) -> np.ndarray:
    """Seeded images of the shape the file declares: noise over bright and dark bars, values in [-1, 1].

    Returns:
        float32, ``images`` x C x H x W.
    """
    feeds = [name for op in model.ops if op.type == "feed" for name in op.outputs.get("Out", ())]
    declared = next(
        (
            v.dims
            for b in model.program.blocks
            for v in b.vars
            if v.name in feeds and v.kind is VarKind.LOD_TENSOR
        ),
        None,
    )
    dims = list(declared or ()) if declared and len(declared) == 4 else [-1, 3, -1, -1]
    channels = dims[1] if 0 < dims[1] <= 1024 else 3
    height = dims[2] if 0 < dims[2] <= 4096 else _OPEN[0]
    width = dims[3] if 0 < dims[3] <= 4096 else _OPEN[1]
    rng = np.random.default_rng(0)
    bars = np.where(np.arange(width) // 6 % 2 == 0, 0.7, -0.7)
    x = bars + rng.normal(0.0, 0.3, (images, channels, height, width))
    return np.clip(x, -1.0, 1.0).astype(np.float32)


def verify_equal(before: NbModel, after: NbModel, report: CompactionReport) -> dict[str, Any]:
    """Execute both files, the second as it will be written, on the same inputs.

    Args:
        report: of the compaction; unless it stored LSTM matrices as int8 every output bit must be equal.

    Returns:
        ``executed``, and where it is true ``max_abs``, ``bit_equal``, ``bound`` and ``images``; else ``why``;
        and ``passes`` of the compaction in both cases.

    Raises:
        StageFailed: the outputs differ by more than the bound.
    """
    try:
        x = probe_input(before, 2)
        first, second = _run(before, x), _run(parse_nb(encode_nb(after)), x)
    except (UnsupportedModel, ToolMissing) as error:
        return {"executed": False, "why": str(error), **report.to_json()}
    lstm_changed = any(p.name == "lstm_int8" and p.changes for p in report.passes)
    bound = LSTM_BOUND if lstm_changed else 0.0
    same_shape = first.shape == second.shape
    max_abs = float(np.abs(first - second).max(initial=0)) if same_shape else float("inf")
    if first.tobytes() == second.tobytes():
        max_abs = 0.0  # NaN is equal to itself here
    if not max_abs <= bound:
        raise StageFailed(
            f"compaction moved the output by {max_abs:.3g}, at most {bound:g} is allowed",
            remedy="keep the file as it was and report it",
        )
    equal = first.tobytes() == second.tobytes()
    result = {"executed": True, "images": len(x), "max_abs": max_abs, "bound": bound, "bit_equal": equal}
    return {**result, **report.to_json()}


def _run(model: NbModel, x: np.ndarray) -> np.ndarray:
    """ARM files by the executor, x86 files by the real runtime."""
    target = target_of(model)
    if target in ("arm", "host"):
        return NbRuntime(model).run(x)
    if target != "x86":
        raise UnsupportedModel(f"kernels for {target} are not executed here, only those for arm and x86")
    from export.runtimes import lite_x86

    with tempfile.TemporaryDirectory(prefix="nb-verify-") as folder:
        write_nb(model, Path(folder) / "model.nb")
        runtime = lite_x86.load(Path(folder) / "model.nb")
        try:
            return runtime.run(x)
        finally:
            runtime.close()

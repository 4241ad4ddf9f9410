"""Executor and x86 witness on rendered lines: int8 flips are counted, the text must be equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.nb import device_math, witness
from export.nb.executor import load
from export.nb.format import Attr, AttrType, read_nb, write_nb
from slim.data.dataset import open_dataset
from slim.ocr.preprocess import to_tensor
from slim.spec import InputSpec
from slim.synth.sets import synthesize

LINES = 200
INPUT = InputSpec(48, 192)
# Probability. Without a flip the two differ in the order of a few float sums (2.4e-7 on the goldens); one
# int8 value on the other side of a rounding moves a probability by far more than this.
SAME_ROUNDING = 1e-6
# Images of 200: 6 were seen with this seed (largest difference 3.3e-2, same answer). The likely cause, not
# shown: float operators between the int8 ones sum in another order on x86, and a value in front of a
# rounding falls on the other side of a half.
MAX_FLIPPED = 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """200 x 3 x 48 x 192, upright and turned."""
    folder = tmp_path_factory.mktemp("lines") / "cls"
    synthesize("cls", folder, {"train": 0, "eval": LINES, "calib": 0}, seed=3)
    dataset = open_dataset([folder / "eval.txt"], folder, kind="cls")
    return np.stack([to_tensor(dataset[i].image, INPUT) for i in range(LINES)])


def both(path: Path, executed: Path, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    runtime = witness.load(path)
    try:
        seen = np.concatenate([runtime.run(x[None]) for x in lines])
    finally:
        runtime.close()
    return seen, load(executed, math=device_math.LIBM).run(lines)


def flipped(seen: np.ndarray, found: np.ndarray) -> int:
    """Images whose outputs differ by more than float noise: an int8 value was rounded the other way."""
    return int((np.abs(seen - found).max(axis=1) > SAME_ROUNDING).sum())


def test_int8_classifier_on_lines(golden, lines: np.ndarray) -> None:
    path = golden("cls_int8").path
    seen, found = both(path, path, lines)
    print(f"images with an int8 flip: {flipped(seen, found)} of {LINES}")
    assert seen.shape == (LINES, 2)
    assert flipped(seen, found) <= MAX_FLIPPED
    assert (seen.argmax(axis=1) == found.argmax(axis=1)).all()
    # The lines are real ones for this model: it tells upright from turned, and both occur.
    assert 0.3 < found.argmax(axis=1).mean() < 0.7


def test_another_scale_is_counted(golden, lines: np.ndarray, tmp_path: Path) -> None:
    """The twin: one input scale off by 1% flips int8 values in nearly every image."""
    path = golden("cls_int8").path
    model = read_nb(path).copy()
    conv = next(op for op in model.ops if op.type == "conv2d" and op.kernel.precision == "int8")
    conv.attrs["Input0_scale"] = Attr(AttrType.FLOATS, (conv.attrs["Input0_scale"].value[0] * 1.01,))
    write_nb(model, tmp_path / "changed.nb")
    few = lines[:20]
    seen, found = both(tmp_path / "changed.nb", path, few)
    assert flipped(seen, found) >= 0.5 * len(few)

"""Paddle's Predictor: damaged files are errors, never a dead process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export import proto
from export.runtimes import paddle as predictor
from export.runtimes.base import open_runtime
from slim.errors import InputError, StageFailed


def test_folder_prefix_and_file_are_the_same(cls_program: Path) -> None:
    x = np.zeros((1, 3, 48, 192), np.float32)
    paths = (cls_program.parent, cls_program, proto.model_path(cls_program))
    outputs = [predictor.load(path).run(x) for path in paths]
    assert all(np.array_equal(outputs[0], out) for out in outputs)
    opened = open_runtime(cls_program.parent)
    assert opened.name == "paddle" and np.array_equal(opened.run(x), outputs[0])
    assert opened.last_seconds > 0


@pytest.mark.parametrize("keep", [0, 10, 5000])
def test_truncated_parameters(cls_program: Path, tmp_path: Path, keep: int) -> None:
    (tmp_path / "i.pdmodel").write_bytes(proto.model_path(cls_program).read_bytes())
    (tmp_path / "i.pdiparams").write_bytes(proto.params_path(cls_program).read_bytes()[:keep])
    with pytest.raises(InputError):
        predictor.load(tmp_path)


def test_a_wrong_input_is_one_line(cls_program: Path) -> None:
    runtime = predictor.load(cls_program)
    with pytest.raises(StageFailed, match=r"could not run input \(1, 4, 48, 192\)") as caught:
        runtime.run(np.zeros((1, 4, 48, 192), np.float32))
    assert "\n" not in str(caught.value)


def test_closed(cls_program: Path) -> None:
    runtime = predictor.load(cls_program)
    runtime.close()
    with pytest.raises(StageFailed, match="closed"):
        runtime.run(np.zeros((1, 3, 48, 192), np.float32))

"""The real runtime behind a pipe: what it refuses, what a crash becomes, and that it is quick."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from export.runtimes import lite_x86
from export.runtimes.base import open_runtime
from slim.errors import InputError, NbFormatError, StageFailed, UnsupportedModel
from slim.numerics import max_abs


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def runtime(exported_cls):  # type: ignore[no-untyped-def]
    opened = lite_x86.load(exported_cls.folder / "model.x86.nb")
    yield opened
    opened.close()


def test_float_file_equals_the_net(exported_cls, runtime) -> None:  # type: ignore[no-untyped-def]
    x = noise(3, 3, 48, 192)
    # Conv and BN folded: sums in another order; 1.6e-6 was measured.
    assert max_abs(runtime.run(x), exported_cls.bundle.run(x)) <= 1e-5


def test_other_widths_and_a_b_a(exported_rec) -> None:  # type: ignore[no-untyped-def]
    """One predictor alone corrupts its heap here; a predictor per shape does not."""
    rec = lite_x86.load(exported_rec.folder / "model.x86.nb")
    try:
        a, b = noise(1, 3, 32, 320), noise(2, 3, 32, 160)
        first, other, second = rec.run(a), rec.run(b), rec.run(a)
    finally:
        rec.close()
    assert max_abs(first, second) == 0.0
    # Probabilities behind an LSTM; 2.9e-6 was measured.
    assert max_abs(other, exported_rec.bundle.run(b)) <= 2e-5


def test_more_shapes_than_are_kept(runtime) -> None:  # type: ignore[no-untyped-def]
    a = noise(1, 3, 48, 192)
    first = runtime.run(a)
    for n in range(2, 12):
        assert runtime.run(noise(n, 3, 48, 192)).shape == (n, 2)
    assert max_abs(runtime.run(a), first) == 0.0


def test_arm_files_are_never_run(exported_cls, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    arm = exported_cls.folder / "model.arm.nb"
    with pytest.raises(UnsupportedModel, match="kernels are for arm"):
        lite_x86.load(arm)
    (tmp_path / "model.x86.nb").write_bytes(arm.read_bytes())  # the name says nothing
    with pytest.raises(UnsupportedModel, match="kernels are for arm"):
        lite_x86.load(tmp_path / "model.x86.nb")
    opened = open_runtime(tmp_path / "model.x86.nb")
    assert opened.name == "nb"


def test_a_damaged_file_is_an_error(exported_cls, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = (exported_cls.folder / "model.x86.nb").read_bytes()
    (tmp_path / "cut.nb").write_bytes(data[: len(data) // 2])
    with pytest.raises(NbFormatError):
        lite_x86.load(tmp_path / "cut.nb")
    with pytest.raises(InputError, match="no such file"):
        lite_x86.load(tmp_path / "none.nb")


@pytest.mark.parametrize("shape", [(1, 5, 48, 192), (1, 3, 48, 96), (1, 3, 48), (0, 3, 48, 192)])
def test_shapes_the_library_would_answer_with_garbage(runtime, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=r"the file reads \(-1, 3, 48, 192\)"):
        runtime.run(noise(*shape))


def test_a_killed_worker(exported_cls) -> None:  # type: ignore[no-untyped-def]
    opened = lite_x86.load(exported_cls.folder / "model.x86.nb")
    os.kill(opened._child.pid, signal.SIGKILL)
    with pytest.raises(StageFailed, match="killed by SIGKILL"):
        opened.run(noise(1, 3, 48, 192))
    with pytest.raises(StageFailed, match="was closed"):
        opened.run(noise(1, 3, 48, 192))


def test_close_ends_the_worker(exported_cls) -> None:  # type: ignore[no-untyped-def]
    opened = lite_x86.load(exported_cls.folder / "model.x86.nb")
    opened.close()
    opened.close()
    assert opened._child.returncode is not None


def test_the_pipe_costs_less_than_the_work(runtime) -> None:  # type: ignore[no-untyped-def]
    x, spent = noise(1, 3, 48, 192), []
    for _ in range(30):
        start = time.perf_counter()
        runtime.run(x)
        spent.append(time.perf_counter() - start - runtime.last_seconds)
    # Seconds; 0.3 to 0.5 ms were measured. The least, since other processes take the processor away at times.
    assert min(spent) < 0.001

"""slim bench: turns, percentiles and costs by hand; real files side by side; what goes wrong."""

from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from export import bench, bench_files
from export.bench_worker import by_op
from export.nb.executor import load
from export.program import save_program
from export.program_cost import program_macs
from slim.arch.cost import count
from slim.bundle import Bundle
from slim.cli.main import run
from slim.errors import InputError, StageFailed

from .conftest import Exported, noise


def test_files_take_turns_and_the_first_of_a_burst_is_not_counted() -> None:
    order: list[str] = []

    def burst(name: str, milliseconds: float) -> bench.Burst:
        def once(count: int) -> list[float]:
            order.append(f"{name}{count}")
            return [9.0] + [milliseconds / 1e3] * (count - 1)  # the first after a pause is slow

        return once

    found = bench.take_turns([burst("a", 2.0), burst("b", 4.0)], warm_up=3, runs=7)
    assert order == ["a3", "b3", "a6", "b6", "b3", "a3"]
    assert found == [bench.Latency(2.0, 2.0, 7, 2.0), bench.Latency(4.0, 4.0, 7, 4.0)]


def test_percentiles_by_hand() -> None:
    """Of 1 .. 11 ms the middle one is 6 and 90% of the way from the first to the last is 10."""
    counted = [k / 1e3 for k in range(1, 12)]
    skipped = [0.0]  # the first of each burst, and of the warm-up
    values = iter([*skipped * 2, *counted[:5], *skipped, *counted[5:10], *skipped, *counted[10:]])
    found = bench.take_turns([lambda n: [next(values) for _ in range(n)]], warm_up=1, runs=11)
    assert found == [bench.Latency(6.0, pytest.approx(10.0), 11, 1.0)]


def test_no_run_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bench.take_turns([], runs=0)


def test_operators_by_hand() -> None:
    """Two passes: conv 1 + 3 and 2 + 4 ms, median of the sums 5; softmax 5 and 5: a half each."""
    first = [("conv2d", "int8", 0.001), ("conv2d", "int8", 0.003), ("softmax", "float", 0.005)]
    second = [("conv2d", "int8", 0.002), ("conv2d", "int8", 0.004), ("softmax", "float", 0.005)]
    rows = {row["type"]: row for row in by_op([first, second])}
    assert rows["conv2d"]["count"] == 2 and rows["conv2d"]["ms"] == pytest.approx(5.0)
    assert rows["softmax"]["share"] == pytest.approx(0.5)


def test_memory_is_the_kernels_count() -> None:
    """32 MB more are seen within 4 MB; a peak never falls.

    In a process of its own: threads that earlier tests started may take memory in between.
    """
    code = """
import mmap
from export.bench_worker import memory_mb
print(memory_mb("VmRSS"))
held = mmap.mmap(-1, 32_000_000)
held.write(b"x" * len(held))
print(memory_mb("VmRSS"), memory_mb("VmHWM"))
held.close()
print(memory_mb("VmHWM"))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, held, peak, after = map(float, said.split())
    assert 28 < held - before < 36
    # The kernel adds up its counters of each processor late: a reading may be off by some pages.
    assert abs(after - peak) < 1 and peak >= before + 28


@pytest.mark.parametrize("kind", ["cls", "rec", "det"])
def test_a_programs_multiply_adds_are_the_nets(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle: Bundle = request.getfixturevalue(f"{kind}_bundle")
    save_program(bundle, tmp_path / "x")
    shape = {"cls": (3, 48, 192), "rec": (3, 32, 160), "det": (3, 96, 160)}[kind]
    assert program_macs(tmp_path / "x", (1, *shape)) == count(bundle.net, shape).flops > 1e6


def test_the_profile_is_of_every_operator(exported_int8: Exported) -> None:
    runtime = load(exported_int8.folder / "model.arm.nb")
    steps = runtime.profile(noise(1, 3, 48, 192))
    ops = [op.type for op in runtime.model.ops if op.type not in ("feed", "fetch")]
    assert [op.type for op, _ in steps] == ops
    assert all(spent > 0 for _, spent in steps)


def test_real_files_side_by_side(
    exported_int8: Exported, exported_cls: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of three models and a float file; multiply-adds are the net's, memory each one's own."""
    files = [str(exported_int8.folder), str(exported_cls.folder / "model.arm.nb")]
    asked = ["--runs", "3", "--warm-up", "1", "--per-op", "--threads", "2", "--json"]
    assert run(["bench", *files, *asked]) == 0
    data = json.loads(capsys.readouterr().out)
    rows = data["files"]
    assert [row["runtime"] for row in rows] == ["paddle", "nb", "lite-x86", "nb"]
    assert [row["int8_share"] for row in rows] == [0.0, 1.0, 0.0, 0.0]
    assert rows[0]["macs"] == rows[1]["macs"] == 16_315_376
    assert rows[0]["ratio"] == 1.0 and all(0 < row["p50_ms"] <= row["p90_ms"] for row in rows)
    assert all(row["runs"] == 3 and row["shape"] == [1, 3, 48, 192] for row in rows)
    # Paddle with its libraries weighs more than an executor in numpy: the processes are not one.
    assert rows[0]["peak_mb"] > 1.5 * rows[1]["peak_mb"] > 15
    # A net of 0.6 MB: Paddle's own 250 MB are not the model's.
    assert rows[2]["model_mb"] is None and rows[1]["model_mb"] > 0 and 0 < rows[0]["model_mb"] < 100
    assert sum(op["share"] for op in rows[1]["ops"]) == pytest.approx(1.0)
    assert {op["type"] for op in rows[1]["ops"]} >= {"conv2d", "calib"} and "ops" not in rows[0]
    # Paddle-Lite's wheel has no switch for threads: what is asked for is not what is claimed.
    assert [row["threads"] for row in rows] == [2, 2, 1, 2] and "threads" not in data
    notes = " ".join(data["notes"])
    assert f"{rows[2]['file']}: on one thread" in notes and rows[1]["file"] not in notes.split("on one")[0]
    assert "not a phone's" in notes and "executor" in notes and "no time by operator" in notes
    assert multiprocessing.active_children() == []


def test_a_file_that_kills_its_process_is_one_error(
    exported_cls: Exported, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_files.bench_worker, "work", _die)
    with pytest.raises(StageFailed, match=r"model\.arm\.nb: the process that ran it died \(exit code -6\)"):
        bench_files.bench([exported_cls.folder / "model.arm.nb"], runs=1)
    assert multiprocessing.active_children() == []


def test_a_process_that_hangs_and_ignores_sigterm_is_ended(
    exported_cls: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paddle's own handler of SIGTERM was once found waiting for a lock, and the command with it."""
    monkeypatch.setattr(bench_files.bench_worker, "work", _hang)
    monkeypatch.setattr(bench_files, "_LOAD_SECONDS", 3.0)
    with pytest.raises(StageFailed, match=r"model\.arm\.nb: did not answer within 3 s"):
        bench_files.bench([exported_cls.folder / "model.arm.nb"], runs=1)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("kept", [5000, None], ids=["damaged", "good"])
def test_a_process_whose_parent_is_gone_ends_quietly(
    kept: int | None, exported_cls: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its command was interrupted or failed on another file: nobody is left to answer."""
    nb = tmp_path / "model.arm.nb"
    nb.write_bytes((exported_cls.folder / "model.arm.nb").read_bytes()[:kept])
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (there, str(nb), (1, 3, 48, 192), 1, 0, False)
    process = context.Process(target=bench_files.bench_worker.work, args=arguments)
    process.start()
    here.close()
    there.close()
    process.join(60)
    assert process.exitcode == 0
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            MemoryError,
            InputError,
            r"no memory to run an input of 1x3x48x192 \(0 MB\); give a smaller --shape",
        ),
        (ZeroDivisionError, StageFailed, r"cannot be run \(ZeroDivisionError: in the library\)"),
    ],
)
def test_what_a_library_raises_is_one_error(
    error: type[Exception],
    kind: type[Exception],
    said: str,
    exported_cls: Exported,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench_files.bench_worker, "work", partial(_raising, error))
    with pytest.raises(kind, match=rf"model\.arm\.nb: {said}"):
        bench_files.bench([exported_cls.folder / "model.arm.nb"], runs=1)
    assert "Traceback" not in capfd.readouterr().err


def _raising(error: type[Exception], *arguments: Any) -> None:
    from export import program
    from export.bench_worker import work

    def fail(*shape: object) -> None:
        raise error("in the library")

    program.random_input = fail  # type: ignore[assignment]
    work(*arguments)


def test_a_worker_never_sees_a_ctrl_c_not_even_while_it_starts(
    exported_cls: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_files.bench_worker, "work", _tell_blocked)
    path = exported_cls.folder / "model.arm.nb"
    with bench_files.workers(
        [path], [(1, 3, 48, 192)], threads=1, seed=0, per_op=False, asked=False
    ) as found:
        assert found[0].runtime == "blocked"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def _tell_blocked(answers: Connection, *arguments: object) -> None:
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    answers.send(("ready", "blocked" if blocked else "open"))


def test_more_threads_than_processors_are_refused(
    exported_cls: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_files.os, "sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(InputError, match="is 3, this process may use 2 processors; give --threads 2 or less"):
        bench_files.bench([exported_cls.folder], threads=3)


def _hang(*arguments: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def _die(*arguments: object) -> None:
    import os

    os.abort()


def test_mistakes_are_one_line(
    exported_rec: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.nb"
    damaged.write_bytes((exported_rec.folder / "model.arm.nb").read_bytes()[:5000])
    (tmp_path / "empty").mkdir()
    arm = str(exported_rec.folder / "model.arm.nb")
    for args, code, said in (
        ([str(tmp_path / "none.nb")], 2, "none.nb"),
        ([str(damaged), "--shape", "1,3,32,320"], 2, "damaged.nb"),
        ([str(tmp_path / "empty")], 2, "holds 0 .pdmodel files"),
        ([str(damaged), "--shape", "1,3,0,x"], 2, "--shape is"),
        ([arm, "--shape", "1,1,32,320"], 2, f"{arm}: reads 3 channels, --shape has 1; give --shape 1,3,H,W"),
        ([str(exported_rec.folder / "inference"), "--shape", "1,1,32,320"], 2, "reads 3 channels"),
        ([arm, "--shape", "1,3,8,320"], 2, f"slim: {arm}, op "),
        ([arm, "--shape", "8,3,4096,4096"], 2, "402,653,184 values, at most"),
        ([str(exported_rec.folder / "inference"), "--shape", "1,3,64,320"], 2, "an input of 1x3x64x320 (P"),
        ([str(exported_rec.folder / "model.x86.nb"), "--shape", "1,3,64,320"], 2, "--shape it was made for"),
    ):
        assert run(["bench", *args]) == code
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in error and "unexpected" not in error, error


def test_a_program_may_be_named_in_three_ways(exported_cls: Exported) -> None:
    folder = exported_cls.folder / "inference"
    prefix = folder / "inference"
    assert bench_files.expand(folder) == [folder]
    assert bench_files.expand(prefix.with_suffix(".pdmodel")) == bench_files.expand(prefix) == [prefix]
    assert bench_files.input_shape(folder) == bench_files.input_shape(prefix) == (1, 3, 48, 192)
    found = bench_files.bench([prefix.with_suffix(".pdmodel")], runs=1, warm_up=0)["files"][0]
    assert (found["runtime"], found["bytes"] > 500_000) == ("paddle", True)


def test_a_size_that_the_file_states_needs_no_spec(exported_cls: Exported, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"of": "something else"}')
    (tmp_path / "model.nb").write_bytes((exported_cls.folder / "model.arm.nb").read_bytes())
    assert bench_files.input_shape(tmp_path / "model.nb") == (1, 3, 48, 192)


def test_a_file_without_a_fixed_size_asks_for_one(exported_rec: Exported, tmp_path: Path) -> None:
    alone = tmp_path / "alone.nb"
    alone.write_bytes((exported_rec.folder / "model.arm.nb").read_bytes())
    with pytest.raises(InputError, match="give --shape"):
        bench_files.input_shape(alone)
    spec = (exported_rec.folder / "spec.json").read_text()
    (tmp_path / "spec.json").write_text(spec.replace('"height": 32', '"height": 48'))
    with pytest.raises(InputError, match="no spec.json beside it fits"):  # that of another model
        bench_files.input_shape(alone)
    (tmp_path / "spec.json").write_text(spec)
    assert bench_files.input_shape(alone) == (1, 3, 32, 320)
    below = tmp_path / "below"
    below.mkdir()
    alone.rename(below / "alone.nb")
    with pytest.raises(
        InputError, match="no spec.json beside it fits"
    ):  # only inference/ is part of a folder
        bench_files.input_shape(below / "alone.nb")
    assert bench_files.input_shape(exported_rec.folder / "model.arm.nb") == (1, 3, 32, 320)

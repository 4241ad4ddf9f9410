"""opt in a child process: what a crash, a hang, an interrupt and a bad path become."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export import child, opt, proto
from export.nb.format import read_nb
from slim.errors import InputError, OptFailed, ToolMissing


def copied(prefix: Path, dest: Path) -> Path:
    dest.mkdir(parents=True, exist_ok=True)
    for source in (proto.model_path(prefix), proto.params_path(prefix)):
        (dest / source.name).write_bytes(source.read_bytes())
    return dest / prefix.name


def test_paths_with_spaces_and_the_same_bytes_twice(cls_program: Path, tmp_path: Path) -> None:
    prefix = copied(cls_program, tmp_path / "a folder")
    first = opt.run_opt(prefix, "arm", tmp_path / "out 1.nb").read_bytes()
    second = opt.run_opt(prefix, "arm", tmp_path / "out 2.nb").read_bytes()
    assert first == second
    assert first[2:18] == b"v2.13-rc".ljust(16, b"\0")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a folder", "out 1.nb", "out 2.nb"]


def test_targets_are_what_was_asked(cls_program: Path, tmp_path: Path) -> None:
    for target in opt.TARGETS:
        model = read_nb(opt.run_opt(cls_program, target, tmp_path / f"{target}.nb"))
        assert {op.kernel.target for op in model.ops if op.type == "conv2d" and op.kernel} == {target}
    with pytest.raises(InputError, match="target is 'gpu'"):
        opt.run_opt(cls_program, "gpu", tmp_path / "x.nb")


def test_truncated_parameters_crash_opt(cls_program: Path, tmp_path: Path) -> None:
    prefix = copied(cls_program, tmp_path / "cut")
    params = proto.params_path(prefix)
    params.write_bytes(params.read_bytes()[:1000])
    with pytest.raises(OptFailed, match=r"killed by SIGABRT.*export the model again") as caught:
        opt.run_opt(prefix, "arm", tmp_path / "x.nb")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "x.nb").exists()


def test_an_old_file_survives_a_failure(cls_program: Path, tmp_path: Path) -> None:
    prefix = copied(cls_program, tmp_path / "cut")
    proto.params_path(prefix).write_bytes(b"")
    (tmp_path / "x.nb").write_bytes(b"old")
    with pytest.raises(OptFailed):
        opt.run_opt(prefix, "arm", tmp_path / "x.nb")
    assert (tmp_path / "x.nb").read_bytes() == b"old"


def test_missing_program(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model"):
        opt.run_opt(tmp_path / "nothing", "arm", tmp_path / "x.nb")


def test_output_folder_that_is_not_there(cls_program: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose another --out"):
        opt.run_opt(cls_program, "arm", tmp_path / "absent" / "x.nb")


def test_time_limit(cls_program: Path, tmp_path: Path) -> None:
    with pytest.raises(OptFailed, match=r"did not end within 0.01 s; raise Export.timeout"):
        opt.run_opt(cls_program, "arm", tmp_path / "x.nb", timeout=0.01)


def test_return_code_0_without_a_file_is_a_failure(
    cls_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = tmp_path / "lazy.py"
    lazy.write_text("print('done')\n")
    monkeypatch.setattr(opt, "SCRIPT", lazy)
    with pytest.raises(OptFailed, match="wrote no file"):
        opt.run_opt(cls_program, "arm", tmp_path / "x.nb")


def test_no_paddlelite(cls_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import sys; sys.stderr.write('libgomp.so.1 missing'); sys.exit(86)\n")
    monkeypatch.setattr(opt, "SCRIPT", broken)
    with pytest.raises(ToolMissing, match="libgomp") as caught:
        opt.run_opt(cls_program, "arm", tmp_path / "x.nb")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("said", "code", "remedy"),
    [
        ("[F  2/ 1 op_lite.cc] No attributes called beta found for swish", -6, "swish lacks"),
        ("Check failed: no valid out_shape", -6, "shape []"),
        ("", -11, "flatten"),
        ("Error: This model is not supported, because 1 ops are not supported", -6, "operator"),
        ("something new", -6, "see what opt said"),
    ],
)
def test_advice(said: str, code: int, remedy: str) -> None:
    assert remedy in opt.advice(said, code)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    """Whether a killed process is gone within 5 s: the signal takes a moment; alone it would sleep 60 s."""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.05)
    return False


_SLEEPERS = (
    "import subprocess, sys, time, pathlib; p = subprocess.Popen(['sleep', '60']);"
    "pathlib.Path(sys.argv[1]).write_text(str(p.pid)); time.sleep(60)"
)


def wait_for(path: Path) -> int:
    for _ in range(200):
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("the child did not start")


def test_the_time_limit_kills_grandchildren_too(tmp_path: Path) -> None:
    ended = child.run([sys.executable, "-c", _SLEEPERS, str(tmp_path / "pid")], timeout=6.0, cwd=tmp_path)
    assert ended.timed_out and ended.died_of == "ran out of time"
    assert gone(int((tmp_path / "pid").read_text()))


def test_an_interrupt_kills_the_child(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from export import child;"
        f"child.run([sys.executable, '-c', {_SLEEPERS!r}, sys.argv[1]], timeout=60, cwd=Path('.'))"
    )
    root = str(Path(opt.__file__).resolve().parents[1])
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "pid")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stderr=subprocess.PIPE,
    )
    pid = wait_for(tmp_path / "pid")
    assert alive(pid)
    parent.send_signal(signal.SIGINT)
    _, err = parent.communicate(timeout=20)
    assert b"KeyboardInterrupt" in err
    assert gone(pid)

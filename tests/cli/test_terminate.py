"""SIGTERM ends a command as Ctrl-C does, whether Paddle is loaded or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slim.config.overrides import data_overrides


@pytest.mark.parametrize("first", ["", "import paddle; "])
def test_it_arrives_as_keyboard_interrupt(first: str) -> None:
    """Paddle's import puts its own handler in the place of any other."""
    code = (
        "import os, signal, time; from slim.cli import terminate\n"
        f"terminate.as_interrupt(); {first}\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("interrupted", 0), done.stderr[-2000:]


def test_a_command_ends_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "lines"
    command = [sys.executable, "-m", "slim", "synth", "--task", "cls", "--train", "100000", "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    child.stderr.readline()  # it is at work
    child.terminate()
    said = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert said.splitlines()[-1].startswith("slim: interrupted;") and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", ["", "signal.signal(signal.SIGINT, signal.SIG_IGN); "])
def test_what_must_not_be_halved_is_finished_first(before: str) -> None:
    """Also in a shell's background job, where Ctrl-C is ignored. A launcher sends three in a row."""
    code = (
        f"import os, signal, time; {before}from slim.cli import terminate\n"
        "from slim.interrupts import interrupts_wait\n"
        "terminate.as_interrupt()\n"
        "try:\n    with interrupts_wait():\n"
        "        for _ in range(3): os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.05)\n"
        "        print('step finished')\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["step finished", "interrupted"], done.stderr[-2000:]


def test_more_of_them_at_the_end_are_no_traceback() -> None:
    code = (
        "import atexit, importlib, os, signal, time\n"
        "main = importlib.import_module('slim.cli.main')\n"
        "main.run = lambda args: 130\n"
        "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(0.2)))\n"
        "main.main([])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.slow
def test_training_writes_its_checkpoint(few_lines: Path, tmp_path: Path) -> None:
    """The only one: the recipe's own come every 400 epochs."""
    given = [*data_overrides(few_lines), f"Global.save_model_dir={tmp_path}", "Global.epoch_num=500"]
    given += ["Train.loader.batch_size_per_card=8", "Global.save_epoch_step=400"]
    command = [sys.executable, "-m", "slim", "train", "-c", "cls/cls_demo", "--json", "-o", *given]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while not child.stderr.readline().startswith("step"):
        assert child.poll() is None
    os.kill(child.pid, signal.SIGTERM)
    began = time.monotonic()
    said, heard = child.communicate(timeout=120)
    print(f"ended after {time.monotonic() - began:.1f} s")
    assert (child.returncode, json.loads(said)["exit_code"]) == (130, 130), heard[-2000:]
    assert "FatalError" not in heard and (tmp_path / "latest.pdparams").is_file()

"""Every command that a page shows is run: here, as it stands, or by a test that is named here.

A page's `sh` blocks are run in order by `bash -e` in an empty folder that holds what a reader would have. The
`slim` found there is the real one with a shorter job: it appends overrides such as `Prune.images=16` (SHORT).
What is run is the line of the page; what is measured is whether it works, not what it reaches.
"""

from __future__ import annotations

import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from slim import zoo
from slim.cli.app import app
from slim.cli.main import run
from slim.progress import Silent
from slim.synth import synthesize

# Appended to a command that reads a configuration, and to those with a size of their own.
OVERRIDES = [
    "Prune.images=16",
    "Prune.bn_batches=1",
    "Prune.Finetune.steps=1",
    "Prune.Finetune.batch_size=4",
    "Quant.images=16",
    "Quant.Finetune.steps=1",
    "Quant.Finetune.batch_size=4",
    "Check.images=20",
    "Check.simulation_images=16",
    "Check.witness_images=4",
    # A step on four lines proves nothing about accuracy.
    "Check.max_drop=100",
    "Check.min_agreement=0",
    "Train.loader.batch_size_per_card=16",
]
# These cuts take a thousand steps and more to learn from; after one nothing is read any more.
HARD = "rec/en_number_fast|det/en_synthetic_det_small"
MILD = ["Prune.ratio=0.05", "Check.min_flops_cut=null", "Check.max_nb_ratio=null"]
SHORT = rf"""#!/bin/bash
case "$1" in
  synth) set -- "$@" --train 40 --eval 24 --calib 16 ;;
  eval) set -- "$@" --images 16 ;;
  bench) set -- "$@" --runs 2 --warm-up 1 ;;
esac
if [[ "$1" == run || ( "$1" =~ ^(prune|quant|check|train)$ && " $* " == *" -c "* ) ]]; then
  set -- "$@" -o {" ".join(OVERRIDES)}
  [[ " $* " =~ \ ({HARD})\  ]] && set -- "$@" {" ".join(MILD)}
fi
exec {shlex.quote(sys.executable)} -m slim "$@"
"""

# What needs a network, a phone, an hour or an environment of its own -> the test that runs the like of it.
# The targets of make would install into, or rewrite, what the tests run from: `.ci/run` runs install,
# quality, test and demo as they stand in a clone of their own, and the test named here sees that it does.
ZOO, ONNX = "tests/zoo/test_pull.py::", "tests/importing/test_onnx.py::"
PADDLE, CI = "tests/importing/test_paddle.py::", "tests/packaging/test_ci.py::"
STEPS = "test_ci_runs_every_step_and_closes_with_the_test_runners_line"
SAYS = "test_the_command_says_what_it_did_and_keeps_what_is_there"
FONTS = "tests/synth/test_language.py::test_no_box_is_drawn_and_each_text_has_its_font"
BENCHMARKS = "tests/docs/test_commands.py::test_benchmarks_parse"
LAUNCH = "tests/distributed/test_stages.py::test_two_processes_prune_as_one"
ELSEWHERE: dict[str, str] = {
    "make (format|reference|test-slow).*": "tests/docs/test_commands.py::test_make_knows_the_targets",
    "(make (install|quality|test|demo)( ARGS=.*)?|bash .ci/run)": f"{CI}{STEPS}",
    "slim models pull .*": f"{ZOO}test_pulled_once_and_found_again",
    "slim prune -c rec/korean_mobile_v2.0_rec --model zoo:.*": f"{ZOO}test_pulled_weights_open_by_name",
    "slim import inference/ -c rec/korean.*": f"{PADDLE}{SAYS}",
    "slim import model.onnx .*": f"{ONNX}test_weights_come_back_from_onnx",
    "slim quant .* --model inference/ --mode ptq": f"{PADDLE}test_quant_takes_a_bare_inference_folder",
    "slim synth .* --fonts my_fonts": FONTS,
    "python -m paddle.distributed.launch .*": LAUNCH,
    "make bench.*": "tests/benchmarks/test_peers.py::test_a_quick_run_of_all",
    "OMP_NUM_THREADS=1 python -m benchmarks.*": BENCHMARKS,
    "(LITE=|\\$NDK|adb ).*": "tests/export/test_on_device.py::test_right_answers_pass",
}
# Pages whose blocks another test runs as they stand.
OWN_TEST = {"docs/CI.md": "tests/test_ci_doc.py::test_the_commands_run_as_they_stand"}
RUN_HERE = ("README.md", "docs/HOWTO.md", "docs/TUTORIAL.md", "docs/results/README.md")
# Commands of a second or two, which the fast tests run too.
LIGHT = re.compile(r"slim (config (list|check|show)|models$|models show|doctor)")
# What the pages' own variables stand for.
NAMES = {"D": "data/cls", "NAME": "cls/cls_demo", "MODEL": "zoo:ch_ppocr_mobile_v2.0_cls"}


def elsewhere(command: str) -> str | None:
    """The test that runs a command which is not run here."""
    return next((test for shape, test in ELSEWHERE.items() if re.fullmatch(shape, command)), None)


def slim_lines(commands: list[str]) -> Iterator[list[str]]:
    """Arguments of the calls of slim, variables filled in."""
    for command in commands:
        text = re.sub(r"\$(\w+)", lambda match: NAMES.get(match[1], "A.b=1"), command).partition(" | ")[0]
        if text.startswith("slim "):
            yield shlex.split(text)[1:]


def parse(args: list[str]) -> None:
    """Raise click.UsageError for a command or an option that is not there."""
    above = click.Context(app, info_name="slim", **app.context_settings)
    name, command, rest = app.resolve_command(above, args)
    assert command is not None
    if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        above = click.Context(command, above, info_name=name)
        name, command, rest = command.resolve_command(above, rest)
        assert command is not None
    command.make_context(name, rest, parent=above)


# --- fast ----------------------------------------------------------------------------------------


def test_every_command_is_run_by_a_test(pages: dict[str, Any], checkout: Path) -> None:
    unknown = []
    for name, page in pages.items():
        if name in RUN_HERE or name in OWN_TEST:
            continue
        unknown += [f"{name}: {command}" for command in page.commands() if elsewhere(command) is None]
    assert unknown == [], "add the page to RUN_HERE, or the command to ELSEWHERE with the test that runs it"
    for test in {*ELSEWHERE.values(), *OWN_TEST.values()}:
        file, _, function = test.partition("::")
        assert f"def {function}(" in (checkout / file).read_text(encoding="utf-8"), test
    shown = [command for page in pages.values() for command in page.commands()]
    idle = [shape for shape in ELSEWHERE if not any(re.fullmatch(shape, command) for command in shown)]
    assert idle == []


def test_no_command_hides_in_a_block_of_another_kind(pages: dict[str, Any]) -> None:
    hidden = []
    for name, page in pages.items():
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", page.text, re.M | re.S):
            if language in ("bash", "shell", "console"):
                hidden.append(f"{name}: {language}")
            if language == "" and re.search(r"^(slim|make|python) ", block, re.M):
                hidden.append(f"{name}: {block[:40]}")
    assert hidden == []


def test_every_slim_command_of_the_pages_parses(pages: dict[str, Any]) -> None:
    count = 0
    for page in pages.values():
        for args in slim_lines(page.commands()):
            parse(args)
            count += 1
    assert count > 60


@pytest.mark.parametrize("args", [["prune", "--colour"], ["qant"], ["models", "pull"], ["config", "check"]])
def test_a_command_that_is_wrong_is_seen(args: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse(args)


def test_commands_within_the_text_exist(pages: dict[str, Any]) -> None:
    """`slim prune --show-groups` in a sentence: the command is there, and so is each option."""
    count = 0
    for name, page in pages.items():
        prose = re.sub(r"^```.*?^```$", "", page.text, flags=re.M | re.S)
        for words in (span.split() for span in re.findall(r"`slim ([a-z][^`]*)`", prose)):
            command = app.get_command(click.Context(app), words[0])
            assert command is not None, f"{name}: slim {' '.join(words)}"
            inner = command.commands.get(words[1]) if isinstance(command, click.Group) and words[1:] else None
            known = {o for found in (command, inner) if found for p in found.params for o in p.opts}
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            assert set(options) <= known, f"{name}: slim {' '.join(words)}"
            count += 1
    assert count > 20


def test_light_commands_run(pages: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    found = [c for name in RUN_HERE for c in pages[name].commands() if LIGHT.match(c)]
    assert len(found) >= 5
    for args in slim_lines(found):
        assert run(args) == 0, args
        assert capsys.readouterr().out


def test_make_knows_the_targets(pages: dict[str, Any], checkout: Path) -> None:
    targets = {c.split()[1] for page in pages.values() for c in page.commands() if c.startswith("make ")}
    assert len(targets) >= 6
    for target in targets:
        dry = ["make", "-n", "-C", str(checkout), target]
        assert subprocess.run(dry, capture_output=True, timeout=60, check=False).returncode == 0, target


def test_benchmarks_parse(pages: dict[str, Any], checkout: Path) -> None:
    """Their options exist; what they compute takes minutes to hours and is tested beside each."""
    commands = {c for page in pages.values() for c in page.commands() if "python -m benchmarks." in c}
    modules: dict[str, str] = {}
    for command in commands:
        module, *options = command.partition("benchmarks.")[2].partition(" > ")[0].split()
        source = modules.setdefault(module, (checkout / "benchmarks" / f"{module}.py").read_text("utf-8"))
        assert all(f'"{o}"' in source for o in options if o.startswith("--")), command


# --- slow: the pages as they stand ---------------------------------------------------------------


def _lines(folder: Path) -> None:
    """What the demo's recipes read, and a reader's own lines."""
    for task in ("cls", "rec"):
        counts = {"train": 40, "eval": 24, "calib": 16}
        synthesize(task, folder / "output" / "demo" / "data" / task, counts, 5, None, Silent())
    synthesize("rec", folder / "mine", {"train": 40, "eval": 0, "calib": 0}, 6, None, Silent())
    rows = (folder / "mine" / "train.txt").read_text(encoding="utf-8").splitlines()
    (folder / "label.txt").write_text("".join(f"mine/{row}\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of a page, and the exported models that read it beside the recognizer."""
    folder = tmp_path_factory.mktemp("page")
    with tempfile.TemporaryDirectory() as pages:
        synthesize("det", Path(pages) / "set", {"train": 0, "eval": 1, "calib": 0}, 5, None, Silent())
        shutil.copy(next(Path(pages).rglob("*.jpg")), folder / "photo.jpg")
    for model, out in (("en_synthetic_det", "d1"), ("ch_ppocr_mobile_v2.0_cls", "c1")):
        assert run(["export-nb", f"zoo:{model}", "--out", str(folder / out)]) == 0
    return folder


@pytest.fixture
def reader(tmp_path: Path, checkout: Path, page: Path) -> Path:
    """A folder with what a reader of the pages has, and the shortened `slim` first on the path."""
    folder = tmp_path / "a folder"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "slim").write_text(SHORT, encoding="utf-8")
    (folder / "bin" / "slim").chmod(0o755)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").write_text("", encoding="utf-8")
    _lines(folder)
    weights = zoo.find("en_number_synthetic_crnn").path.read_bytes()
    (folder / "best_accuracy.pdparams").write_bytes(weights)
    (folder / "my_config.yml").write_text("_base_: rec/en_number_demo\n", encoding="utf-8")
    nb = (checkout / "tests/golden/nb/rec_int8.nb.xz").read_bytes()
    (folder / "other.arm.nb").write_bytes(lzma.decompress(nb))
    shutil.copytree(page, folder, dirs_exist_ok=True)
    np.save(folder / "input.npy", np.zeros((1, 3, 32, 320), np.float32))
    return folder


def _bash(script: str, folder: Path, checkout: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **NAMES, "PATH": path, "PYTHONPATH": str(checkout)}
    command = ["bash", "-e", "-o", "pipefail", "-x", "-c", script]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3600, check=False
    )


def page_script(commands: list[str]) -> str:
    """The commands of a page that are run here."""
    return "\n".join(command for command in commands if elsewhere(command) is None)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_HERE)
def test_the_commands_of_a_page_run_in_its_order(
    name: str, pages: dict[str, Any], reader: Path, checkout: Path
) -> None:
    script = page_script(pages[name].commands())
    assert len(script.splitlines()) >= 5
    done = _bash(script, reader, checkout)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_command_that_fails_stops_a_page(reader: Path, checkout: Path, split: Callable[..., Any]) -> None:
    commands = split("slim config check none.yml   # no such file\nslim config list\n")
    done = _bash(page_script(commands), reader, checkout)
    assert done.returncode == 2 and "no such file" in done.stderr
    assert "+ slim config list" not in done.stderr

"""A full disk, a read-only folder: one line, nothing half there, and the old result stays."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slim.artifact import verify

STAGES = ("train", "prune", "quant", "export-nb")
# Bytes no file may pass, as on a disk with so much left: under the smallest weights and .nb file here.
LEFT = 30_000
# How the one line says it: Python's writers, and Paddle's and opt's, which say nothing themselves.
FULL = ("File too large", "free some space there", "opt for")
Hashes = Callable[[Path], dict[str, str]]
OneLine = Callable[[str], str]


def _strays(folder: Path) -> set[str]:
    """What stages write aside."""
    return {path.name for path in folder.rglob("*") if ".tmp-" in path.name or ".old-" in path.name}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_no_space_left(stage: str, slim: Any, tmp_path: Path, hashes: Hashes, one_line: OneLine) -> None:
    out = tmp_path / "runs" / "one"
    code, said = slim.run(slim.stage(stage, out), file_bytes=LEFT)
    assert code in (2, 4)
    assert any(words in one_line(said) for words in FULL), said
    assert stage == "train" or not out.exists()
    assert _strays(tmp_path) == set()
    code, said = slim.run(slim.stage(stage, out))
    assert code == 0, said[-2000:]  # with space again it goes on
    if stage == "train":
        return
    before = hashes(out)
    args = slim.stage(stage, out, "Prune.Finetune.steps=9", "Quant.Finetune.steps=9")
    code, said = slim.run(args, file_bytes=LEFT)
    assert code in (2, 4) and one_line(said)
    assert hashes(out) == before  # the old result stands
    verify(out)


MOUNTS = ("unshare", "-r", "-m", "bash", "-c")


@pytest.fixture(scope="module")
def mounts() -> tuple[str, ...]:
    """Words that give a command mounts of its own."""
    tried = subprocess.run([*MOUNTS, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("needs user namespaces with mounts: unshare -r -m")
    return MOUNTS


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kilobytes", [100, 700])
def test_a_full_file_system(
    stage: str, kilobytes: int, slim: Any, tmp_path: Path, mounts: tuple[str, ...], one_line: OneLine
) -> None:
    """A file system of 100 kB has no room for the weights; one of 700 kB for these alone."""
    mount = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$0"'
    script = mount + ' && "$@"; code=$?; { echo; find "$0"; } >&2; exit $code'
    code, said = slim.run(slim.stage(stage, tmp_path / "one"), before=(*mounts, script, str(tmp_path)))
    said, _, listed = said.partition("\n\n") if "\n\n" in said else (said, "", "")
    assert code in (2, 4), said[-2000:]
    assert one_line(said)
    assert ".tmp-" not in listed and "manifest.json" not in listed


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_read_only_folder_is_refused_before_the_work(
    stage: str, slim: Any, tmp_path: Path, mounts: tuple[str, ...], one_line: OneLine
) -> None:
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && "$@"'
    code, said = slim.run(slim.stage(stage, tmp_path / "one"), before=(*mounts, script, str(tmp_path)))
    assert code == 2
    assert "Read-only file system" in one_line(said)
    assert "train" not in said.splitlines()[0] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "args", [["config", "list"], ["config", "show", "cls/cls_demo"], ["models", "--json"]]
)
def test_a_full_disk_behind_stdout(args: list[str], slim: Any, one_line: OneLine) -> None:
    code, said = slim.run(args, before=("bash", "-c", '"$@" > /dev/full', "bash"))
    assert code == 2
    assert "No space left on device" in one_line(said)
    assert len(said.strip().splitlines()) == 1

"""docs/CI.md: every command on the page parses, and run in the page's order they do what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
import yaml

from slim.cli.app import app
from slim.compare.references import references_from


@pytest.fixture(scope="module")
def blocks(checkout: Path) -> dict[str, list[str]]:
    """Fenced blocks of the page by language."""
    found: dict[str, list[str]] = {}
    page = (checkout / "docs" / "CI.md").read_text(encoding="utf-8")
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S):
        found.setdefault(language, []).append(text)
    return found


def _github(blocks: dict[str, list[str]]) -> dict[str, str]:
    """Step name -> what it runs, without the installation."""
    (job,) = yaml.safe_load(blocks["yaml"][0])["jobs"].values()
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    assert "pip install" in steps.pop("Install")
    return steps


def _gitlab(blocks: dict[str, list[str]]) -> str:
    (job,) = yaml.safe_load(blocks["yaml"][1]).values()
    return "\n".join(job["script"])


def _slim_lines(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in text.splitlines() if line.strip().startswith("slim ")]


def test_every_command_of_the_page_parses(blocks: dict[str, list[str]]) -> None:
    lines = _slim_lines("\n".join([*blocks["sh"], *_github(blocks).values(), _gitlab(blocks)]))
    assert len(lines) == 10
    for args in lines:
        name, command, rest = app.resolve_command(click.Context(app), args)
        assert command is not None
        command.make_context(name, rest)  # raises click.UsageError for an option that is not there


def test_the_page_shows_references_that_are_read(blocks: dict[str, list[str]]) -> None:
    data: Any = yaml.safe_load(blocks["yaml"][2])
    found = references_from(data, Path("refs.yml"))
    assert found.models["cls_demo"]["x86_nb_bytes"].tolerance == pytest.approx(0.02 * 461566)


def _bash(script: str, folder: Path, checkout: Path) -> subprocess.CompletedProcess[str]:
    """As a runner does it: `bash -e`, in the repository."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    summary = str(folder / "summary.md")
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(checkout), "GITHUB_STEP_SUMMARY": summary}
    command = ["bash", "-e", "-c", script]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_the_commands_run_as_they_stand(blocks: dict[str, list[str]], tmp_path: Path, checkout: Path) -> None:
    folder = tmp_path / "a repository"
    folder.mkdir()
    done = _bash(blocks["sh"][0], folder, checkout)
    assert done.returncode == 0, done.stderr
    stored = (folder / "refs.yml").read_text()
    for script in (_gitlab(blocks), *_github(blocks).values()):
        done = _bash(script, folder, checkout)
        assert done.returncode == 0, done.stderr
    assert "## slim compare: passed" in (folder / "summary.md").read_text()
    assert ElementTree.parse(folder / "compare.xml").getroot().get("failures") == "0"
    # The same commands must be able to fail: the references say that the file was smaller, and a text other.
    (folder / "refs.yml").write_text(re.sub(r"(arm_nb_bytes: {value: )\d+", r"\g<1>100000", stored))
    done = _bash(_github(blocks)["Compare"], folder, checkout)
    assert done.returncode == 1
    assert "regression" in done.stderr
    assert ElementTree.parse(folder / "compare.xml").getroot().get("failures") == "1"
    (folder / "refs.yml").unlink()
    assert _bash(_github(blocks)["Compare"], folder, checkout).returncode == 2

"""Standard streams that are closed or full: no traceback, and nothing lands where it does not belong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def slim(redirection: str, *args: str) -> subprocess.CompletedProcess[str]:
    """``slim ARGS`` in a shell with a redirection of its own."""
    command = ["bash", "-c", f'"$@" {redirection}', "bash", sys.executable, "-m", "slim", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("redirection", [">&-", "<&- >&-"])
def test_a_closed_stdout_is_no_error(redirection: str) -> None:
    found = slim(redirection, "models", "--json")
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_an_error_that_cannot_be_told_keeps_its_exit_code_and_leaves_stdout_alone(redirection: str) -> None:
    found = slim(redirection, "nonsense")
    assert (found.returncode, found.stdout) == (2, "")


def test_no_file_gets_the_number_of_a_closed_stream_here_or_in_a_child() -> None:
    program = (
        "import os, sys; from slim.cli.streams import hold; hold();"
        "inherited = all(map(os.get_inheritable, range(3))); sys.exit(os.open('/', 0) if inherited else 1)"
    )
    command = ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", program]
    assert subprocess.run(command, timeout=60, check=False).returncode == 3  # behind the three of them


def test_an_error_as_json_that_cannot_be_told_is_told_on_stderr() -> None:
    found = slim(">/dev/full", "nonsense", "--json")
    assert (found.returncode, found.stderr) == (2, "slim: no command 'nonsense'; see 'slim --help'\n")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("models", "--json"), 0),
        (("compare", "a.yml", "b.json"), 2),
        (("--help",), 141),
    ],
)
def test_a_result_that_nobody_reads_changes_no_exit_code(args: tuple[str, ...], code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "slim", *args]
    found = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False
    )
    os.close(writer)
    assert found.returncode == code
    assert found.stderr.count("\n") == (code == 2)

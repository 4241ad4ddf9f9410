"""What the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from slim.cli.main import run

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run with --json: one object on stdout, the same one line last on stderr, no traceback; the line."""

    def check(args: list[str], said: str = "", code: int = 2) -> str:
        capsys.readouterr()  # what an earlier command of the test wrote
        assert run([*args, "--json"]) == code
        out = capsys.readouterr()
        data: dict[str, Any] = json.loads(out.out)
        assert data["exit_code"] == code
        line: str = data["error"]
        assert said in line
        assert out.err.strip().splitlines()[-1] == f"slim: {line}"
        assert "Traceback" not in out.err and "unexpected" not in out.err
        return line

    return check

"""docs/REFERENCE.md is what the command line and the configuration say today."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import Field

from slim.config.fields import Section, Share


@pytest.fixture(scope="module")
def reference(checkout: Path) -> Any:
    """scripts/reference.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("reference", checkout / "scripts" / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(checkout: Path) -> None:
    page = (checkout / "docs" / "REFERENCE.md").read_text(encoding="utf-8")
    # In a process of its own: click keeps the help option of the first context a command is used in.
    command = [sys.executable, "-m", "scripts.reference"]
    made = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60, check=True)
    assert page == made.stdout, "run: make reference"


def test_a_changed_option_and_a_changed_key_change_the_page(reference: Any) -> None:
    @click.command()
    @click.option("--colour", help="Of the bike shed.")
    def paint(colour: str) -> None:
        """Paint it."""

    (text,) = reference.commands(paint, "paint", None)
    assert "--colour TEXT  Of the bike shed." in text and "### paint\n" in text

    class Shed(Section):
        share: Share | None = Field(default=0.5, description="of the wall | floor")

    row = reference.table(Shed.model_json_schema()).splitlines()[-1]
    assert row == "| `share` | number >= 0, <= 1 or null | `0.5` | of the wall \\| floor |"


def test_it_has_every_command_and_section(reference: Any) -> None:
    page = reference.page()
    headings = [line for line in page.splitlines() if line.startswith("### ")]
    assert len(headings) == len(set(headings))
    for name in ("slim models pull", "slim run-nb", "Prune.Finetune", "Quant.rules[]", "Check", "Run"):
        assert f"### {name}" in headings

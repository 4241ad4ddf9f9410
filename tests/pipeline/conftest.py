"""Small real data and real exports, made once for all tests of the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from slim.config.overrides import data_overrides
from slim.progress import Silent
from slim.synth import synthesize

SEED = 7


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of rendered lines per task."""
    folder = tmp_path_factory.mktemp("lines with space")
    counts = {"train": 96, "eval": 60, "calib": 32}
    for task in ("cls", "rec"):
        synthesize(task, folder / task, counts, SEED, None, Silent())
    return {task: folder / task for task in ("cls", "rec")}


@pytest.fixture(scope="session")
def overrides(lines: dict[str, Path]) -> dict[str, list[str]]:
    """Per task: overrides that make a recipe use those lines."""
    return {task: data_overrides(folder) for task, folder in lines.items()}

"""What may lie in an artifact folder: files its manifest names, and those that `slim check` adds later."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

CHECK_FILES = ("report.json", "report.md", "report.html", "predictions.jsonl", "layers.png")
"""What a check writes into a folder that is already sealed."""
REPORT, MARKDOWN, PAGE, PREDICTIONS, LAYERS_PLOT = CHECK_FILES
# A kill may leave one of ours half-written beside its place.
_ASIDE = re.compile(r"\.tmp-\d+$")


def stranger(folder: Path, stage: str, files: Container[str]) -> str | None:
    """A file of ``folder`` that this toolkit did not write, or None: replacing the folder would delete it.

    Args:
        stage: of the folder's manifest; a data set's names its label files, not each of its images.
        files: relative paths the manifest names, and its own.
    Returns:
        the first such path in order, relative to ``folder``. A link counts as a file.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        drawn = stage == "synth" and name.startswith("images/")
        if not (drawn or name in files or _ASIDE.sub("", name) in CHECK_FILES):
            return name
    return None

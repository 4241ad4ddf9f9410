"""Comparing reports with stored references: the gate of a CI.

`references` reads and `update` writes refs.yml (`edits` within its text, `writing` it and the predictions at
once), `reports` reads report.json, `pairs` compares answers image by image, `rows` judges, `render` writes
Markdown, JUnit XML and text. docs/CI.md describes the file.
"""

from slim.compare.references import Reference, References, Stored, read_references
from slim.compare.rows import Comparison, Row, compare, judge

__all__ = [
    "Comparison",
    "Reference",
    "References",
    "Row",
    "Stored",
    "compare",
    "judge",
    "read_references",
]

"""The published models beside our nets: do a recipe's parameters agree with the published size?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slim.progress import Reporter
from slim.zoo.table import PUBLISHED, Published

# What a published size holds beside the parameters: the program file of a 2.0 export, 80 to 110 bytes of text
# for each attribute and the Python lines of each operator. In MB of 10**6 bytes, for either net of this size;
# the publisher rounds to two or three digits, which adds at most 0.05 (1 for the detector's 47M).
PROGRAM_MB = (0.6, 1.1)
HEADERS = (
    "model", "kind", "recipe", "dictionary", "classes", "published, M", "parameters, bytes", "rest, M",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One float row: the classes of its head and the bytes of its inference model's parameters (float32)."""

    row: Published
    classes: int
    bytes: int

    @property
    def rest(self) -> float:
        """Published megabytes that are not parameters."""
        return self.row.megabytes - self.bytes / 1e6

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.row.name,
            "kind": self.row.kind,
            "config": self.row.config,
            "dictionary": self.row.dictionary,
            "classes": self.classes,
            "published_mb": self.row.megabytes,
            "parameter_bytes": self.bytes,
            "rest_mb": round(self.rest, 3),
        }


def measure(row: Published) -> Measured:
    """Build the net of a row's recipe and count what its inference model holds.

    Parameters and BatchNorm statistics, each tensor once, without what only training needs (the threshold
    branch of a detector).
    """
    from slim.arch import build_net
    from slim.config import find_config, load_config
    from slim.config.spec import model_spec

    spec = model_spec(load_config(find_config(row.config)))
    net = build_net(spec.arch, spec.classes)
    tensors = [*net.named_parameters(), *net.named_buffers()]
    held = [t for name, t in tensors if not name.startswith("head.thresh.") and "dropout_state" not in name]
    return Measured(row, spec.classes, sum(4 * int(t.size) for t in held if "float32" in str(t.dtype)))


def measure_all(progress: Reporter) -> list[Measured]:
    """Every float row of the table, in its order."""
    rows = [row for row in PUBLISHED.values() if row.original is None]
    found = []
    with progress.task("build nets", len(rows)) as bar:
        for row in rows:
            found.append(measure(row))
            bar.advance()
    return found


def markdown(rows: Sequence[Measured]) -> str:
    """The table of docs/MODELS.md."""
    cells = [
        (
            f"`{m.row.name}`",
            m.row.kind,
            f"`{m.row.config}`",
            f"`{m.row.dictionary}`" if m.row.dictionary else "-",
            f"{m.classes:,}" if m.classes else "-",
            m.row.size.removesuffix("M"),
            f"{m.bytes:,}",
            f"{m.rest:.2f}",
        )
        for m in rows
    ]
    head = [HEADERS, ("---",) * 4 + ("---:",) * 4]
    return "\n".join("| " + " | ".join(row) + " |" for row in [*head, *cells])

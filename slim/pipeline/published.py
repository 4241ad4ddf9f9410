"""The published models beside our nets: do a recipe's parameters agree with the published size?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slim.progress import Reporter
from slim.zoo.table import PUBLISHED, Published

MIB = 1 << 20
# What a published size holds beside the parameters: the program file of a Paddle 2.0 export. The publisher's
# M is 2**20 bytes: the detector's 48,840,324 bytes of parameters would not fit into 47 * 10**6. The seven
# rows published with two decimals leave 0.87 to 0.90 M, one net and so one program file; a row with one
# decimal may be off by another 0.05 (korean 0.84). The Chinese row leaves 1.05, which nothing here explains.
# The detector is published without decimals: 0.42, give or take 0.5.
PROGRAM_M = {"cls": (0.8, 1.1), "rec": (0.8, 1.1), "det": (0.0, 1.0)}
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
        """Published M (2**20 bytes) that are not parameters."""
        return self.row.megabytes - self.bytes / MIB

    @property
    def agrees(self) -> bool:
        """Whether the rest is that of a program file, see PROGRAM_M."""
        least, most = PROGRAM_M[self.row.kind]
        return least <= self.rest <= most

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.row.name,
            "kind": self.row.kind,
            "config": self.row.config,
            "dictionary": self.row.dictionary,
            "classes": self.classes,
            "published_m": self.row.megabytes,
            "parameter_bytes": self.bytes,
            "rest_m": round(self.rest, 3),
            "agrees": self.agrees,
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

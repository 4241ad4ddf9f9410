"""The same images before and now: what was lost, what was gained, and whether that can be chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.compare.references import Stored
from slim.errors import InputError
from slim.numerics import file_sha256

if TYPE_CHECKING:
    from slim.evaluate import PredictionRow

ALPHA = 0.05
"""Share of runs without any real change that may be taken for one; the usual 5%."""

ENOUGH = 50
"""Images below which the test excuses nothing: it takes six lost ones to prove a loss, and five that go
unseen must not be more than 10 points."""


@dataclass(frozen=True)
class Changed:
    """One image whose text is another now; ``kind``: "lost", "gained", or "other" (wrong both times)."""

    ref: str
    expected: str
    reference: str
    text: str
    kind: str


@dataclass(frozen=True)
class Pairs:
    """A run beside the reference on the same images.

    Attributes:
        n: images. same: of them with the same text. lost: right before, wrong now. gained: the reverse.
        points: percentage points lost (negative: gained), ``low`` .. ``high`` its 95% bootstrap interval.
        p: McNemar's exact two-sided probability of a split of lost and gained at least as uneven by chance.
        changed: images whose text changed, the lost ones first.
    """

    n: int
    same: int
    lost: int
    gained: int
    points: float
    low: float
    high: float
    p: float
    changed: tuple[Changed, ...]

    @property
    def agreement(self) -> float:
        """Percent of the images with the same text."""
        return 100.0 * self.same / self.n

    @property
    def noise(self) -> bool:
        """Whether the difference in accuracy can be chance, on a set large enough to say so."""
        return self.p >= ALPHA and self.n >= ENOUGH

    def line(self) -> str:
        """One line for people."""
        return (
            f"{self.n:,} images paired: {self.lost} lost, {self.gained} gained, {self.points:+.2f} points "
            f"lost [{self.low:+.2f}, {self.high:+.2f}], McNemar p {self.p:.3g}; "
            f"{self.agreement:.2f}% have the same text"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "agreement": self.agreement, "noise": self.noise}


def pair(stored: Stored, now: Path, seed: int) -> Pairs | str:
    """Compare the stored predictions with those of a run, image by image.

    Returns:
        The pairs, or in words why there are none: the run has no predictions, or lacks images.
    Raises:
        InputError: the stored file is missing, damaged or changed; the run's file is damaged.
    """
    from slim.evaluate import read_predictions

    if not stored.path.is_file():
        raise InputError(
            "the references name these predictions, there is no such file",
            where=stored.path,
            remedy="commit it beside refs.yml, or write it with slim compare --update",
        )
    if stored.sha256 is not None and file_sha256(stored.path) != stored.sha256:
        raise InputError(
            "was changed after the references were written (sha256 differs)",
            where=stored.path,
            remedy="restore it, or write the references again with slim compare --update",
        )
    before = read_predictions(stored.path)
    if not before:
        raise InputError("holds no prediction", where=stored.path, remedy="slim compare --update writes it")
    if not now.is_file():
        return f"no {now.name} beside the report"
    found = dict(zip(_keys(rows := read_predictions(now)), rows, strict=True))
    both = [(row, found.get(key)) for key, row in zip(_keys(before), before, strict=True)]
    absent = [row.ref for row, other in both if other is None]
    if absent:
        return f"{len(absent):,} of the reference's {len(before):,} images were not scored, {absent[0]} first"
    return count([(row, other) for row, other in both if other is not None], seed)


def count(both: Sequence[tuple[PredictionRow, PredictionRow]], seed: int) -> Pairs:
    """Statistics of (reference, now) rows; ``seed`` is that of the bootstrap."""
    from slim.statistics import bootstrap_loss, mcnemar_exact

    n = len(both)
    lost = sum(a.correct and not b.correct for a, b in both)
    gained = sum(b.correct and not a.correct for a, b in both)
    changed = [Changed(a.ref, a.expected, a.text, b.text, _kind(a, b)) for a, b in both if a.text != b.text]
    low, high = bootstrap_loss(lost, gained, n, seed)
    order = ("lost", "gained", "other")
    return Pairs(
        n=n,
        same=n - len(changed),
        lost=lost,
        gained=gained,
        points=100.0 * (lost - gained) / n,
        low=low,
        high=high,
        p=mcnemar_exact(lost, gained),
        changed=tuple(sorted(changed, key=lambda c: order.index(c.kind))),
    )


def _kind(before: PredictionRow, now: PredictionRow) -> str:
    if before.correct == now.correct:
        return "other"
    return "lost" if before.correct else "gained"


def _keys(rows: Sequence[PredictionRow]) -> list[tuple[str, str, int]]:
    """(image, expected text, how often it was there already): a label file may name an image twice."""
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for row in rows:
        seen[row.ref, row.expected] += 1
        keys.append((row.ref, row.expected, seen[row.ref, row.expected]))
    return keys

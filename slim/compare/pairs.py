"""The same images before and now: what was lost, what was gained, and whether that can be chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.compare.references import Stored
from slim.compare.reports import Report
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
    """One image with another answer now, a page's as how many regions it has.

    ``kind``: "lost" and "gained" as in `Pairs`, or "other": another text, right or wrong as before.
    """

    ref: str
    expected: str
    reference: str
    text: str
    kind: str


@dataclass(frozen=True)
class Pairs:
    """A run beside the reference on the same images.

    Attributes:
        n: images. same: of them with the same text, or of pages with the same regions, one to one. lost:
            right before, wrong now. gained: the reverse.
        points: percentage points of accuracy (a detector: of hmean) lost, negative: gained; ``low`` ..
            ``high`` its 95% bootstrap interval.
        p: McNemar's exact two-sided probability of a split of lost and gained at least as uneven by chance;
            None of a detector, whose hmean is no count of right pages: its interval judges.
        changed: images whose answer changed, the lost ones first.
        more: images of the run that the reference does not have, and that so count nowhere here.
    """

    n: int
    same: int
    lost: int
    gained: int
    points: float
    low: float
    high: float
    p: float | None
    changed: tuple[Changed, ...]
    more: int = 0

    @property
    def agreement(self) -> float:
        """Percent of the images with the same answer."""
        return 100.0 * self.same / self.n

    @property
    def unproven(self) -> bool:
        """Whether these images do not prove a difference, however few they are."""
        return self.low <= 0.0 <= self.high if self.p is None else self.p >= ALPHA

    @property
    def noise(self) -> bool:
        """Whether the difference can be chance, on a set large enough to say so."""
        return self.unproven and self.n >= ENOUGH

    @property
    def evidence(self) -> str:
        """What the judgement rests on: the interval, and the test's p where there is one."""
        interval = f"[{self.low:+.2f}, {self.high:+.2f}]"
        return interval if self.p is None else f"{interval}, McNemar p {self.p:.3g}"

    @property
    def words(self) -> tuple[str, str, str]:
        """What was paired, what points are of, and what an answer is."""
        return ("images", "points", "text") if self.p is not None else ("pages", "points of hmean", "regions")

    def line(self) -> str:
        """One line for people."""
        images, points, answer = self.words
        more = f"; {self.more:,} more {images} of this run are not in the references" if self.more else ""
        return (
            f"{self.n:,} {images} paired: {self.lost} lost, {self.gained} gained, "
            f"{self.points:+.2f} {points} lost {self.evidence}; {self.agreement:.2f}% have the same {answer}"
            f"{more}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "agreement": self.agreement, "noise": self.noise}


def pair(stored: Stored, report: Report, seed: int) -> Pairs | str:
    """Compare the stored predictions with those of a run, image by image.

    Returns:
        The pairs, or in words why there are none: the run has no predictions, or lacks images.
    Raises:
        InputError: the stored file is missing, damaged or changed; the run's file is damaged.
    """
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
    before = _read(stored.path, report.kind)
    if not before:
        raise InputError("holds no prediction", where=stored.path, remedy="slim compare --update writes it")
    rows = predictions_of(report)
    if isinstance(rows, str):
        return rows
    found = dict(zip(_keys(rows), rows, strict=True))
    both = [(row, found.get(key)) for key, row in zip(_keys(before), before, strict=True)]
    absent = [row for row, other in both if other is None]
    if absent:
        return _absence(absent, len(before), {row.ref for row in rows})
    pairs = count([(row, other) for row, other in both if other is not None], report.kind, seed)
    return replace(pairs, more=len(rows) - len(before))


def _absence(absent: Sequence[PredictionRow], images: int, scored: Set[str]) -> str:
    """Why images have no pair: they were not scored, or their labels are others now."""
    refs, what = [row.ref for row in absent if row.ref not in scored], "were not scored"
    if not refs:
        refs, what = [row.ref for row in absent], "have another label now"
    return f"{len(refs):,} of the reference's {images:,} images {what}, {refs[0]} first"


def predictions_of(report: Report) -> list[PredictionRow] | str:
    """The rows of a run, or in words why there are none; InputError when the file is damaged."""
    path = report.predictions
    if report.scored == 0:  # a file that lies there is an earlier run's
        return "the report scored no image"
    if not path.is_file():
        return f"no {path.name} beside the report"
    rows = _read(path, report.kind)
    if not rows or report.scored not in (None, len(rows)):
        said = "" if report.scored is None else f", the report scored {report.scored:,} images"
        return f"{path.name} holds {len(rows):,} rows{said}"
    return rows


def _read(path: Path, kind: str) -> list[PredictionRow]:
    from slim.data.labels import parse_boxes
    from slim.evaluate import read_predictions

    rows = read_predictions(path)
    if kind == "det":
        for number, row in enumerate(rows, 1):  # here a fault still has a line
            parse_boxes(row.text, f"{path}:{number}", least=0)
            parse_boxes(row.expected, f"{path}:{number}")
    return rows


def count(both: Sequence[tuple[PredictionRow, PredictionRow]], kind: str, seed: int) -> Pairs:
    """Statistics of (reference, now) rows of a model of ``kind``; ``seed`` is that of the bootstrap."""
    from slim.evaluate import same_answer

    lost = sum(a.correct and not b.correct for a, b in both)
    gained = sum(b.correct and not a.correct for a, b in both)
    changed = [_changed(a, b, kind) for a, b in both if not same_answer(kind, a, b)]
    points, low, high, p = _lost_hmean(both, seed) if kind == "det" else _lost(lost, gained, len(both), seed)
    order = ("lost", "gained", "other")
    return Pairs(
        n=len(both),
        same=len(both) - len(changed),
        lost=lost,
        gained=gained,
        points=points,
        low=low,
        high=high,
        p=p,
        changed=tuple(sorted(changed, key=lambda c: order.index(c.kind))),
    )


def _lost(lost: int, gained: int, n: int, seed: int) -> tuple[float, float, float, float]:
    from slim.statistics import bootstrap_loss, mcnemar_exact

    return 100.0 * (lost - gained) / n, *bootstrap_loss(lost, gained, n, seed), mcnemar_exact(lost, gained)


def _lost_hmean(
    both: Sequence[tuple[PredictionRow, PredictionRow]], seed: int
) -> tuple[float, float, float, None]:
    from slim.metrics import DetMetric
    from slim.statistics import paired_hmean_drop

    pages = []
    for rows in zip(*both, strict=True):
        metric = DetMetric()
        metric.update([row.text for row in rows], [row.expected for row in rows])
        pages.append(metric.pages)
    drop = paired_hmean_drop(pages[0], pages[1], seed)
    return drop.points, drop.low, drop.high, None


def _changed(before: PredictionRow, now: PredictionRow, kind: str) -> Changed:
    from slim.evaluate import shown_answer

    expected, was, is_now = (shown_answer(kind, text) for text in (before.expected, before.text, now.text))
    return Changed(before.ref, expected, was, is_now, _kind(before, now))


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

"""How much a model loses when a share of one group's channels goes: one curve per group.

The definition is PaddleSlim's: relative loss = (baseline - score) / baseline for each group and
ratio, other groups whole, no finetuning. The result is JSON, written after each group, so that a
killed run goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prune.filters import kept_count
from prune.groups import Group
from prune.probe import Probe, Reading
from slim.artifact import read_json, write_json
from slim.distributed import Mailbox, claimed, is_first, on_first
from slim.errors import ArtifactError
from slim.progress import Reporter, Silent
from slim.stage import require_trained
from slim.statistics import paired_drop

VERSION = 2
COLLAPSED = 0.5
"""Relative loss beyond which a curve ends; its last point may lie there, and a plan may go as far as that."""
BEND = 0.02
"""Rise of the relative loss between two neighbouring points that is worth a point between them."""

Keep = Callable[[Group, int], list[int]]
"""Group and count -> the channels a criterion keeps."""


@dataclass(frozen=True)
class Point:
    """One measurement of a group.

    Attributes:
        kept: channels left.
        score: the metric in percent.
        loss: relative loss, (baseline - score) / baseline.
        shift: see `prune.probe.Reading`.
        low, high: 95% interval of ``loss``, paired over the lines it was measured on
            (`slim.statistics.paired_drop`); null where lines are not seen one by one.
    """

    kept: int
    score: float
    loss: float
    shift: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sensitivity:
    """Curves of all measured groups.

    Attributes:
        baseline: metric of the whole model in percent.
        curves: group name -> points, from few channels removed to many; ends where it collapsed.
        key: what the curves belong to: weights, lines, criterion, ratios.
    """

    baseline: float
    curves: Mapping[str, list[Point]]
    key: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data; no time in it, so that a stopped and resumed run ends with the same bytes."""
        return {
            "version": VERSION,
            "key": dict(self.key),
            "baseline": self.baseline,
            "curves": _plain(self.curves),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: str | Path = "sensitivity") -> Sensitivity:
        """Rebuild from `to_json`; ArtifactError for another version or damaged data."""
        if data.get("version") != VERSION:
            raise ArtifactError(
                f"sensitivity version is {data.get('version')!r}, this version reads {VERSION}", where=where
            )
        try:
            curves = _points(data["curves"])
            for point in (p for points in curves.values() for p in points):
                _require_sound(point)
            return cls(float(data["baseline"]), curves, dict(data["key"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"sensitivity is damaged ({error})", where=where) from error


def measure(
    groups: Sequence[Group],
    probe: Probe,
    keep: Keep,
    ratios: Sequence[float],
    key: Mapping[str, Any],
    *,
    refine: int = 0,
    collapsed: float = COLLAPSED,
    path: Path | None = None,
    source: str | None = None,
    progress: Reporter | None = None,
) -> Sensitivity:
    """Measure each group at each ratio, resuming ``path`` where it belongs to the same question.

    Several processes (`slim.distributed`) share the groups; the result is that of one.

    Args:
        groups: those to measure (prunable ones).
        keep: which channels stay, by the criterion.
        ratios: shares removed, rising; ratios that remove the same channels are measured once.
        refine: further points for each group, each halfway between the two neighbours whose loss differs
            most, as long as they differ by more than `BEND`.
        collapsed: relative loss beyond which no larger ratio of a group is tried.
        key: what the result depends on beside the probe's lines; a file with another key is started anew.
        path: ``sensitivity.json``, written after each group.
        source: where the model is, for messages.
    Raises:
        UsageError: the model's metric is near zero, so nothing can be learnt from losing it.
    """
    progress = progress or Silent()
    key = {**key, "ratios": list(ratios), "probe": dict(probe.key), "refine": refine, "collapsed": collapsed}
    known = on_first(lambda: _plain(_resume(path, key, progress)))
    base = probe.baseline()
    require_trained(base.score, source)
    curves = _points(known)
    result = Sensitivity(base.score, curves, key)
    missing = [group for group in groups if group.name not in curves]

    def made(group: Group) -> list[Point]:
        points = _curve(group, probe, keep, ratios, base, collapsed)
        _refine(points, group, probe, keep, base, refine)
        return points

    with progress.task("sensitivity", len(groups)) as task:
        task.advance(len(groups) - len(missing))
        for group, points in _in_order(missing, made):
            curves[group.name] = points
            if path is not None:
                write_json(path, result.to_json())
            task.advance(1, group=group.name, loss=max((p.loss for p in points), default=0.0))
    return Sensitivity(base.score, _points(on_first(lambda: _plain(curves))), key)


def _in_order(
    groups: Sequence[Group], made: Callable[[Group], list[Point]]
) -> Iterator[tuple[Group, list[Point]]]:
    """Groups with their curves, in the order given; of several processes the first gets all of them.

    Whoever is free measures the next group. A curve waits for those before it, so that the file that is
    written on the way is one that a single process might have written.
    """
    box, own = Mailbox("curves"), claimed("groups", len(groups))
    if not is_first():
        for mine in own:
            box.send([mine, [asdict(point) for point in made(groups[mine])]])
        return
    ready: dict[int, list[Point]] = {}
    upto = 0
    while upto < len(groups):
        number = next(own, None)
        if number is not None:
            ready[number] = made(groups[number])
        elif upto not in ready:
            box.pause()
        ready |= {other: [Point(**point) for point in points] for other, points in box.received()}
        while upto in ready:
            yield groups[upto], ready.pop(upto)
            upto += 1


def _plain(curves: Mapping[str, list[Point]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(point) for point in points] for name, points in curves.items()}


def _points(curves: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[Point]]:
    return {name: [Point(**point) for point in points] for name, points in curves.items()}


def _require_sound(point: Point) -> None:
    """ValueError for a point that no measurement gives."""
    bounds = [v for v in (point.low, point.high) if v is not None]
    numbers = [point.score, point.loss, point.shift, *bounds]
    if not all(type(v) in (int, float) and math.isfinite(v) for v in numbers):
        raise ValueError("a value is not a finite number")
    if type(point.kept) is not int or point.kept < 1:
        raise ValueError(f"kept is {point.kept!r}, must be an integer of at least 1")


def _resume(path: Path | None, key: Mapping[str, Any], progress: Reporter) -> Mapping[str, list[Point]]:
    """Curves that an earlier run left in the file."""
    if path is None or not path.is_file():
        return {}
    try:
        found = Sensitivity.from_json(read_json(path), where=path)
    except ArtifactError as error:
        progress.warn(f"{error}; measuring again")
        return {}
    if dict(found.key) != dict(key):
        differing = sorted(k for k in {*found.key, *key} if found.key.get(k) != key.get(k))
        progress.info(f"{path} belongs to another {', '.join(differing)}; measuring again")
        return {}
    progress.info(f"{path} holds {len(found.curves)} groups already measured")
    return found.curves


def _curve(
    group: Group, probe: Probe, keep: Keep, ratios: Sequence[float], base: Reading, collapsed: float
) -> list[Point]:
    points: list[Point] = []
    for ratio in ratios:
        count = kept_count(group.size, ratio)
        if count == group.size or any(p.kept == count for p in points):
            continue
        points.append(_point(count, probe.one(group, keep(group, count)), base))
        if points[-1].loss > collapsed:
            break
    return points


def _refine(points: list[Point], group: Group, probe: Probe, keep: Keep, base: Reading, more: int) -> None:
    """Insert up to ``more`` points where the curve bends."""
    for _ in range(more):
        known = [Point(group.size, base.score, 0.0, 0.0), *points]
        gaps = [
            (abs(low.loss - high.loss), place, (high.kept + low.kept) // 2)
            for place, (high, low) in enumerate(zip(known, known[1:], strict=False))
            if high.kept - low.kept > 1 and abs(low.loss - high.loss) > BEND
        ]
        if not gaps:
            return
        _, place, count = max(gaps, key=lambda gap: (gap[0], -gap[1]))
        points.insert(place, _point(count, probe.one(group, keep(group, count)), base))


def _point(count: int, reading: Reading, base: Reading) -> Point:
    loss = (base.score - reading.score) / base.score
    if not reading.right:
        return Point(count, reading.score, loss, reading.shift)
    drop = paired_drop(base.right, reading.right)
    return Point(count, reading.score, loss, reading.shift, drop.low / base.score, drop.high / base.score)

"""The smallest file within a drop: layers fall back to float, one by one, until the shipped file holds it.

Layers go in the order of what they lose per byte they save (`quant.analysis.LayerEffect.worth`); when the
bound holds, those that turn out not to be needed become int8 again, the largest first. Each decision is
taken on the file that would ship.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant.analysis import Bench, Choice, LayerEffect, Shipped, drop
from slim.errors import GateFailed


@dataclass(frozen=True)
class Bound:
    """Most accuracy that may be lost: ``points`` of accuracy, or percent of the original's where relative.

    >>> Bound(1.0, relative=True).points_of(90.0)
    0.9
    """

    points: float
    relative: bool = False

    def points_of(self, original: float) -> float:
        """The bound in points for an original that is right on ``original`` percent."""
        return self.points * original / 100.0 if self.relative else self.points


@dataclass(frozen=True)
class Found:
    """What the search chose: layers kept float, the file, its drop in points with the interval."""

    choice: Choice
    shipped: Shipped
    points: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "float": sorted(self.choice),
            "bytes": self.shipped.bytes,
            "accuracy": self.shipped.accuracy,
            "drop": {"points": self.points, "low": self.low, "high": self.high},
            "images": len(self.shipped.correct),
        }


class Search:
    """See the module.

    Args:
        bench: ships choices.
        original: the float original on the same images.
        bound: most accuracy lost.
    """

    def __init__(self, bench: Bench, original: Shipped, bound: Bound) -> None:
        self.bench, self.original = bench, original
        self.limit = bound.points_of(original.accuracy)

    def holds(self, choice: Choice, why: str) -> bool:
        """Whether the file of a choice is within the bound; the step is written down."""
        lost = drop(self.original, self.bench(choice)).points
        row = {"float": sorted(choice), "why": why, "bytes": self.bench(choice).bytes, "drop": lost}
        if row not in self.bench.found.steps:
            self.bench.found.steps.append(row)
            self.bench.save()
        self.bench.progress.info(
            f"{why}: {len(choice)} layers float, {row['bytes']:,} bytes, "
            f"drop {lost:+.2f}, limit {self.limit:.2f}"
        )
        return lost <= self.limit

    def run(self, effects: Sequence[LayerEffect]) -> Found:
        """Fall back, then give back.

        Args:
            effects: of every quantized layer; at least one.
        Raises:
            GateFailed: the bound does not hold before every layer is float.
        """
        order = sorted(effects, key=lambda e: -e.worth)
        choice: Choice = frozenset()
        for effect in order:
            choice |= {effect.path}
            if self.holds(choice, f"{effect.path} float"):
                break
        if len(choice) == len(order):
            raise GateFailed(
                f"no layer can stay int8: with all {len(order)} float the file loses "
                f"{drop(self.original, self.bench(choice)).points:.2f} points, the limit is {self.limit:.2f}",
                remedy="raise --max-drop, measure on more images (Quant.images), or ship the float model",
            )
        return self.found(self._given_back(choice, effects))

    def _given_back(self, choice: Choice, effects: Sequence[LayerEffect]) -> Choice:
        for effect in sorted(effects, key=lambda e: -e.bytes):
            fewer = choice - {effect.path}
            if effect.path in choice and fewer and self.holds(fewer, f"{effect.path} int8 again"):
                choice = fewer
        return choice

    def found(self, choice: Choice) -> Found:
        """The file of a choice with its drop."""
        lost = drop(self.original, self.bench(choice))
        return Found(choice, self.bench(choice), lost.points, lost.low, lost.high)

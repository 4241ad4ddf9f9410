"""What int8 costs layer by layer, measured on the files that would ship.

A *choice* is the set of quantized layers that are kept float instead. ``Ship`` turns a choice into the
file the phone would get and runs it: the numbers are those of the shipped arithmetic, not of the training
graph. First both halves of quantization are told apart (weights only, activations only: no such file
exists, so these two run in the net's simulation), then each layer is measured twice: float while all others
are int8 (what it takes away), and int8 while all others are float (what it costs alone).
Source of the order: AIMET's QuantAnalyzer; the measure beside the metric is the mean squared distance of
the outputs to the float original's, which sees a loss long before an image changes its text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slim.artifact import read_json, write_json
from slim.errors import ArtifactError
from slim.progress import Reporter, Silent
from slim.statistics import PairedDrop, paired_drop

VERSION = 1
Choice = frozenset[str]


@dataclass(frozen=True)
class Shipped:
    """One file, executed.

    Attributes:
        bytes: of the nb file.
        correct: which images are right, in the data set's order.
        moved: mean squared distance of an image's outputs to the float original's (probabilities).
    """

    bytes: int
    correct: tuple[bool, ...]
    moved: float

    @property
    def accuracy(self) -> float:
        """Percent."""
        return 100.0 * sum(self.correct) / len(self.correct)

    def to_json(self) -> dict[str, Any]:
        """Plain data; one character an image."""
        marks = "".join("1" if ok else "0" for ok in self.correct)
        return {"bytes": self.bytes, "correct": marks, "moved": self.moved}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Shipped:
        """Rebuild from ``to_json``; KeyError, TypeError or ValueError when it is damaged."""
        marks, moved = str(data["correct"]), float(data["moved"])
        if not marks or set(marks) - set("01") or not math.isfinite(moved):
            raise ValueError("a measurement is not a number")
        return cls(int(data["bytes"]), tuple(m == "1" for m in marks), moved)


Ship = Callable[[Choice], Shipped]


@dataclass(frozen=True)
class LayerEffect:
    """One layer.

    Attributes:
        bytes: what the file grows by when this layer is kept float.
        off_gain: points regained, ``off_moved``: distance taken away, by keeping it float among int8 layers.
        on_loss: points lost, ``on_moved``: distance made, by this layer alone in int8.
    """

    path: str
    type: str
    bytes: int
    off_gain: float
    off_moved: float
    on_loss: float
    on_moved: float

    @property
    def worth(self) -> float:
        """Distance of the outputs taken away per byte the file grows by; what the search goes by.

        >>> LayerEffect("fc", "Linear", 100, 0.0, 2.0, 0.0, 0.0).worth
        0.02
        """
        return self.off_moved / max(self.bytes, 1)


@dataclass
class Analysis:
    """Everything measured so far: what ``quant_analysis.json`` holds.

    Attributes:
        key: what the measurements belong to; a file with another key is measured anew.
        shipped: choice -> its file, so that no file is made twice, also after a stop.
        halves: "weights" and "activations" -> percent of the net that simulates only these.
        layers: effect of each quantized layer, in the net's order; empty until measured.
        steps: what the search tried, in order.
    """

    key: dict[str, Any]
    shipped: dict[Choice, Shipped] = field(default_factory=dict)
    halves: dict[str, float] = field(default_factory=dict)
    layers: list[LayerEffect] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "version": VERSION,
            "key": self.key,
            "halves": self.halves,
            "layers": [asdict(layer) | {"worth": layer.worth} for layer in self.layers],
            "steps": self.steps,
            "shipped": [{"float": sorted(c), **s.to_json()} for c, s in self.shipped.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: Path | str) -> Analysis:
        """Measurements of `to_json`; what is derived from them is derived again."""
        if data.get("version") != VERSION:
            raise ArtifactError(
                f"analysis version is {data.get('version')!r}, this version reads {VERSION}", where=where
            )
        try:
            shipped = {frozenset(row["float"]): Shipped.from_json(row) for row in data["shipped"]}
            return cls(dict(data["key"]), shipped, {k: float(v) for k, v in data["halves"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"analysis is damaged ({error})", where=where) from error


class Bench:
    """Ships choices, remembers what came out, writes it down after each.

    Args:
        ship: makes and runs the file of a choice.
        path: of ``quant_analysis.json``, from which a stopped run goes on; None: kept in memory.
        key: what results depend on beside the choice.
    Raises:
        InputError: ``path`` cannot be written.
    """

    def __init__(
        self, ship: Ship, key: Mapping[str, Any], path: Path | None = None, progress: Reporter | None = None
    ) -> None:
        self._ship, self.path, self.progress = ship, path, progress or Silent()
        self.found = _resume(path, dict(key), self.progress)

    def __call__(self, choice: Choice) -> Shipped:
        """The file of a choice, from memory where it was made before."""
        if choice not in self.found.shipped:
            self.found.shipped[choice] = self._ship(choice)
            self.save()
        return self.found.shipped[choice]

    def save(self) -> None:
        """Write everything found so far."""
        if self.path is not None:
            write_json(self.path, self.found.to_json())

    def halves(self, score: Callable[[str], float]) -> dict[str, float]:
        """Percent with only weights, and with only activations on their grid."""
        for half in ("weights", "activations"):
            if half not in self.found.halves:
                self.found.halves[half] = score(half)
                self.save()
        return self.found.halves


def measure(bench: Bench, layers: Mapping[str, str], original: Shipped) -> list[LayerEffect]:
    """Each layer off and on.

    Args:
        layers: path -> type of the quantized layers, in the net's order.
        original: the float original on the same images.
    """
    every = frozenset(layers)
    full, plain = bench(frozenset()), bench(every)
    effects = []
    with bench.progress.task("layers", len(layers)) as task:
        for path, kind in layers.items():
            off, on = bench(frozenset([path])), bench(every - {path})
            effect = LayerEffect(
                path,
                kind,
                off.bytes - full.bytes,
                off.accuracy - full.accuracy,
                full.moved - off.moved,
                original.accuracy - on.accuracy,
                on.moved - plain.moved,
            )
            effects.append(effect)
            task.advance(1, layer=path, worth=effect.worth)
    bench.found.layers = effects
    bench.save()
    return effects


def drop(original: Shipped, candidate: Shipped) -> PairedDrop:
    """Points lost on the same images, with the interval."""
    return paired_drop(original.correct, candidate.correct)


def table(effects: Sequence[LayerEffect]) -> list[list[str]]:
    """Rows of the table a person reads, the layer most worth keeping float first."""
    head = ["layer", "type", "bytes if float", "points regained", "distance taken away", "lost alone"]
    rows = [
        [e.path, e.type, f"{e.bytes:,}", f"{e.off_gain:+.2f}", f"{e.off_moved:.2e}", f"{e.on_loss:+.2f}"]
        for e in sorted(effects, key=lambda e: -e.worth)
    ]
    return [head, *rows]


def _resume(path: Path | None, key: dict[str, Any], progress: Reporter) -> Analysis:
    if path is None or not path.is_file():
        return Analysis(key)
    try:
        found = Analysis.from_json(read_json(path), where=path)
    except ArtifactError as error:
        progress.warn(f"{error}; measuring again")
        return Analysis(key)
    if found.key != key:
        differing = sorted(k for k in {*found.key, *key} if found.key.get(k) != key.get(k))
        progress.info(f"{path} belongs to another {', '.join(differing)}; measuring again")
        return Analysis(key)
    progress.info(f"{path} holds {len(found.shipped)} files already measured")
    return found

"""What a masked net is scored by: lines held in memory, preprocessed once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from prune.groups import Group
from prune.mask import masked
from prune.prefix import PrefixRunner
from slim.errors import UsageError
from slim.metrics import metric_for
from slim.ocr.postprocess import decode
from slim.ocr.preprocess import to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from slim.bundle import Bundle
    from slim.data.dataset import Dataset

_BATCH = 32
_EPSILON = 1e-8


@dataclass(frozen=True)
class Reading:
    """One measurement of a net.

    Attributes:
        score: the task metric in percent.
        shift: mean Kullback-Leibler divergence of the output distributions from the unmasked net's,
            in nats; it tells groups apart that lose no line. 0.0 where outputs are not seen.
        right: which lines are read right, in order; empty where lines are not seen one by one.
    """

    score: float
    shift: float
    right: tuple[bool, ...] = field(default=(), compare=False, repr=False)


class Probe(Protocol):
    """Something that scores a net with one group masked."""

    key: Mapping[str, object]

    def baseline(self) -> Reading:
        """The unmasked net."""

    def one(self, group: Group, kept: Sequence[int]) -> Reading:
        """One group masked; the net is as before afterwards."""

    def several(self, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> Reading:
        """All groups that ``kept`` names masked at once; the net is as before afterwards."""


class LineProbe:
    """Scores on the first lines of a data set, with the prefix of the net cached."""

    def __init__(self, bundle: Bundle, dataset: Dataset, limit: int) -> None:
        """Read, preprocess and run the first ``limit`` lines.

        Raises:
            InputError: an unreadable image or a text the dictionary cannot spell.
        """
        lines = [dataset[i] for i in range(min(limit, len(dataset)))]
        if not lines:
            raise UsageError("no lines to measure sensitivity on", remedy="give a label file that has lines")
        self._spec, self._net = bundle.spec, bundle.net
        self._texts = [line.text for line in lines]
        x = np.stack([to_tensor(line.image, bundle.spec.input) for line in lines])
        digest = hashlib.sha256(x.tobytes())
        digest.update("\n".join(self._texts).encode("utf-8"))
        self.key: Mapping[str, object] = {"lines": len(lines), "sha256": digest.hexdigest()}
        batches = [x[i : i + _BATCH] for i in range(0, len(x), _BATCH)]
        self._runner = PrefixRunner(bundle.net, batches)
        self._reference = np.concatenate(self._runner.outputs)

    def baseline(self) -> Reading:
        return self._read(self._reference)

    def one(self, group: Group, kept: Sequence[int]) -> Reading:
        return self.several([group], {group.name: kept})

    def several(self, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> Reading:
        with masked(self._net, groups, kept):
            return self._run(m.path for g in groups if g.name in kept for m in g.consumers)

    def _run(self, changed: Iterable[str]) -> Reading:
        return self._read(np.concatenate(self._runner.run(changed)))

    def _read(self, outputs: np.ndarray) -> Reading:
        metric = metric_for(self._spec.kind)
        right = metric.update([p.text for p in decode(outputs, self._spec)], self._texts)
        before = np.log(self._reference + _EPSILON)
        moved = self._reference * (before - np.log(outputs + _EPSILON))
        return Reading(100.0 * metric.summary()["acc"], float(moved.sum(axis=-1).mean()), tuple(right))


class ScoreProbe:
    """Scores through a callable that knows only whole models: any kind of model, no caching."""

    def __init__(self, bundle: Bundle, score: Callable[[Bundle], float], key: Mapping[str, object]) -> None:
        """``key`` says what ``score`` scores on: curves are gone on with where it is the same."""
        self._bundle, self._score, self.key = bundle, score, key

    def baseline(self) -> Reading:
        return Reading(self._score(self._bundle), 0.0)

    def one(self, group: Group, kept: Sequence[int]) -> Reading:
        return self.several([group], {group.name: kept})

    def several(self, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> Reading:
        with masked(self._bundle.net, groups, kept):
            return Reading(self._score(self._bundle), 0.0)

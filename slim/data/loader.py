"""Training batches that depend on nothing but (seed, step), so that a resumed run sees the same ones.

How a batch comes about: epoch ``e`` is a permutation seeded by (seed, e); the permutations follow each
other in one endless row. Sixteen batches of that row form a pool. In a pool, lines that cannot be used are
replaced by their good neighbours; with ``width="auto"`` the pool is sorted by width before it is cut into
batches, whose order is seeded then, so that short lines are not padded to long ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from slim.data.dataset import TrainingData
from slim.data.images import UnreadableImage
from slim.data.stepwise import Batch, Stepwise, fill_gaps, filled
from slim.data.tolerance import Tolerance
from slim.errors import InputError, UnsupportedModel
from slim.ocr.ctc import TIME_STRIDE, class_numbers, encode, steps_needed
from slim.ocr.preprocess import resized_width, to_tensor
from slim.spec import ModelSpec

POOL_BATCHES = 16
WIDTH_MULTIPLE = 32


class Augmentation(Protocol):
    """Changes an image, never its label."""

    def __call__(self, image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """``image`` and result: H x W x 3, uint8, BGR; random only through ``rng``."""


@dataclass(frozen=True)
class _Slot:
    """A usable line: its number in the data set, classes of its label, and the width it needs."""

    number: int
    classes: tuple[int, ...]
    width: int


class TrainBatches(Stepwise):
    """Batches of a training set.

    Args:
        dataset: texts, sizes and images.
        spec: the model; kind rec or cls.
        batch_size: images per batch.
        seed: with the step, all that a batch depends on (and the augmentation).
        augment: applied to each image, or None.
        width: tensor width in pixels; None: the spec's; "auto" (rec): the smallest multiple of 32 that
            holds the widest line of the batch and the time steps of its longest text, at most the spec's.
        tolerance: counts bad lines; a fresh one by default.

    Raises:
        InputError: an empty set, a bad size, too many bad lines, no usable line at all.
    """

    def __init__(
        self,
        dataset: TrainingData,
        spec: ModelSpec,
        batch_size: int,
        seed: int,
        augment: Augmentation | None = None,
        width: int | Literal["auto"] | None = None,
        tolerance: Tolerance | None = None,
    ) -> None:
        if spec.kind not in ("rec", "cls"):
            raise UnsupportedModel(f"kind {spec.kind} has no training batches here", where=spec.name)
        super().__init__(dataset, batch_size, seed, tolerance)
        if isinstance(width, int) and width < WIDTH_MULTIPLE:
            raise InputError(f"training width is {width} pixels, must be at least {WIDTH_MULTIPLE}")
        self.spec, self.augment = spec, augment
        self._auto = width == "auto" and spec.kind == "rec"
        self._limit = width if isinstance(width, int) else spec.input.width
        self._classes = class_numbers(spec.labels)
        self._pool = lru_cache(maxsize=2)(self._make_pool)  # a pure function of its argument

    def _batch(self, step: int) -> Batch:
        slots = self._pool(step // POOL_BATCHES)[step % POOL_BATCHES]
        width = max(slot.width for slot in slots) if self._auto else self._limit
        images, used = self._images(slots, step, width)
        lengths = np.array([len(slot.classes) for slot in used], np.int64)
        labels = np.zeros((len(used), int(lengths.max())), np.int64)
        for row, slot in enumerate(used):
            labels[row, : len(slot.classes)] = slot.classes
        refs = tuple(self.dataset.entry(slot.number).ref for slot in used)
        return Batch(images, labels[:, 0] if self.spec.kind == "cls" else labels, lengths, refs, step)

    def _make_pool(self, pool: int) -> list[list[_Slot]]:
        size = POOL_BATCHES * self.batch_size
        found = [self._slot(self.number_at(pool * size + k)) for k in range(size)]
        slots = fill_gaps(found)
        if slots is None:
            raise InputError(
                f"none of {size} training lines in a row can be used ({self.tolerance.summary()})",
                where=self.dataset.where(self.number_at(pool * size)),
                remedy=f"texts must fit {self._limit // TIME_STRIDE} time steps of width {self._limit}",
            )
        if self._auto:
            slots.sort(key=lambda slot: slot.width)  # stable: equal widths keep the shuffled order
        batches = [slots[k : k + self.batch_size] for k in range(0, size, self.batch_size)]
        if not self._auto:
            return batches
        order = np.random.default_rng([self.seed, 2, pool]).permutation(len(batches))
        return [batches[k] for k in order]

    def _slot(self, number: int) -> _Slot | None:
        """The line as training uses it, or None (counted) when it cannot."""
        entry = self.dataset.entry(number)
        if self.spec.kind == "cls":
            return _Slot(number, (self.spec.labels.index(entry.text),), self._limit)
        classes, unknown = encode(entry.text, self._classes)
        if unknown:
            self.tolerance.count_outside(number, unknown, self.dataset.where(number))
            return None
        needed = TIME_STRIDE * steps_needed(classes)
        if not classes or needed > self._limit:
            self.tolerance.count_too_long(number)
            return None
        width = self._limit
        if self._auto:
            try:
                height, full = self.dataset.size(number)
            except UnreadableImage as error:
                self.tolerance.count_unreadable(number, error)
                return None
            widest = max(needed, resized_width(height, full, self.spec.input.height, self._limit))
            width = min(self._limit, math.ceil(widest / WIDTH_MULTIPLE) * WIDTH_MULTIPLE)
        return _Slot(number, tuple(classes), width)

    def _images(
        self, slots: list[_Slot], step: int, width: int
    ) -> tuple[npt.NDArray[np.float32], list[_Slot]]:
        def made(place: int) -> tuple[npt.NDArray[np.float32], _Slot] | None:
            slot = slots[place]
            try:
                image = self.dataset[slot.number].image
            except UnreadableImage as error:
                self.tolerance.count_unreadable(slot.number, error)
                return None
            if self.augment is not None:
                image = self.augment(image, np.random.default_rng([self.seed, 3, step, place]))
            return to_tensor(image, self.spec.input, width), slot

        good = filled(made, len(slots), self.own_places)
        if good is None:
            raise InputError(
                f"no image of the batch of step {step} can be read",
                where=self.dataset.where(slots[0].number),
                remedy="check the data folder",
            )
        return np.stack([tensor for tensor, _ in good]), [slot for _, slot in good]

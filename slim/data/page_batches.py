"""Training batches of detectors: parts of pages with the maps of their regions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slim.data.dataset import TrainingData
from slim.data.images import UnreadableImage
from slim.data.labels import parse_boxes
from slim.data.page_augment import PageCrop
from slim.data.page_maps import page_maps
from slim.data.stepwise import Batch, Stepwise, filled
from slim.data.tolerance import Tolerance
from slim.errors import InputError, UnsupportedModel
from slim.ocr.preprocess import DET_MULTIPLE, normalised
from slim.spec import ModelSpec

_Sample = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], int, str]


class PageBatches(Stepwise):
    """Batches of a set of pages.

    Args:
        dataset: pages with the JSON labels of `slim.data.labels`.
        spec: the model; kind det.
        batch_size: parts per batch, each of another page.
        seed: with the step, all that a batch depends on.
        crop: how a part is cut; its side must be a multiple of 32.
        tolerance: counts pages that cannot be read; a fresh one by default.

    Raises:
        InputError: an empty set, a bad size, too many bad pages.
        UnsupportedModel: the model is no detector.
    """

    def __init__(
        self,
        dataset: TrainingData,
        spec: ModelSpec,
        batch_size: int,
        seed: int,
        crop: PageCrop,
        tolerance: Tolerance | None = None,
    ) -> None:
        if spec.kind != "det":
            raise UnsupportedModel(f"kind {spec.kind} is not trained on pages", where=spec.name)
        if crop.side < DET_MULTIPLE or crop.side % DET_MULTIPLE:
            raise InputError(
                f"training side is {crop.side} pixels, must be a multiple of {DET_MULTIPLE}",
                remedy="change EastRandomCropData.size or the recipe's width",
            )
        super().__init__(dataset, batch_size, seed, tolerance)
        self.spec, self.crop = spec, crop

    def _batch(self, step: int) -> Batch:
        first = step * self.batch_size
        numbers = [self.number_at(first + place) for place in range(self.batch_size)]
        samples = filled(
            lambda place: self._sample(numbers[place], step, place), self.batch_size, self.own_places
        )
        if samples is None:
            raise InputError(
                f"no image of the batch of step {step} can be read",
                where=self.dataset.where(numbers[0]),
                remedy="check the data folder",
            )
        images, maps, counts, refs = zip(*samples, strict=True)
        return Batch(np.stack(images), np.stack(maps), np.array(counts, np.int64), refs, step)

    def _sample(self, number: int, step: int, place: int) -> _Sample | None:
        try:
            page = self.dataset[number]
        except UnreadableImage as error:
            self.tolerance.count_unreadable(number, error)
            return None
        boxes = parse_boxes(page.text, self.dataset.where(number))
        part, regions = self.crop(page.image, boxes, np.random.default_rng([self.seed, 3, step, place]))
        maps = page_maps(regions, *part.shape[:2])
        return normalised(part, self.spec.input), maps, len(regions), page.ref

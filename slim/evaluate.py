"""Score any runtime on a data set: the net, a Paddle predictor, Paddle-Lite or the nb executor."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slim.data.dataset import Dataset, Line
from slim.data.labels import parse_boxes
from slim.errors import InputError, StageFailed
from slim.metrics import MAIN_INDICATORS, DetMetric, metric_for, same_regions
from slim.ocr.ctc import class_numbers, encode
from slim.ocr.postprocess import decode
from slim.ocr.preprocess import to_tensor
from slim.progress import Reporter, Silent
from slim.spec import ModelSpec
from slim.statistics import Counts, PairedDrop, paired_drop, paired_hmean_drop

Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""float32 N x 3 x H x W to the net's inference output (probabilities), row by row."""


@dataclass(frozen=True)
class PredictionRow:
    """One scored image."""

    ref: str
    expected: str
    text: str
    score: float
    correct: bool


_KEYS = tuple(entry.name for entry in fields(PredictionRow))


@dataclass(frozen=True)
class EvalResult:
    """One model on one data set.

    Attributes:
        kind: of the model.
        metrics: by name, from 0 to 1.
        predictions: the rows behind them, in data set order.
        seconds: spent inside ``run``.
        pages: det: counts of each page; empty for other kinds.
    """

    kind: str
    metrics: dict[str, float]
    predictions: list[PredictionRow]
    images: int
    seconds: float
    pages: list[Counts] = field(default_factory=list)

    @property
    def main(self) -> float:
        """The value the model is judged by, from 0 to 1: ``acc``, of a detector ``hmean``."""
        return self.metrics[MAIN_INDICATORS[self.kind]]

    @property
    def correct(self) -> list[bool]:
        """Which images are right, for `slim.statistics.paired_drop`."""
        return [row.correct for row in self.predictions]


def evaluate(
    run: Run,
    dataset: Dataset,
    spec: ModelSpec,
    *,
    limit: int | None = None,
    batch_size: int = 1,
    progress: Reporter | None = None,
) -> EvalResult:
    """Score ``run`` on the first ``limit`` images (all by default), in the data set's order.

    Every image becomes a tensor of the spec's nominal width, so the result does not depend on the
    batch size; pages (det), which keep their own sizes, are run one by one.

    Raises:
        InputError: nothing to score, an unreadable image, a text that the dictionary cannot spell.
        StageFailed: the output is not finite or has another batch size; it names the image.

    Example: ``evaluate(lambda x: net(paddle.to_tensor(x)).numpy(), data, bundle.spec).metrics["acc"]``
    """
    count = _count(dataset, limit, batch_size)
    metric, rows, seconds = metric_for(spec.kind), [], 0.0
    allowed = class_numbers(spec.labels)
    with (progress or Silent()).task(f"score {spec.name}", count) as task:
        for lines in _batches(dataset, count, 1 if spec.kind == "det" else batch_size):
            for line in lines:
                _require_spellable(line, allowed, spec.kind)
            batch = np.stack([to_tensor(line.image, spec.input) for line in lines])
            start = time.perf_counter()
            outputs = np.asarray(run(batch))
            seconds += time.perf_counter() - start
            _require_sane(outputs, lines)
            found = decode(outputs, spec, [(line.image.shape[0], line.image.shape[1]) for line in lines])
            right = metric.update([p.text for p in found], [line.text for line in lines])
            for line, p, ok in zip(lines, found, right, strict=True):
                rows.append(PredictionRow(line.ref, line.text, p.text, p.score, ok))
            task.advance(len(lines), **metric.summary())
    pages = metric.pages if isinstance(metric, DetMetric) else []
    return EvalResult(spec.kind, metric.summary(), rows, len(rows), seconds, pages)


def drop_between(reference: EvalResult, candidate: EvalResult) -> PairedDrop:
    """Points of the main indicator lost by ``candidate``, on the first images that both were scored on."""
    n = min(reference.images, candidate.images)
    if reference.kind == "det":
        return paired_hmean_drop(reference.pages[:n], candidate.pages[:n])
    return paired_drop(reference.correct[:n], candidate.correct[:n])


def same_answer(kind: str, a: PredictionRow, b: PredictionRow) -> bool:
    """Whether two runtimes say the same of an image: one text, or the same regions of a page."""
    return same_regions(a.text, b.text) if kind == "det" else a.text == b.text


def shown_answer(kind: str, text: str) -> str:
    """The text; of a page how many regions, since their corners tell a reader nothing."""
    return f"{len(parse_boxes(text, 'prediction', least=0))} regions" if kind == "det" else text


def write_predictions(rows: Sequence[PredictionRow], path: Path) -> None:
    """Write rows as JSON lines, aside first, so that the file is whole or not there.

    Raises:
        InputError: the folder cannot be written.
    """
    aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with open(aside, "w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) + "\n")
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise InputError(f"cannot write predictions ({error.strerror})", where=path) from error


def read_predictions(path: Path) -> list[PredictionRow]:
    """Read what `write_predictions` wrote; InputError with file:line for anything else."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: U+2028 is no line end
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read predictions ({error})", where=path) from error
    if not lines[-1]:
        lines.pop()
    return [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _row(line: str, where: str) -> PredictionRow:
    try:
        data = json.loads(line)
        if not isinstance(data, dict) or set(data) != set(_KEYS):
            raise ValueError(f"its keys must be {', '.join(_KEYS)}")
        row = PredictionRow(**data)
        for text in (row.ref, row.expected, row.text):
            if not isinstance(text, str):
                raise ValueError(f"{text!r:.40} is not text")
            text.encode("utf-8")  # half a character, as JSON's "\ud800", cannot be written again
        number = isinstance(row.score, (int, float)) and not isinstance(row.score, bool)
        if not isinstance(row.correct, bool) or not number or not math.isfinite(row.score):
            raise ValueError("score must be a finite number and correct true or false")
        return replace(row, score=float(row.score))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"not a prediction row ({error})", where=where) from error


def _count(dataset: Dataset, limit: int | None, batch_size: int) -> int:
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}, must be at least 1")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}, must be at least 1", remedy="score at least one image")
    if len(dataset) == 0:
        raise InputError("no image to score", remedy="give a label file with at least one line")
    return len(dataset) if limit is None else min(limit, len(dataset))


def _batches(dataset: Dataset, count: int, size: int) -> Iterator[list[Line]]:
    for first in range(0, count, size):
        yield [dataset[number] for number in range(first, min(first + size, count))]


def _require_spellable(line: Line, allowed: dict[str, int], kind: str) -> None:
    if kind != "rec":
        return
    unknown = encode(line.text.replace(" ", ""), allowed)[1]
    if unknown or not line.text:
        what = f"text {line.text[:40]!r} has characters outside the dictionary: {unknown[:20]!r}"
        raise InputError(
            what if line.text else "text is empty",
            where=line.ref,
            remedy="use the model's dictionary, or take the line out of the label file",
        )


def _require_sane(outputs: npt.NDArray[np.float32], lines: Sequence[Line]) -> None:
    if outputs.ndim < 2 or len(outputs) != len(lines):
        raise StageFailed(f"output has shape {outputs.shape} for {len(lines)} images", where=lines[0].ref)
    bad = ~np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
    if bad.any():
        number = int(bad.argmax())
        raise StageFailed(
            f"output has {int((~np.isfinite(outputs[number])).sum())} values that are NaN or infinite",
            where=lines[number].ref,
            remedy="the model's weights are damaged or its training diverged",
        )

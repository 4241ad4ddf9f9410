"""A data set: images with texts, from label files or LMDB, in one order that never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from slim.data.images import decode_image, image_size, read_bytes
from slim.data.labels import Entry, LabelFile, parse_boxes
from slim.errors import InputError
from slim.spec import KINDS

CLS_LABELS = ("0", "180")


@dataclass(frozen=True)
class Line:
    """One image with its text.

    Attributes:
        ref: the image's path as the label file writes it (LMDB: ``folder#image-000000001``).
        image: H x W x 3, uint8, BGR.
        text: rec: the text; cls: "0" or "180"; det: the JSON list of regions (`labels.parse_boxes`).
    """

    ref: str
    image: npt.NDArray[np.uint8]
    text: str


class Dataset(Protocol):
    """What scoring, calibration and reports need of a data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Line:
        """Decode one image; InputError when its label or image is bad."""

    def describe(self) -> dict[str, Any]:
        """``path``, ``count`` and ``sha256`` of the labels, for manifests."""


class TrainingData(Dataset, Protocol):
    """What training batches need besides: texts and sizes without decoding an image."""

    def entry(self, number: int) -> Entry:
        """Path and text, checked for the kind of data; InputError with file:line."""

    def size(self, number: int) -> tuple[int, int]:
        """Height and width in pixels from the image's header."""

    def where(self, number: int) -> str:
        """Where the label stands: "file:line" or an LMDB key."""


class LabelledImages:
    """Images of a folder named by label files; see `open_dataset`."""

    def __init__(
        self,
        files: Sequence[LabelFile],
        data_dir: Path,
        kind: str,
        chosen: Sequence[npt.NDArray[np.int64] | None],
    ) -> None:
        self.kind = kind
        self.data_dir = data_dir
        self._files = list(files)
        self._chosen = list(chosen)
        counts = [len(f) if c is None else len(c) for f, c in zip(files, chosen, strict=True)]
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _locate(self, number: int) -> tuple[LabelFile, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        part = int(np.searchsorted(self._ends, number, side="right"))
        inside = number - (int(self._ends[part - 1]) if part else 0)
        chosen = self._chosen[part]
        return self._files[part], inside if chosen is None else int(chosen[inside])

    def entry(self, number: int) -> Entry:
        """Path and text of an image; a cls label other than 0 or 180 raises."""
        file, line = self._locate(number)
        entry = file[line]
        check_text(entry.text, self.kind, lambda: file.where(line))
        return entry

    def where(self, number: int) -> str:
        """ "file:line" of an image's label."""
        file, line = self._locate(number)
        return file.where(line)

    def _bytes(self, number: int, ref: str) -> bytes:
        return read_bytes(self.data_dir / ref, self.where(number) if "\0" in ref else ref)

    def size(self, number: int) -> tuple[int, int]:
        """Height and width in pixels, from the header."""
        ref = self.entry(number).ref
        return image_size(self._bytes(number, ref), ref)

    def __getitem__(self, number: int) -> Line:
        entry = self.entry(number)
        return Line(entry.ref, decode_image(self._bytes(number, entry.ref), entry.ref), entry.text)

    def describe(self) -> dict[str, Any]:
        """Path, count and sha256 of the label file; several files: their list, and a hash over all."""
        files = [
            {"path": str(f.path), "count": len(f) if c is None else len(c), "sha256": f.sha256}
            for f, c in zip(self._files, self._chosen, strict=True)
        ]
        if len(files) == 1:
            return {**files[0], "kind": self.kind}
        joined = hashlib.sha256("\n".join(str(f["sha256"]) for f in files).encode()).hexdigest()
        path = ", ".join(str(f["path"]) for f in files)
        return {"path": path, "count": len(self), "sha256": joined, "kind": self.kind, "files": files}


def open_dataset(
    label_files: Sequence[Path],
    data_dir: Path,
    kind: str,
    *,
    ratio_list: Sequence[float] | None = None,
    seed: int = 0,
) -> LabelledImages:
    """Open label files of ``path<TAB>text`` lines.

    Args:
        label_files: at least one; their lines follow each other in this order.
        data_dir: folder that the image paths are relative to (symlinks are followed).
        kind: "rec", "cls" or "det": what the text must be.
        ratio_list: share of each file's lines to use, 0 < ratio <= 1; the lines are chosen by ``seed``
            and keep their order.

    Raises:
        InputError: a file or folder is missing or empty, or a ratio is out of range. Malformed lines
            and unreadable images raise when they are read.
    """
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}, must be one of {', '.join(KINDS)}")
    if not label_files:
        raise InputError("no label file given", remedy="name at least one in label_file_list")
    if not data_dir.is_dir():
        raise InputError(
            "data folder does not exist",
            where=data_dir,
            remedy="check data_dir; slim synth renders sample data",
        )
    ratios = [1.0] * len(label_files) if ratio_list is None else list(ratio_list)
    if len(ratios) == 1:
        ratios *= len(label_files)
    if len(ratios) != len(label_files):
        raise InputError(
            f"{len(ratios)} ratios for {len(label_files)} label files", remedy="give one ratio per file"
        )
    files = [LabelFile(path) for path in label_files]
    pairs = enumerate(zip(files, ratios, strict=True))
    chosen = [_choose(file, ratio, [seed, k]) for k, (file, ratio) in pairs]
    return LabelledImages(files, data_dir, kind, chosen)


def _choose(file: LabelFile, ratio: float, seed: list[int]) -> npt.NDArray[np.int64] | None:
    if not 0 < ratio <= 1:
        raise InputError(f"ratio is {ratio}, must be above 0 and at most 1", where=file.path)
    if ratio == 1:
        return None
    count = max(1, round(len(file) * ratio))
    order = np.random.default_rng(seed).permutation(len(file))[:count]
    return np.sort(order).astype(np.int64)


def check_text(text: str, kind: str, where: Callable[[], str]) -> None:
    """Raise InputError when a text cannot be a label of ``kind``; ``where`` is asked only then."""
    if kind == "cls" and text not in CLS_LABELS:
        raise InputError(f"cls label is {text[:40]!r}", where=where(), remedy="labels are 0 and 180")
    if kind == "det":
        parse_boxes(text, where())

"""Sets of lines or pages: train.txt, eval.txt, calib.txt, images/ and a manifest with every hash."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slim.artifact import FORMAT, MANIFEST, write_json, writing
from slim.errors import InputError, StageFailed
from slim.numerics import file_sha256
from slim.progress import Reporter, Silent
from slim.synth.fonts import Face, bundled_faces, faces_in, held_out_family
from slim.synth.pages import render_page
from slim.synth.render import Difficulty, encode, render_line
from slim.synth.texts import MAX_CHARACTERS, Split, draw_text

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    _Drawn = tuple[str, str, str, int, Picture]

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give other bytes."""

TASKS = ("rec", "cls", "det")
SPLITS: tuple[Split, Split] = ("train", "eval")
MAX_LINES = 1_000_000
LINES = "lines.jsonl"
"""What each line was drawn with: text, family, font, background."""

HELD_OUT_SHARE = 0.2
"""Share of eval lines in the family that train never shows."""

_CHUNK = 100
_FOLDER = 1000
# Tuned by scoring the bundled float models on 1,000 eval lines: about 90% (rec) and 95% (cls). The
# recognizer was trained on lines of good contrast, so that is what it is asked to read.
_HARD = {
    "rec": Difficulty(
        slope=0.008, shear=0.03, perspective=0.02, blur=0.7, noise=8.0, contrast=120, texture=12,
        quality=70, low=28, margin=0.1, colour=25,
    ),
    "cls": Difficulty(
        slope=0.02, shear=0.15, perspective=0.12, blur=1.0, noise=14.0, contrast=60, texture=40,
        quality=50, low=22, margin=0.5, colour=100,
    ),
    "det": Difficulty(
        slope=0.06, shear=0.0, perspective=0.0, blur=0.7, noise=12.0, contrast=90, texture=40,
        quality=60, low=14, margin=0.0, colour=60,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One rendered line or page: its label, and what it was drawn with.

    Of a page, ``text`` holds one text a line and ``font`` one name a line.
    """

    ref: str
    label: str
    text: str
    family: str
    font: str
    background: int


@dataclass(frozen=True)
class _Job:
    task: str
    split: Split
    first: int
    last: int
    seed: int
    folder: Path
    families: tuple[tuple[Face, ...], ...]
    held_out: tuple[tuple[Face, ...], ...]


def synthesize(
    task: str,
    out: Path,
    counts: Mapping[str, int],
    seed: int,
    fonts: Path | None = None,
    progress: Reporter | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Write a data set of rendered lines in PaddleOCR's label-file form.

    Train and eval share no text (each text belongs to one of them by its hash; checked once more at the
    end), no random stream and no background, and eval shows one font family more than train. The
    calibration file names images of the train set only. The bytes depend on ``task``, ``counts``,
    ``seed``, the fonts and GENERATOR_VERSION, not on ``jobs``.

    Args:
        task: "rec" (the label is the text), "cls" ("0", or "180" for a line turned by 180 degrees) or "det"
            (pages; the label is PaddleOCR's JSON list of regions).
        out: folder to write; an older set there is replaced as a whole.
        counts: lines (pages) of "train", "eval" and "calib"; calib at most train.
        seed: at least 0.
        fonts: folder of .ttf / .otf files of two families at least; None: matplotlib's.
        progress: gets one unit per line or page.
        jobs: processes to render with (started afresh; the main module must be importable).

    Returns:
        The manifest, as written to ``out/manifest.json``.

    Raises:
        InputError: bad counts, seed, fonts or folder.

    Example: ``synthesize("rec", Path("set"), {"train": 2000, "eval": 2000, "calib": 200}, seed=1)``
    """
    _require_request(task, counts, seed, jobs)
    faces = bundled_faces() if fonts is None else faces_in(fonts)
    held_out = held_out_family(faces)
    with writing(out) as folder:
        total = counts["train"] + counts["eval"]
        what = "pages" if task == "det" else f"{task} lines"
        with (progress or Silent()).task(f"render {what}", total) as bar:
            rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
            work = [job for split in SPLITS for job in _jobs(task, split, counts, seed, folder, faces)]
            for job, done in zip(work, _render_all(work, jobs), strict=True):
                rows[job.split] += done
                bar.advance(len(done))
        _require_disjoint(rows)
        chosen = np.random.default_rng([seed, 9]).permutation(counts["train"])[: counts["calib"]]
        rows["calib"] = [rows["train"][k] for k in np.sort(chosen)]
        manifest = _describe(folder, task, seed, rows, faces, held_out)
    return manifest


def _require_request(task: str, counts: Mapping[str, int], seed: int, jobs: int) -> None:
    if task not in TASKS:
        raise InputError(f"task is {task!r}, must be one of {', '.join(TASKS)}")
    if set(counts) != {"train", "eval", "calib"}:
        raise InputError(
            f"counts are given for {', '.join(sorted(counts))}", remedy="give train, eval and calib"
        )
    if not all(0 <= count <= MAX_LINES for count in counts.values()) or not any(counts.values()):
        raise InputError(f"counts are {dict(counts)}, each must be 0 to {MAX_LINES} and one above 0")
    if counts["calib"] > counts["train"]:
        raise InputError(
            f"{counts['calib']} calibration lines of {counts['train']} train lines",
            remedy="calibration draws from the train set: ask for more train lines",
        )
    if seed < 0 or jobs < 1:
        raise InputError(f"seed is {seed} and jobs is {jobs}, the least are 0 and 1")


def _jobs(
    task: str, split: Split, counts: Mapping[str, int], seed: int, folder: Path, faces: Sequence[Face]
) -> list[_Job]:
    held_out = held_out_family(list(faces))
    names = sorted({face.family for face in faces} - {held_out})
    families = tuple(tuple(face for face in faces if face.family == name) for name in names)
    unseen = (tuple(face for face in faces if face.family == held_out),) if split == "eval" else ()
    total = counts[split]
    return [
        _Job(task, split, first, min(first + _CHUNK, total), seed, folder, families, unseen)
        for first in range(0, total, _CHUNK)
    ]


def _render_all(work: Sequence[_Job], jobs: int) -> Iterator[list[Row]]:
    """Rows of each job, in order. Processes are spawned: a forked one may inherit locks of paddle."""
    if jobs == 1 or len(work) <= 2:
        yield from map(_render, work)
        return
    with _pool(min(jobs, len(work))) as pool:
        yield from pool.map(_render, work)


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render(job: _Job) -> list[Row]:
    rows = []
    for number in range(job.first, job.last):
        row, data = _one(job, number)
        path = job.folder / row.ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append(row)
    return rows


def _one(job: _Job, number: int) -> tuple[Row, bytes]:
    """The ``number``-th line or page of a split: a function of task, seed, split and number."""
    hard, part = _HARD[job.task], SPLITS.index(job.split)
    rng = np.random.default_rng([job.seed, TASKS.index(job.task), part, number])
    shown = job.held_out if rng.random() < HELD_OUT_SHARE and job.held_out else job.families
    family = shown[int(rng.integers(len(shown)))]
    draw = _page if job.task == "det" else _line
    label, text, font, background, image = draw(job, family, part, rng)
    ref = f"images/{job.split}/{number // _FOLDER:03d}/{number:06d}.jpg"
    row = Row(ref, label, text, family[0].family, font, background)
    return row, encode(image, rng, hard)


def _line(job: _Job, family: tuple[Face, ...], part: int, rng: np.random.Generator) -> _Drawn:
    """Label, text, font, background and picture of a line."""
    from PIL import Image

    face = family[int(rng.integers(len(family)))]
    text = draw_text(rng, job.split, face.characters)
    background = _background(part, rng)
    image = render_line(text, face, rng, background, _HARD[job.task])
    label = text
    if job.task == "cls":
        label = ("0", "180")[int(rng.integers(2))]
        image = image.transpose(Image.Transpose.ROTATE_180) if label == "180" else image
    return label, text, face.name, background, image


def _page(job: _Job, family: tuple[Face, ...], part: int, rng: np.random.Generator) -> _Drawn:
    """The same of a page."""
    background = _background(part, rng)
    image, regions = render_page(job.split, family, rng, background, _HARD[job.task])
    rows = [{"transcription": r.text, "points": [list(corner) for corner in r.corners]} for r in regions]
    label = json.dumps(rows, ensure_ascii=False)
    return label, "\n".join(r.text for r in regions), ",".join(r.font for r in regions), background, image


def _background(part: int, rng: np.random.Generator) -> int:
    return int(rng.integers(2**31)) * 2 + part  # even for train, odd for eval: never the same


def _require_disjoint(rows: Mapping[str, Sequence[Row]]) -> None:
    for what in ("text", "background"):
        train, held = (_values(rows[split], what) for split in SPLITS)
        shared = train & held
        if shared:
            raise StageFailed(f"train and eval share {len(shared)} {what}s, e.g. {sorted(shared)[0]!r}")


def _values(rows: Sequence[Row], what: str) -> set[str]:
    """One value a row, but of a page the text of each line."""
    return {value for row in rows for value in str(getattr(row, what)).split("\n")}


def _describe(
    folder: Path,
    task: str,
    seed: int,
    rows: Mapping[str, Sequence[Row]],
    faces: Sequence[Face],
    held_out: str,
) -> dict[str, Any]:
    """Write the label files, `lines.jsonl` and the manifest, which is that of an artifact folder."""
    lists = {}
    for split, lines in rows.items():
        body = "".join(f"{row.ref}\t{row.label}\n" for row in lines).encode()
        (folder / f"{split}.txt").write_bytes(body)
        lists[split] = {
            "file": f"{split}.txt",
            "count": len(lines),
            "sha256": hashlib.sha256(body).hexdigest(),
            "images_sha256": _images_sha256(folder, lines),
            "families": sorted({row.family for row in lines}),
        }
    with open(folder / LINES, "w", encoding="utf-8", newline="\n") as file:
        for row in (*rows["train"], *rows["eval"]):
            file.write(json.dumps(asdict(row), ensure_ascii=False, sort_keys=True) + "\n")
    counts = {split: len(rows[split]) for split in ("train", "eval", "calib")}
    manifest = {
        "format": FORMAT,
        "stage": "synth",
        "recipe": {"task": task, "counts": counts, "difficulty": asdict(_HARD[task])},
        "parent": "",
        "files": {name: file_sha256(folder / name) for name in (*(f"{k}.txt" for k in counts), LINES)},
        "tools": _tools(),
        "seed": seed,
        "data": lists,
        "facts": {
            "generator": GENERATOR_VERSION,
            "max_characters": MAX_CHARACTERS,
            "held_out_family": held_out,
            "fonts": [{"name": f.name, "family": f.family, "sha256": f.sha256} for f in faces],
        },
        "counts": counts,
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def _tools() -> dict[str, str]:
    """Versions of the packages that decide the bytes."""
    return {name: metadata.version(name) for name in ("numpy", "pillow")}


def _images_sha256(folder: Path, rows: Sequence[Row]) -> str:
    """One hash over all image files of a set, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(hashlib.sha256((folder / row.ref).read_bytes()).digest())
    return digest.hexdigest()

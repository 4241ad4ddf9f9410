"""Sets of lines or pages: train.txt, eval.txt, calib.txt, images/ and a manifest with every hash."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slim.artifact import writing
from slim.errors import InputError, StageFailed
from slim.progress import Reporter, Silent
from slim.synth.fonts import Face, bundled_faces, faces_in, held_out_family
from slim.synth.language import Language, Request, prepare
from slim.synth.manifest import HARD, Row, describe
from slim.synth.order import visual_order
from slim.synth.pages import render_page
from slim.synth.render import encode, render_line
from slim.synth.texts import Split, draw_text

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    _Drawn = tuple[str, str, str, int, Picture]

TASKS = ("rec", "cls", "det")
SPLITS: tuple[Split, Split] = ("train", "eval")
MAX_LINES = 1_000_000
HELD_OUT_SHARE = 0.2
"""Share of eval lines in the family that train never shows."""

_CHUNK = 100
_FOLDER = 1000


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
    language: Language | None = None


def synthesize(
    task: str,
    out: Path,
    counts: Mapping[str, int],
    seed: int,
    fonts: Path | None = None,
    progress: Reporter | None = None,
    jobs: int = 1,
    language: Request | None = None,
) -> dict[str, Any]:
    """Write a data set of rendered lines in PaddleOCR's label-file form.

    Train and eval share no text (each text belongs to one of them by its hash; checked once more at the
    end), no random stream and no background, and eval shows one font family more than train. The
    calibration file names images of the train set only. The bytes depend on ``task``, ``counts``,
    ``seed``, ``language``, the fonts and GENERATOR_VERSION, not on ``jobs``.

    Args:
        task: "rec" (the label is the text), "cls" ("0", or "180" for a line turned by 180 degrees) or "det"
            (pages; the label is PaddleOCR's JSON list of regions).
        out: folder to write; an older set there is replaced as a whole.
        counts: lines (pages) of "train", "eval" and "calib"; calib at most train.
        seed: at least 0.
        fonts: folder of .ttf / .otf files; None: matplotlib's. English needs two families at least.
        progress: gets one unit per line or page.
        jobs: processes to render with (started afresh; the main module must be importable).
        language: what lines (not pages) of another language are made of; None: English.

    Returns:
        The manifest, as written to ``out/manifest.json``.

    Raises:
        InputError: bad counts, seed, fonts, language or folder. ToolMissing: no engine for the script.

    Example: ``synthesize("rec", Path("set"), {"train": 2000, "eval": 2000, "calib": 200}, seed=1)``
    """
    _require_request(task, counts, seed, jobs)
    progress = progress or Silent()
    words = None if language is None else _prepared(task, language, fonts, counts, progress)
    if words is None:
        faces = bundled_faces() if fonts is None else faces_in(fonts)
        held_out = held_out_family(faces)
    else:
        faces, held_out = list(words.faces), words.held_out
    with writing(out) as folder:
        total = counts["train"] + counts["eval"]
        what = "pages" if task == "det" else f"{task} lines"
        with progress.task(f"render {what}", total) as bar:
            rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
            parts = [_jobs(task, split, counts, seed, folder, faces, held_out, words) for split in SPLITS]
            work = [job for part in parts for job in part]
            for job, done in zip(work, _render_all(work, jobs), strict=True):
                rows[job.split] += done
                bar.advance(len(done))
        _require_disjoint(rows)
        chosen = np.random.default_rng([seed, 9]).permutation(counts["train"])[: counts["calib"]]
        rows["calib"] = [rows["train"][k] for k in np.sort(chosen)]
        manifest = describe(folder, task, seed, rows, faces, held_out, _facts(language, words))
    return manifest


def _prepared(
    task: str, language: Request, fonts: Path | None, counts: Mapping[str, int], progress: Reporter
) -> Language:
    if task == "det":
        raise InputError(
            "pages are rendered in English only", remedy="--task rec or cls for another language"
        )
    return prepare(language, fonts, counts, progress)


def _facts(request: Request | None, words: Language | None) -> dict[str, Any] | None:
    """What the manifest says of the language."""
    return None if request is None or words is None else request.facts() | {"shaped": words.shaped}


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
    task: str,
    split: Split,
    counts: Mapping[str, int],
    seed: int,
    folder: Path,
    faces: Sequence[Face],
    held_out: str,
    words: Language | None,
) -> list[_Job]:
    names = sorted({face.family for face in faces} - {held_out})
    families = tuple(tuple(face for face in faces if face.family == name) for name in names)
    unseen = (tuple(face for face in faces if face.family == held_out),) if split == "eval" else ()
    total = counts[split]
    return [
        _Job(task, split, first, min(first + _CHUNK, total), seed, folder, families, unseen, words)
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
    hard, part = HARD[job.task], SPLITS.index(job.split)
    rng = np.random.default_rng([job.seed, TASKS.index(job.task), part, number])
    unseen = rng.random() < HELD_OUT_SHARE and bool(job.held_out)
    if job.language is None:
        shown = job.held_out if unseen else job.families
        family = shown[int(rng.integers(len(shown)))]
        draw = _page if job.task == "det" else _english
        label, text, font, background, image = draw(job, family, part, rng)
        name = family[0].family
    else:
        face, text = job.language.draw(rng, job.split, unseen)
        label, text, font, background, image = _line(job, face, text, part, rng)
        name = face.family
    ref = f"images/{job.split}/{number // _FOLDER:03d}/{number:06d}.jpg"
    return Row(ref, label, text, name, font, background), encode(image, rng, hard)


def _english(job: _Job, family: tuple[Face, ...], part: int, rng: np.random.Generator) -> _Drawn:
    face = family[int(rng.integers(len(family)))]
    return _line(job, face, draw_text(rng, job.split, face.characters), part, rng)


def _line(job: _Job, face: Face, text: str, part: int, rng: np.random.Generator) -> _Drawn:
    """Label, text, font, background and picture of a line."""
    from PIL import Image

    background = _background(part, rng)
    image = render_line(text, face, rng, background, HARD[job.task])
    label = visual_order(text)
    if job.task == "cls":
        label = ("0", "180")[int(rng.integers(2))]
        image = image.transpose(Image.Transpose.ROTATE_180) if label == "180" else image
    return label, text, face.name, background, image


def _page(job: _Job, family: tuple[Face, ...], part: int, rng: np.random.Generator) -> _Drawn:
    """The same of a page."""
    background = _background(part, rng)
    image, regions = render_page(job.split, family, rng, background, HARD[job.task])
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

"""slim ocr: a picture through three exported files, as an app would do it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.errors import InputError, UsageError
from slim.progress import Reporter

if TYPE_CHECKING:
    from slim.ocr.pages import Model, PageLine
    from slim.spec import ModelSpec

FORMATS = (".png", ".jpg", ".jpeg", ".bmp")


def read_picture(
    image: Path, *, det: Path, rec: Path, cls: Path | None, out: Path | None, progress: Reporter
) -> dict[str, Any]:
    """Find, turn and read the lines of a picture; with ``out``, draw the boxes on a copy of it.

    Args:
        image: a picture file.
        det, rec, cls: .nb files (ARM: run by the executor, x86: by Paddle-Lite), each where slim export-nb
            wrote it: ``spec.json`` beside it says what it reads and means.
        out: .png, .jpg or .bmp.
    Raises:
        InputError: an unreadable file, a model of another kind than asked for. ArtifactError: changed files.
    """
    from slim.data.images import decode_image, encoded, read_bytes
    from slim.ocr.pages import drawn, read_page

    if out is not None and out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {out.name} is no picture", remedy=f"end it with {', '.join(FORMATS)}")
    pixels = decode_image(read_bytes(image, str(image)), str(image))
    wanted = {"det": det, "rec": rec, **({} if cls is None else {"cls": cls})}
    with _opened(wanted) as (models, names):
        progress.info(", ".join(f"{kind}: {wanted[kind]} ({name})" for kind, name in names.items()))
        start = time.perf_counter()
        lines = read_page(pixels, models["det"], models["rec"], models.get("cls"))
        seconds = time.perf_counter() - start
    if out is not None:
        artifact.write_bytes(out, encoded(drawn(pixels, lines), out.suffix.lower()))
    return {
        "image": str(image),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "models": {kind: {"file": str(wanted[kind]), "runtime": name} for kind, name in names.items()},
        "lines": [_row(line) for line in lines],
        "seconds": seconds,
        "out": None if out is None else str(out),
    }


def _row(line: PageLine) -> dict[str, Any]:
    angle = line.angle
    return {
        "points": [list(point) for point in line.region.points],
        "score": line.region.score,
        "angle": None if angle is None else angle.text,
        "angle_score": None if angle is None else angle.score,
        "text": line.text.text,
        "text_score": line.text.score,
    }


@contextmanager
def _opened(wanted: dict[str, Path]) -> Iterator[tuple[dict[str, Model], dict[str, str]]]:
    """The models by kind and the names of their runtimes; all facts are read before anything is started."""
    from export.runtimes.base import open_runtime
    from slim.ocr.pages import Model

    specs = {kind: _spec(kind, path) for kind, path in wanted.items()}
    runtimes = {}
    try:
        for kind, path in wanted.items():
            runtimes[kind] = open_runtime(path)
        models = {kind: Model(specs[kind], runtime.run) for kind, runtime in runtimes.items()}
        yield models, {kind: runtime.name for kind, runtime in runtimes.items()}
    finally:
        for runtime in runtimes.values():
            runtime.close()


def _spec(kind: str, path: Path) -> ModelSpec:
    from export.stage import read_spec

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(what, where=path, remedy=f"give --{kind} a .nb file")
    folder = path.parent
    if (folder / artifact.MANIFEST).is_file():
        artifact.verify(folder)
    spec = read_spec(folder)
    if spec is None:
        raise InputError(
            "has no spec.json beside it, so its input and labels are unknown",
            where=path,
            remedy="give the file in the folder slim export-nb wrote",
        )
    if spec.kind != kind:
        raise InputError(
            f"is a {spec.kind} model ({spec.name}), --{kind} needs one of kind {kind}", where=path
        )
    return spec

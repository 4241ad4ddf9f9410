"""What a set says of itself: label files, a row for each picture, and a manifest with every hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from slim.artifact import FORMAT, MANIFEST, write_json
from slim.numerics import file_sha256
from slim.shaping import engine_versions
from slim.synth.fonts import Face
from slim.synth.render import Difficulty
from slim.synth.texts import MAX_CHARACTERS

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give other bytes."""

LINES = "lines.jsonl"
"""What each line was drawn with: text, family, font, background."""

# Tuned by scoring the bundled float models on 1,000 eval lines: about 90% (rec) and 95% (cls). The
# recognizer was trained on lines of good contrast, so that is what it is asked to read.
HARD = {
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


def describe(
    folder: Path,
    task: str,
    seed: int,
    rows: Mapping[str, Sequence[Row]],
    faces: Sequence[Face],
    held_out: str,
    language: Mapping[str, Any] | None = None,
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
    recipe = {"task": task, "counts": counts, "difficulty": asdict(HARD[task])}
    manifest = {
        "format": FORMAT,
        "stage": "synth",
        "recipe": recipe if language is None else {**recipe, "language": language},
        "parent": "",
        "files": {name: file_sha256(folder / name) for name in (*(f"{k}.txt" for k in counts), LINES)},
        "tools": _tools(shaped=language is not None and language["shaped"]),
        "seed": seed,
        "data": lists,
        "facts": {
            "generator": GENERATOR_VERSION,
            "max_characters": MAX_CHARACTERS if language is None else language["longest"],
            "held_out_family": held_out,
            "fonts": [{"name": f.name, "family": f.family, "sha256": f.sha256} for f in faces],
        },
        "counts": counts,
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def _tools(shaped: bool) -> dict[str, str]:
    """Versions of the packages that decide the bytes."""
    packages = {name: metadata.version(name) for name in ("numpy", "pillow")}
    return packages | engine_versions() if shaped else packages


def _images_sha256(folder: Path, rows: Sequence[Row]) -> str:
    """One hash over all image files of a set, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(hashlib.sha256((folder / row.ref).read_bytes()).digest())
    return digest.hexdigest()

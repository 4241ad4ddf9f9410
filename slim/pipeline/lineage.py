"""What was done to a model: one entry a stage, carried from manifest to manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slim.artifact import MANIFEST, Manifest, read_manifest
from slim.errors import ArtifactError

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.evaluate import EvalResult

LINEAGE = "lineage"


class Left(NamedTuple):
    """A stage of the past whose folder still holds the model it left there."""

    entry: dict[str, Any]
    folder: Path
    manifest: Manifest


def entry(stage: str, bundle: Bundle, score: EvalResult | None = None, **facts: Any) -> dict[str, Any]:
    """Stage, source, weights hash, parameters, multiply-adds, and the metric with its number of images."""
    from slim.arch.cost import count

    # Quantizers are not counted: parameters and multiply-adds are those of the net they wrap.
    plain = bundle if bundle.scheme is None else replace(bundle, scheme=None).clone()
    cost = count(plain.net, bundle.spec.input.shape)
    found: dict[str, Any] = {
        "stage": stage,
        "source": bundle.source,
        "weights": bundle.sha256(),
        "params": cost.params,
        "flops": cost.flops,
    }
    if score is not None:
        # One character a line, so that a later report can pair the drop on the same images.
        right = "".join("1" if ok else "0" for ok in score.correct)
        found |= {"metrics": score.metrics, "images": score.images, "correct": right}
        if score.pages:
            found["pages"] = [list(page) for page in score.pages]
    return found | facts


def of(bundle: Bundle) -> list[dict[str, Any]]:
    """Entries of a model's past, oldest first: those of its artifact folder, or one "float" entry."""
    folder = Path(bundle.source)
    if not (folder / MANIFEST).is_file():
        return [entry("float", bundle)]
    manifest = read_manifest(folder)
    entries = [dict(found) for found in manifest.facts.get(LINEAGE, [])]
    if entries and "correct" in entries[-1] and "eval" in manifest.data:
        # Carried on with the marks: the next folder's own data may be another.
        entries[-1]["eval"] = lines_of(manifest.data["eval"])
    return entries


def lines_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one set of lines from another: the labels' hash, and how many are taken of each file.

    Paths are no part of it, and neither are the pixels: the hash is that of refs and texts.

    Args:
        data: what a data set says of itself (``describe``).
    """
    return {"sha256": data.get("sha256"), "counts": [part.get("count") for part in data.get("files", [data])]}


def folders(entries: Sequence[dict[str, Any]]) -> tuple[list[Left], list[Path]]:
    """Stages whose folder still holds what they left, and folders that hold another model by now.

    A folder that is gone is in neither.
    """
    kept, replaced = [], []
    for found in entries:
        folder = Path(str(found.get("out", "")))
        if not found.get("out") or not (folder / MANIFEST).is_file():
            continue
        try:
            manifest = read_manifest(folder)
        except ArtifactError:
            replaced.append(folder)
            continue
        now = manifest.facts.get(LINEAGE) or [{}]
        if now[-1].get("weights") == found.get("weights"):
            kept.append(Left(found, folder, manifest))
        else:
            replaced.append(folder)
    return kept, replaced


def origin(entries: list[dict[str, Any]]) -> str | None:
    """Where the float original is: what ``slim check`` opens to compare with; None where no past is known."""
    return str(entries[0]["source"]) if entries else None

"""What was done to a model: one entry a stage, carried from manifest to manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.artifact import MANIFEST, read_manifest

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.evaluate import EvalResult

LINEAGE = "lineage"


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
    if (folder / MANIFEST).is_file():
        return list(read_manifest(folder).facts.get(LINEAGE, []))
    return [entry("float", bundle)]


def origin(entries: list[dict[str, Any]]) -> str:
    """Where the float original is: what ``slim check`` opens to compare with."""
    return str(entries[0]["source"])

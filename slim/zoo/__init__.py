"""Trained models by name: those that travel inside the package, and published ones once they are pulled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slim.errors import InputError, UnsupportedModel
from slim.zoo.table import PUBLISHED, WEIGHTS, Published, archive

PREFIX = "zoo:"


@dataclass(frozen=True)
class ZooModel:
    """Weights at hand: their file, the recipe that describes their net, where they come from."""

    name: str
    kind: str
    config: str
    origin: str
    path: Path


def _bundled(name: str, kind: str, config: str, origin: str) -> ZooModel:
    return ZooModel(name, kind, config, origin, Path(__file__).parent / f"{name}.pdparams")


MODELS = {
    model.name: model
    for model in (
        _bundled(
            "ch_ppocr_mobile_v2.0_cls",
            "cls",
            "cls/ch_ppocr_mobile_v2.0_cls",
            "the official text angle classifier (0 / 180) of PP-OCR v2.0",
        ),
        _bundled(
            "en_number_synthetic_crnn",
            "rec",
            "rec/en_number_mobile_v2.0_rec",
            "a 97-class CRNN of the en_number shape, trained on rendered lines; not an official model",
        ),
        _bundled(
            "en_synthetic_det",
            "det",
            "det/en_synthetic_det",
            "a small DB text detector trained on 2,000 rendered pages; not an official model",
        ),
    )
}
"""The models inside the package: no network, no checkout needed."""


def find(name: str) -> ZooModel:
    """A bundled or pulled model by name, with or without the prefix ``zoo:``.

    A bundled name means the copy in the package, so that a recipe gives the same result on every machine;
    ``NAME/train`` and ``NAME/pre`` mean the pulled checkpoint.

    Raises:
        InputError: no such model, or it is not pulled yet.
        UnsupportedModel: the publisher's quantized checkpoints.

    >>> find("zoo:ch_ppocr_mobile_v2.0_cls").kind
    'cls'
    """
    short = name.removeprefix(PREFIX)
    if short in MODELS:
        return MODELS[short]
    base, _, kind = short.partition("/")
    if base not in PUBLISHED:
        from slim.config.suggest import nearest

        guess = nearest(base, [*MODELS, *PUBLISHED])
        remedy = f"did you mean {guess}?" if guess else "slim models lists the names"
        raise InputError(f"no model {short!r} in the zoo", remedy=remedy)
    return _pulled(PUBLISHED[base], kind)


def _pulled(row: Published, kind: str) -> ZooModel:
    from slim.zoo.pull import weights

    if row.original or kind == "slim-train":
        raise UnsupportedModel(
            "the published slim checkpoint holds quantization wrappers, and pruned layers without their plan",
            where=row.name,
            remedy=f"start from zoo:{row.original or row.name}, slim run makes the slim model from it",
        )
    if kind not in ("", *WEIGHTS):
        raise InputError(
            f"{kind!r} holds no checkpoint", where=row.name, remedy=f"use {' or '.join(WEIGHTS)}"
        )
    wanted = archive(row.name, kind or "train")
    name = f"{row.name}/{kind}" if kind else row.name
    return ZooModel(name, row.kind, row.config, f"pulled from {wanted.path}", weights(wanted))

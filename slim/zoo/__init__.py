"""The trained models that travel inside the package: no network, no checkout needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slim.errors import InputError

PREFIX = "zoo:"


@dataclass(frozen=True)
class ZooModel:
    """One bundled model: its weights file, the config that describes its net, where it comes from."""

    name: str
    kind: str
    config: str
    origin: str

    @property
    def path(self) -> Path:
        """The .pdparams file inside the package."""
        return Path(__file__).parent / f"{self.name}.pdparams"


MODELS = {
    model.name: model
    for model in (
        ZooModel(
            "ch_ppocr_mobile_v2.0_cls",
            "cls",
            "cls/ch_ppocr_mobile_v2.0_cls",
            "the official text angle classifier (0 / 180) of PP-OCR v2.0",
        ),
        ZooModel(
            "en_number_synthetic_crnn",
            "rec",
            "rec/en_number_mobile_v2.0_rec",
            "a 97-class CRNN of the en_number shape, trained on rendered lines; not an official model",
        ),
    )
}


def find(name: str) -> ZooModel:
    """A bundled model by name, with or without the prefix ``zoo:``; raises InputError listing the names.

    >>> find("zoo:ch_ppocr_mobile_v2.0_cls").kind
    'cls'
    """
    short = name.removeprefix(PREFIX)
    if short not in MODELS:
        raise InputError(f"no bundled model {short!r}", remedy=f"use one of {', '.join(sorted(MODELS))}")
    return MODELS[short]

"""The facts that must travel with a model: what it reads, what its classes mean, how to decode it.

Nothing here imports paddle, so that pre-processing, decoding and scoring run anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slim.errors import ArtifactError

KINDS = ("cls", "rec", "det")
BLANK = ""


@dataclass(frozen=True)
class InputSpec:
    """Shape and normalisation of the net's input, float32 N x C x H x W.

    Pixels become ``(pixel * scale - mean[c]) / std[c]``, channel order ``order``. For cls and rec the
    image is resized to ``height`` keeping its ratio, then padded on the right with zeros (after
    normalisation) to ``width``. For det both sides are dynamic: see `slim.ocr.preprocess.det_size`,
    which reads ``limit_side`` (pixels) and ``limit_type`` ("max" or "min"); other kinds leave them alone.
    """

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    scale: float = 1.0 / 255.0
    order: str = "BGR"
    dynamic_width: bool = False
    dynamic_height: bool = False
    limit_side: int = 960
    limit_type: str = "max"

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W with the nominal width."""
        return self.channels, self.height, self.width


@dataclass(frozen=True)
class ModelSpec:
    """A model without its weights.

    Attributes:
        name: a short name for tables and folders.
        kind: "cls", "rec" or "det".
        arch: the Architecture section of a PaddleOCR config, plain data.
        labels: class order of the net's output; rec holds the CTC blank as "" at index 0,
            cls holds ("0", "180"), det is empty.
        input: see InputSpec.
        post: thresholds of the decoding step (det: thresh, box_thresh, max_candidates, unclip_ratio).
    """

    name: str
    kind: str
    arch: Mapping[str, Any]
    labels: tuple[str, ...]
    input: InputSpec
    post: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Width of the net's last layer (0 for det)."""
        return len(self.labels)

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for json.dump."""
        inp = self.input
        return {
            "name": self.name,
            "kind": self.kind,
            "arch": dict(self.arch),
            "labels": list(self.labels),
            "input": {**inp.__dict__, "mean": list(inp.mean), "std": list(inp.std)},
            "post": dict(self.post),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: str = "spec") -> ModelSpec:
        """Rebuild from ``to_json``; raises ArtifactError naming the key that is missing or wrong."""
        try:
            inp = dict(data["input"])
            inp["mean"], inp["std"] = tuple(inp["mean"]), tuple(inp["std"])
            if data["kind"] not in KINDS:
                raise ArtifactError(
                    f"kind is {data['kind']!r}, must be one of {', '.join(KINDS)}", where=where
                )
            return cls(
                name=str(data["name"]),
                kind=data["kind"],
                arch=dict(data["arch"]),
                labels=tuple(str(label) for label in data["labels"]),
                input=InputSpec(**inp),
                post=dict(data["post"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"model spec is incomplete or damaged ({error})",
                where=where,
                remedy="write the artifact again",
            ) from error

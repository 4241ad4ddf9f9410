"""The per-layer comparison of an artifact folder: on which images, against which float net."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export import fixes, layers, proto
from export.compare import blocks
from export.layers_pairs import weights_of
from export.nb.format import NbModel, read_nb
from export.program import save_program
from export.subjects import Exported
from slim.bundle import Bundle
from slim.errors import ArtifactError
from slim.ocr.preprocess import to_tensor
from slim.progress import Reporter

if TYPE_CHECKING:
    from slim.data.dataset import Dataset

# Images every layer is compared on: thousands of values a layer each, more move an SNR by tenths of a dB.
IMAGES = 8
DRAWN = 2


@dataclass(frozen=True)
class LayerReport:
    """All layers, worst first.

    Attributes:
        reference: what they were compared with, in words; ``inputs`` on what.
        alone: layers of the ARM file that the float net has no tensor for.
    """

    layers: tuple[layers.LayerLoss, ...]
    reference: str
    inputs: str
    alone: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``layers`` is the list of rows."""
        return {
            "layers": [layer.to_json() for layer in self.layers],
            "layers_reference": self.reference,
            "layers_inputs": self.inputs,
            "layers_unpaired": list(self.alone),
        }


def measure(
    exported: Exported,
    dataset: Dataset | None,
    *,
    original: Bundle | None = None,
    shipped: Bundle | None = None,
    float_view: Callable[[Bundle], Bundle] | None = None,
    seed: int = 0,
    progress: Reporter | None = None,
) -> LayerReport:
    """Per-layer comparison of the ARM file of an artifact.

    Args:
        dataset: up to ``IMAGES`` of its lines are used, spread over it; None (or det): line-like blocks.
        original, shipped: see `export.check.check`; which of them is compared with is said in the report:
            the original where the file has all its channels, else the float view of the pruned net.
        float_view: takes the quantizers out of a bundle.
    Raises:
        ArtifactError: the folder has no ARM file.
    """
    if "arm" not in exported.files:
        raise ArtifactError("holds no model.arm.nb", where=exported.folder, remedy="export with target arm")
    model = read_nb(exported.files["arm"])
    images, inputs = _inputs(exported, dataset, seed)
    with tempfile.TemporaryDirectory(prefix="layers-") as work:
        prefix = Path(work) / "reference"
        words = _reference(exported, model, prefix, original, shipped, float_view)
        losses, alone = layers.compare_layers(model, prefix, images, progress=progress)
    return LayerReport(tuple(losses), words, inputs, tuple(alone))


def _inputs(exported: Exported, dataset: Dataset | None, seed: int) -> tuple[list[np.ndarray], str]:
    spec = exported.spec.input
    if dataset is not None and len(dataset) and exported.spec.kind != "det":
        count = min(IMAGES, len(dataset))
        chosen = [i * len(dataset) // count for i in range(count)]
        return [to_tensor(dataset[i].image, spec)[None] for i in chosen], f"{count} images"
    height, width = (320, 320) if spec.dynamic_height else (spec.height, spec.width)
    shape = (1, spec.channels, height, width)
    drawn = [blocks(shape, seed + i) for i in range(DRAWN)]
    return drawn, f"{DRAWN} drawn tensors (no images)"


def _reference(
    exported: Exported,
    model: NbModel,
    prefix: Path,
    original: Bundle | None,
    shipped: Bundle | None,
    float_view: Callable[[Bundle], Bundle] | None,
) -> str:
    """Write the float program to compare with as ``prefix``; what it is, in words."""
    if original is not None and original.scheme is None and _fits(original, exported, model):
        save_program(original, prefix)
        return "the float original: what training changed since then counts as a loss"
    why = "the file is pruned" if original is not None else "no float original is known"
    if shipped is not None and shipped.scheme is None:
        save_program(shipped, prefix)
        return f"the float net behind the file ({why})"
    if shipped is not None and float_view is not None:
        save_program(float_view(shipped), prefix)
        return f"the float view of the quantized net behind the file: same weights, no quantizers ({why})"
    fixes.float_program(exported.prefix, prefix)
    return f"the float view of the folder's own inference program ({why}; the net behind the file is gone)"


def _fits(original: Bundle, exported: Exported, model: NbModel) -> bool:
    """Whether the original has the file's layers with all their channels, by the folder's own program."""
    program = proto.read_program(proto.model_path(exported.prefix))
    shapes = {v.name: proto.dims(v) for v in proto.parameters(program)}
    state = original.state()
    return all(n in state and shapes.get(n) == state[n].shape for n in set(weights_of(model).values()))

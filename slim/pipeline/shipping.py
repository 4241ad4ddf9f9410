"""The file that would ship for a choice of float layers: made by opt, executed, scored."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slim.pipeline.exporting import stored_as_planned
from slim.progress import Reporter, Silent

if TYPE_CHECKING:
    import numpy.typing as npt

    from quant.analysis import Choice, Shipped
    from slim.bundle import Bundle
    from slim.config import ExportSection
    from slim.data.dataset import Dataset
    from slim.evaluate import EvalResult
    from slim.spec import ModelSpec


def executed(
    path: Path, spec: ModelSpec, dataset: Dataset, images: int, progress: Reporter
) -> tuple[EvalResult, npt.NDArray[np.float32]]:
    """Score an ARM file on the first ``images`` lines; also its outputs, one row a line."""
    from export.runtimes import nb
    from slim.evaluate import evaluate

    runtime, outputs = nb.load(path), []

    def run(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        outputs.append(runtime.run(x))
        return outputs[-1]

    result = evaluate(run, dataset, spec, limit=images, batch_size=8, progress=progress)
    return result, np.concatenate(outputs)


class Shipper:
    """A ``quant.analysis.Ship``: writes the quantized program once, then one ARM file a choice.

    Use as a context manager: the files lie in a temporary folder.

    Args:
        original: the float original; its own ARM file, all in float, is what outputs and accuracy are
            compared with.
        quantized: the bundle whose layers may fall back.
        dataset: lines to score, the first ``images`` of them; never those a result is published on.
        options: of the export, so that the file is the one that ships.
    """

    def __init__(
        self,
        original: Bundle,
        quantized: Bundle,
        dataset: Dataset,
        images: int,
        options: ExportSection,
        progress: Reporter | None = None,
    ) -> None:
        self.dataset, self.images = dataset, images
        self.options = stored_as_planned(options, quantized)
        self.progress = progress or Silent()
        self._bundles = original, quantized
        self._folder = tempfile.TemporaryDirectory(prefix="shipping-")
        self._outputs: npt.NDArray[np.float32] | None = None

    def __enter__(self) -> Shipper:
        from export.program import save_program
        from quant.freeze import save_inference

        self._work = Path(self._folder.name)
        original, quantized = self._bundles
        save_program(original, self._work / "original")
        save_program(quantized, self._work / "quantized", save_quantized=save_inference)
        plain = self.options.model_copy(update={"lstm_weights": "float"})
        self.original = self._executed(self._work / "original", plain)
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def __call__(self, choice: Choice) -> Shipped:
        """Make and run the file in which the layers of ``choice`` are float.

        Raises:
            OptFailed, StageFailed: opt died, or a layer that should be int8 is not.
        """
        from export import fixes

        prefix = self._work / "quantized"
        if choice:
            prefix = self._work / "candidate"
            fixes.float_program(self._work / "quantized", prefix, {f"{path}.weight" for path in choice})
        return self._executed(prefix, self.options)

    def _executed(self, prefix: Path, options: ExportSection) -> Shipped:
        from export.stage import one_file
        from quant.analysis import Shipped

        path = self._work / "model.arm.nb"
        facts = one_file(prefix, options, path)
        spec = self._bundles[1].spec
        result, found = executed(path, spec, self.dataset, self.images, self.progress)
        if self._outputs is None:
            self._outputs = found
        squares = np.square(found.astype(np.float64) - self._outputs)
        moved = float(squares.reshape(len(found), -1).sum(axis=1).mean())
        return Shipped(facts.bytes, tuple(result.correct), moved)

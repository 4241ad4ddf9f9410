"""What a model costs as a file: its ARM bytes as the export would write it, its time in Paddle-Lite x86."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slim.pipeline.exporting import one_nb
from slim.progress import Reporter, Silent

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import Config, ExportSection

_RUNS = 200


class FileCosts:
    """Makes files of float models to weigh and time them; the files live as long as this object.

    Args:
        config: with a Quant section ARM files are int8 by its layers and bits, else float.
    """

    def __init__(self, config: Config, progress: Reporter | None = None) -> None:
        self._config = config
        self._progress = progress or Silent()
        self._folder = tempfile.TemporaryDirectory(prefix="costs-")
        self._files: dict[str, Path] = {}

    def nb_bytes(self, bundle: Bundle) -> int:
        """Bytes of the ARM file.

        Raises:
            As `export.stage.one_file`.
        """
        shipped = self._quantized(bundle)
        found = one_nb(shipped, self._export, Path(self._folder.name) / "arm.nb").bytes
        kind = "float" if shipped.scheme is None else "int8"
        self._progress.info(f"{kind} ARM file: {found:,} bytes")
        return found

    def latencies(self, bundles: Sequence[Bundle]) -> list[float]:
        """Milliseconds of one input of nominal size in Paddle-Lite x86, all taking turns in one run.

        The fastest of many runs of each: on a loaded machine two medians of one file were up to twice apart.
        Times are of this machine; only their ratios mean something elsewhere.

        Raises:
            As `export.stage.one_file` and `export.bench_files.bench`.
        """
        from export.bench_files import bench
        from export.check_report import nominal_shape

        paths = [self._x86(bundle) for bundle in bundles]
        found = bench(paths, shape=nominal_shape(bundles[0].spec), runs=_RUNS, progress=self._progress)
        return [float(row["best_ms"]) for row in found["files"]]

    @property
    def _export(self) -> ExportSection:
        from slim.config import ExportSection

        return self._config.Export or ExportSection()

    def _quantized(self, bundle: Bundle) -> Bundle:
        """The model as the Quant section would leave it, in a form that has the same bytes."""
        from quant import stage

        return bundle if self._config.Quant is None else stage.weighed(bundle, self._config.Quant)

    def _x86(self, bundle: Bundle) -> Path:
        key = bundle.sha256()
        if key not in self._files:
            path = Path(self._folder.name) / f"{len(self._files)}.nb"
            one_nb(bundle, self._export, path, "x86")
            self._files[key] = path
        return self._files[key]

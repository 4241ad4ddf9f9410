"""Data sets a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slim.errors import ConfigError, UnsupportedModel

if TYPE_CHECKING:
    from slim.config import Config
    from slim.config.paddleocr import DatasetSection
    from slim.data.dataset import TrainingData


def require_lines(kind: str, what: str) -> None:
    """Refuse a detector where only right and wrong lines are counted.

    Raises:
        UnsupportedModel: ``kind`` is det.
    """
    if kind == "det":
        raise UnsupportedModel(
            f"{what} counts right lines, a detector has none",
            remedy="quantize it without, and hold it to Check.max_drop by slim check",
        )


def dataset(config: Config, purpose: str, kind: str, seed: int = 0) -> TrainingData:
    """The data set for "train", "eval" or "calibration" (default: that of Train).

    Raises:
        ConfigError: the section is absent or names no labels. InputError: a file is missing or empty.
    """
    return open_section(config.dataset(purpose), kind, seed, config.source)


def open_section(section: DatasetSection, kind: str, seed: int, where: str | None) -> TrainingData:
    """Open one ``dataset`` section: label files, or LMDB folders below ``data_dir``."""
    from slim.data.dataset import open_dataset

    if section.name != "SimpleDataSet":
        from slim.data.lmdb_data import open_lmdb

        if not section.data_dir:
            raise ConfigError("LMDBDataSet has no data_dir", where=where)
        return open_lmdb(Path(section.data_dir), kind)
    if not section.label_file_list:
        raise ConfigError(
            "dataset.label_file_list is empty", where=where, remedy="name at least one label file"
        )
    files = [Path(name) for name in section.label_file_list]
    folder = Path(section.data_dir) if section.data_dir else files[0].parent
    return open_dataset(files, folder, kind, ratio_list=section.ratio_list, seed=seed)


def open_labels(label_file: Path, kind: str, data_dir: Path | None = None) -> TrainingData:
    """A label file given on the command line; images are relative to its folder unless said otherwise."""
    from slim.data.dataset import open_dataset

    return open_dataset([label_file], data_dir or label_file.parent, kind)

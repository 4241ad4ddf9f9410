"""Whether the files a configuration names are there: the part that needs more than its text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slim.config.paddleocr import DatasetSection
from slim.config.schema import Config
from slim.errors import InputError


def check_files(config: Config) -> None:
    """Look for every file and folder the stages would open; data that is only written is not looked for.

    Raises:
        InputError: the first that is missing, its key, and how many more there are.
    """
    missing = [*_model(config), *_dictionary(config), *_data(config)]
    if not missing:
        return
    key, text = missing[0]
    more = len(missing) - 1
    count = f" ({more} more problem{'s' if more > 1 else ''})" if more else ""
    raise InputError(f"{key}: {text}{count}", where=config.source, remedy="paths start at the current folder")


def _model(config: Config) -> Iterator[tuple[str, str]]:
    from slim.zoo import PREFIX, find

    for key in ("pretrained_model", "checkpoints"):
        name = getattr(config.Global, key)
        if name is None:
            continue
        if name.startswith(PREFIX):
            try:
                find(name)
            except InputError as error:
                yield f"Global.{key}", str(error)
        elif not (_exists(name) or _exists(f"{name}.pdparams")):
            yield f"Global.{key}", f"no such file or folder as {name} or {name}.pdparams"


def _dictionary(config: Config) -> Iterator[tuple[str, str]]:
    from slim.dictionaries import labels_for

    if config.Architecture is not None:
        try:
            labels_for(config)
        except InputError as error:
            yield "Global.character_dict_path", str(error)


def _data(config: Config) -> Iterator[tuple[str, str]]:
    sections = {"Train": config.Train, "Eval": config.Eval, "Calibration": config.Calibration}
    for name, section in sections.items():
        if section is not None:
            yield from _dataset(f"{name}.dataset", section.dataset)


def _dataset(at: str, dataset: DatasetSection) -> Iterator[tuple[str, str]]:
    if dataset.data_dir is not None and not _exists(dataset.data_dir):
        yield f"{at}.data_dir", f"no such folder as {dataset.data_dir}"
    for index, label_file in enumerate(dataset.label_file_list or ()):
        if not _exists(label_file):
            yield f"{at}.label_file_list.{index}", f"no such file as {label_file}"


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False

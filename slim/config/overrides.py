"""``-o A.B.c=value``: changes to the raw configuration before it is checked against the schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slim.config.read import parse_yaml
from slim.errors import ConfigError

Path_ = tuple[str | int, ...]


def split_override(text: str) -> tuple[list[str], Any]:
    """``"Train.loader.batch_size_per_card=8"`` -> (["Train", "loader", "batch_size_per_card"], 8).

    Splits on the first ``=`` only; the value is YAML, an empty one is null.
    """
    name, equals, value = text.partition("=")
    parts = name.strip().split(".")
    if not equals:
        raise ConfigError(f"{_cut(text)!r} has no '='", where="-o", remedy="write -o Section.key=value")
    if not all(part.strip() for part in parts):
        raise ConfigError(
            f"{_cut(name)!r} has an empty name", where="-o", remedy="write -o Section.key=value"
        )
    return [part.strip() for part in parts], parse_yaml(value, f"-o {_cut(name.strip())}")


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> list[Path_]:
    """Apply overrides in order, in place; later ones win.

    Sections that are absent or null are created, so that the schema judges the name. List entries are
    addressed by index.

    Returns:
        For each override the path of the outermost value it has put there: what it is to blame for.
    Raises:
        ConfigError: a path through a plain value or past a list's end, or a value that is not YAML.
    """
    return [_apply(data, *split_override(text)) for text in overrides]


def _apply(data: dict[str, Any], parts: list[str], value: Any) -> Path_:
    here: Any = data
    path: list[str | int] = []
    created: Path_ | None = None
    for part in parts[:-1]:
        step = _step(here, part, path)
        path.append(step)
        if (here.get(step) if isinstance(here, dict) else here[int(step)]) is None:
            here[step] = {}
            created = created or tuple(path)
        here = here[step]
    last = _step(here, parts[-1], path)
    here[last] = value
    return created or (*path, last)


def _step(here: Any, part: str, path: list[str | int]) -> str | int:
    at = ".".join(str(p) for p in path)
    if isinstance(here, dict):
        return part
    if not isinstance(here, list):
        raise ConfigError(
            f"{at} is {_cut(repr(here))}, a value without keys",
            where=f"-o {_cut(f'{at}.{part}')}",
            remedy=f"set {at} itself",
        )
    if not part.isascii() or not part.isdigit():
        raise ConfigError(
            f"{at} is a list, {_cut(part)!r} is no index",
            where=f"-o {_cut(f'{at}.{part}')}",
            remedy=f"use {at}.0 to {at}.{len(here) - 1}" if here else f"set {at} itself",
        )
    index = int(part[:9])
    if index >= len(here):
        raise ConfigError(
            f"{at} has {len(here)} entries, index {index} is past its end",
            where=f"-o {_cut(f'{at}.{part}')}",
            remedy=f"use {at}.0 to {at}.{len(here) - 1}" if here else f"set {at} itself",
        )
    return index


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def data_overrides(folder: Path) -> list[str]:
    """What points a recipe at a data set that `slim synth` wrote, wherever it is.

    >>> data_overrides(Path("it's here"))[0]
    "Train.dataset.data_dir='it''s here'"
    """
    found = []
    for section, name in (("Train", "train"), ("Eval", "eval"), ("Calibration", "calib")):
        found.append(f"{section}.dataset.data_dir={_quoted(folder)}")
        found.append(f"{section}.dataset.label_file_list=[{_quoted(folder / f'{name}.txt')}]")
    return found


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"

"""From a file and ``-o`` overrides to a checked Config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slim.config.base import read_with_base
from slim.config.notices import notices_of
from slim.config.overrides import Path_, apply_overrides
from slim.config.problems import WrongConfig, describe
from slim.config.schema import Config, cross_checks


def load_config(
    path: Path | None,
    overrides: Sequence[str] = (),
    notices: Callable[[str], None] | None = None,
) -> Config:
    """Read, override and check a configuration.

    Args:
        path: a YAML file, laid over its ``_base_`` if it names one, or None for an empty configuration that
            overrides fill.
        overrides: ``Section.key=value`` texts, applied in order.
        notices: called with each line the user should know of (ignored, replaced, deprecated keys).
    Raises:
        ConfigError: one line naming the first problem and how many more there are; for schema problems
            it is a WrongConfig, whose ``problems`` lists all.

    >>> load_config(None, ["Global.seed=7", "Optimizer.lr.learning_rate=1e-05"]).Optimizer.lr.learning_rate
    1e-05
    """
    data = read_with_base(path) if path is not None else {}
    return config_from(data, overrides, where=None if path is None else str(path), notices=notices)


def config_from(
    data: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    where: str | None = None,
    notices: Callable[[str], None] | None = None,
) -> Config:
    """The same for plain data, such as ``Config.resolved()`` of a manifest; ``where`` names its origin."""
    given = deepcopy(dict(data))
    changed = apply_overrides(given, overrides)
    if given.get("Global", {}) is None:
        given["Global"] = {}
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        problems = describe(Config, given, error)
        raise WrongConfig(problems, where=_blame(problems[0][0], changed, where)) from error
    problems = cross_checks(config)
    if problems:
        raise WrongConfig(problems, where=_blame(problems[0][0], changed, where))
    config._source = where
    if notices is not None:
        for line in notices_of(config):
            notices(line)
    return config


def _blame(path: str, changed: Sequence[Path_], where: str | None) -> str | None:
    """``-o`` when the fault stands at or inside something an override has set, else the file."""
    for steps in changed:
        name = ".".join(str(step) for step in steps)
        if path == name or path.startswith(f"{name}."):
            return "-o"
    return where if where is not None else ("-o" if changed else None)

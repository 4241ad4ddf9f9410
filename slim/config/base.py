"""`_base_`: a configuration that says only what differs from another one.

PaddleDetection and PaddleSeg have such a key, PaddleOCR has none. The recipes of the published recognizers
differ in their dictionary and name alone: nine copies of one file would drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slim.config.read import read_mapping
from slim.errors import ConfigError

KEY = "_base_"
MAX_DEPTH = 5


def read_with_base(path: Path) -> dict[str, Any]:
    """A configuration file laid over the one its ``_base_`` names, and so on.

    The base is a file beside this one, else a path from the current folder, else a built-in recipe.
    Mappings are merged key by key; a list, a value or null replaces what the base has.

    Raises:
        ConfigError: a file is unreadable, a base is no name or not found, or the chain has over 5 files.
    """
    layers, here = [read_mapping(path)], path
    while KEY in layers[-1]:
        if len(layers) == MAX_DEPTH:
            raise ConfigError(f"{KEY} leads through over {MAX_DEPTH} files", where=path, remedy="shorten it")
        here = _base_of(layers[-1].pop(KEY), here)
        layers.append(read_mapping(here))
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = merge(merged, layer)
    return merged


def _base_of(name: Any, path: Path) -> Path:
    from slim.config.find import find_config

    if not isinstance(name, str) or not name:
        raise ConfigError(f"{KEY} is {name!r}, must name one configuration", where=path)
    try:
        beside = path.parent / name
        return beside if beside.is_file() else find_config(name)
    except (ConfigError, OSError, ValueError) as error:
        raise ConfigError(f"{KEY}: {error}", where=path) from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base``; a part with another ``name`` takes the whole place of the one below.

    >>> merge({"A": {"x": 1, "y": [1, 2]}, "B": 1}, {"A": {"y": [3]}, "B": None})
    {'A': {'x': 1, 'y': [3]}, 'B': None}
    >>> merge({"Backbone": {"name": "MobileNetV3", "scale": 0.5}}, {"Backbone": {"name": "Layers"}})
    {'Backbone': {'name': 'Layers'}}
    """
    done = dict(base)
    for key, value in over.items():
        below = done.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and not _another(below, value):
            value = merge(below, value)
        done[key] = value
    return done


def _another(below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Arguments of one part mean nothing to another: a Layers backbone has no scale."""
    return "name" in below and value.get("name", below["name"]) != below["name"]

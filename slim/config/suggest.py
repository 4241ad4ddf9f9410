"""The nearest known name for one that is not known, and where a misplaced key belongs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from slim.config.fields import Section

# Names users bring from other versions and tools, too far away in letters.
_KNOWN_SLIPS = {
    "pretrain_weights": "pretrained_model",
    "pretrained_weights": "pretrained_model",
    "pretrain_model": "pretrained_model",
    "resume": "checkpoints",
    "weights": "pretrained_model",
    "dict_path": "character_dict_path",
    "char_dict_path": "character_dict_path",
    "epochs": "epoch_num",
    "batch_size": "batch_size_per_card",
    "lr": "learning_rate",
    "learning_rate": "lr",
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` most likely means, or None.

    >>> nearest("pretrain_weights", ["pretrained_model", "print_batch_step"])
    'pretrained_model'
    """
    names = sorted(set(known))
    slip = _KNOWN_SLIPS.get(name)
    if slip in names:
        return slip
    lower = {known_name.lower(): known_name for known_name in names}
    found = get_close_matches(name.lower()[:80], list(lower), n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def sections_in(annotation: Any) -> list[type[Section]]:
    """Every Section class an annotation can hold: through unions, tuples and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if get_origin(annotation) is Literal:
        return []
    return [cls for arg in get_args(annotation) for cls in sections_in(arg)]


def _tags(cls: type[Section]) -> tuple[Any, ...]:
    field = cls.model_fields.get("name")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def sections_at(root: type[Section], path: Sequence[str | int]) -> list[type[Section]]:
    """The classes that may stand at a path of pydantic's error locations (tags of unions included)."""
    here = [root]
    for step in path:
        if isinstance(step, int):
            continue
        tagged = [cls for cls in here if step in _tags(cls)]
        inner = [
            found
            for cls in here
            if step in cls.model_fields
            for found in sections_in(cls.model_fields[step].annotation)
        ]
        here = inner or tagged
    return here


def _walk(cls: type[Section], at: str, above: tuple[type[Section], ...] = ()) -> Iterator[tuple[str, str]]:
    """Every key below ``cls`` with its path; a class that holds itself is entered once."""
    for name, field in cls.model_fields.items():
        path = f"{at}.{name}" if at else name
        yield name, path
        for inner in sections_in(field.annotation):
            if inner not in above:
                yield from _walk(inner, path, (*above, cls))


@lru_cache(maxsize=1)
def _places(root: type[Section]) -> dict[str, tuple[str, ...]]:
    places: dict[str, list[str]] = {}
    for name, path in _walk(root, ""):
        if path not in places.setdefault(name, []):
            places[name].append(path)
    return {name: tuple(paths) for name, paths in places.items()}


def place_of(root: type[Section], name: str) -> str | None:
    """The path where a key of exactly this name is known, unless it is known in many places.

    Two are few enough: Train and Eval hold the same keys, and Train comes first.
    """
    paths = _places(root).get(name, ())
    return paths[0] if 1 <= len(paths) <= 2 else None

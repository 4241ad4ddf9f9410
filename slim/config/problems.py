"""From pydantic's findings to one line a user can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slim.config.architecture import LATER
from slim.config.fields import Section
from slim.config.suggest import nearest, place_of, sections_at
from slim.errors import ConfigError

_KINDS = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "none_required": "null",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping with a name",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


class WrongConfig(ConfigError):
    """A configuration that breaks the schema; ``problems`` holds every finding, the message the first."""

    def __init__(self, problems: Sequence[tuple[str, str]], *, where: str | Path | None) -> None:
        self.problems = tuple(f"{path}: {text}" for path, text in problems)
        path, text = problems[0]
        more = len(problems) - 1
        count = f" ({more} more problem{'s' if more > 1 else ''})" if more else ""
        super().__init__(f"{path}: {text}{count}", where=where)


def describe(root: type[Section], data: Mapping[str, Any], error: ValidationError) -> list[tuple[str, str]]:
    """Every finding as (dotted path, text), in the order of the file."""
    found = []
    for item in error.errors(include_url=False):
        loc = tuple(item["loc"])
        found.append((dotted(data, loc), _text(root, loc, dict(item))))
    return found


def dotted(data: Any, loc: Sequence[str | int]) -> str:
    """A location without the tags of unions that pydantic puts into it."""
    kept: list[str] = []
    here = data
    for i, step in enumerate(loc):
        inside = (isinstance(here, Mapping) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        )
        if inside:
            here = here[step]
        if inside or i == len(loc) - 1:
            kept.append(str(step))
    return ".".join(kept) or "file"


def _text(root: type[Section], loc: tuple[str | int, ...], item: Mapping[str, Any]) -> str:
    kind, context = str(item["type"]), dict(item.get("ctx") or {})
    value = _show(item.get("input"))
    if kind == "extra_forbidden":
        return _unknown(root, loc)
    if kind == "missing":
        return "is missing"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"is {value}, must be {words} {context[key]}"
    if kind in ("too_short", "too_long"):
        limit = context.get("min_length", context.get("max_length"))
        return f"has {context.get('actual_length')} entries, must have {_limit(kind, limit)}"
    if kind == "literal_error":
        return _choice(item.get("input"), str(context["expected"]).replace(" or ", ", "))
    if kind == "union_tag_invalid":
        return "name " + _choice(context["tag"], str(context["expected_tags"]))
    if kind == "union_tag_not_found":
        return "has no name"
    if kind == "value_error":
        return str(item["msg"]).removeprefix("Value error, ")
    if kind in _KINDS:
        return f"is {value}, must be {_KINDS[kind]}"
    return f"is {value}: {item['msg']}"


def _limit(kind: str, limit: Any) -> str:
    return f"at least {limit}" if kind == "too_short" else f"at most {limit}"


def _choice(value: Any, expected: str) -> str:
    names = [part.strip().strip("'") for part in expected.split(",")]
    text = f"is {_show(value)}, must be {'one of ' if len(names) > 1 else ''}{', '.join(names)}"
    if isinstance(value, str) and value in LATER:
        return f"{text} ({value} belongs to {LATER[value]}, the toolkit is for the v2.0 series)"
    guess = nearest(value, names) if isinstance(value, str) and len(names) > 3 else None
    return f"{text}; did you mean {guess}?" if guess else text


def _unknown(root: type[Section], loc: tuple[str | int, ...]) -> str:
    name = str(loc[-1])
    known = [field for cls in sections_at(root, loc[:-1]) for field in cls.model_fields]
    guess = nearest(name, known)
    if guess:
        return f"is not a known key, did you mean {guess}?"
    place = place_of(root, name)
    if place:
        return f"is not a known key here, it belongs to {place}"
    listed = ", ".join(known) if 0 < len(known) <= 14 else ""
    return f"is not a known key, known are {listed}" if listed else "is not a known key"


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

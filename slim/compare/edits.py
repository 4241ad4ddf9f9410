"""Edits of a YAML text in place, by the marks PyYAML gives its nodes: comments and order stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

from slim.errors import ConfigError

_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.-]*")


@dataclass(frozen=True)
class Edit:
    """Characters ``start`` .. ``end`` of a text become ``text``."""

    start: int
    end: int
    text: str


def applied(text: str, edits: Sequence[Edit]) -> str | None:
    """The text with all edits made; None when two of them are about the same characters."""
    limit = len(text) + 1
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        if edit.end > limit or edit.start == limit:
            return None
        limit = edit.start
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def replaced(node: yaml.Node, text: str) -> Edit:
    """A node's own characters; a block mapping ends behind its last value, not at the next key."""
    return Edit(node.start_mark.index, _last_leaf(node).end_mark.index, text)


def inserted(mapping: Any, entries: Mapping[str, str]) -> Edit:
    """Entries (key -> YAML text) in front of the first one of a mapping, block or flow."""
    first = mapping.value[0][0].start_mark
    between = ", " if mapping.flow_style else "\n" + " " * first.column
    return Edit(first.index, first.index, "".join(f"{k}: {v}{between}" for k, v in entries.items()))


def appended(text: str, models: yaml.Node | None, blocks: Sequence[str]) -> Edit:
    """New models behind the last one there, or as the first ones of a new file."""
    if not isinstance(models, yaml.MappingNode):
        lines = [f"  {line}" for block in blocks for line in block.split("\n")]
        return Edit(len(text), len(text), "\n".join(lines) + "\n")
    if models.flow_style:
        raise ConfigError(
            "models stands in one line: a new model cannot be added", remedy="write a line for each model"
        )
    column = " " * models.value[0][0].start_mark.column
    end = text.find("\n", _last_leaf(models).end_mark.index)
    end = len(text) if end < 0 else end
    lines = [f"\n{column}{line}" for block in blocks for line in block.split("\n")]
    return Edit(end, end, "".join(lines))


def _last_leaf(node: yaml.Node) -> yaml.Node:
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def entry(value: float, tolerance: float | str, better: str) -> str:
    """A reference as YAML.

    >>> entry(94.15, "2%", "higher")
    '{value: 94.15, tolerance: "2%", better: higher}'
    """
    limit = f'"{tolerance}"' if isinstance(tolerance, str) else number(tolerance)
    return f"{{value: {number(value)}, tolerance: {limit}, better: {better}}}"


def number(value: float) -> str:
    """A number as YAML; repr would write 1e-05, which YAML reads as text."""
    return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")


def quoted(name: str) -> str:
    """A key as YAML, in quotes where it could be read as something else."""
    plain = _PLAIN_NAME.fullmatch(name) and yaml.safe_load(name) == name
    return name if plain else json.dumps(name, ensure_ascii=False)


def find(mapping: Any, key: str) -> Any:
    """The value node of a key; None where there is none."""
    if not isinstance(mapping, yaml.MappingNode):
        return None
    return next((value for name, value in mapping.value if name.value == key), None)

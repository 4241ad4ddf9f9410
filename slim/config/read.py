"""Reading YAML from outside: safe tags only, bounded in size, depth and alias expansion, no key twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from slim.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
# PaddleOCR's largest files have some 400 nodes.
MAX_NODES = 20_000


class _Refused(yaml.YAMLError):
    """The text is YAML, and breaks one of our limits."""

    def __init__(self, what: str, remedy: str = "simplify the file") -> None:
        super().__init__(what)
        self.remedy = remedy


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits. The pure Python one: too deep ends in an exception, not a crash."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(f"is nested deeper than {MAX_DEPTH} levels")
        if self.nodes > MAX_NODES:
            raise _Refused(f"has more than {MAX_NODES} values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            _refuse_bad_keys(node)
        return super().construct_mapping(node, deep=deep)


def _refuse_bad_keys(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _Refused(f"line {line}: a key is a list or mapping, must be a name")
        if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
            first = seen[key.value]
            raise _Refused(f"line {line}: key {key.value!r} stands twice, first in line {first}", "keep one")
        seen[key.value] = line


def _expanded(node: yaml.Node, sizes: dict[int, int], open_: set[int]) -> int:
    """Values the node stands for once every alias is written out."""
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in open_:
        raise _Refused(f"line {node.start_mark.line + 1}: an anchor contains itself")
    open_.add(id(node))
    total = 1
    if isinstance(node, yaml.CollectionNode):
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                total += _expanded(part, sizes, open_)
        if total > MAX_NODES:
            raise _Refused(f"has aliases that expand to more than {MAX_NODES} values")
    open_.discard(id(node))
    sizes[id(node)] = total
    return total


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document into plain data that shares nothing.

    Raises:
        ConfigError: one line with the place of the first fault.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _expanded(node, {}, set())
            return _plain(loader.construct_document(node), where, "")
        finally:
            loader.dispose()
    except _Refused as error:
        raise ConfigError(str(error), where=where, remedy=error.remedy) from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(
            f"is not valid YAML, {_fault(error)}", where=where, remedy="correct the line"
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"is not valid YAML ({_short(str(error))})", where=where, remedy="correct it"
        ) from error


def _fault(error: yaml.MarkedYAMLError) -> str:
    problem = _short(error.problem or error.context or "unreadable")
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else line[:117] + "..."


def _plain(value: Any, where: str, at: str) -> Any:
    """A copy without shared parts, so that an override changes one place only; keys must be text."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(
                    f"{at + ': ' if at else ''}key {key!r} is not text", where=where, remedy=f"write '{key}'"
                )
        return {key: _plain(part, where, f"{at}.{key}".lstrip(".")) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part, where, f"{at}.{i}".lstrip(".")) for i, part in enumerate(value)]
    return value


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a configuration file: UTF-8 YAML whose top level is a mapping of sections.

    Raises:
        ConfigError: missing, unreadable, too large, binary, not YAML or not a mapping.
    """
    data = parse_yaml(read_text(path), str(path))
    if not isinstance(data, dict):
        found = "empty" if data is None else f"a {type(data).__name__}"
        raise ConfigError(
            f"is {found}, must be a mapping of sections such as Global and Architecture", where=path
        )
    return data


def read_text(path: Path, *, limit: int = MAX_BYTES) -> str:
    """UTF-8 text of a file of at most ``limit`` bytes; raises ConfigError."""
    try:
        if path.is_dir():
            raise ConfigError("is a folder, must be a file", where=path, remedy="give the .yml file")
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            "no such file", where=path, remedy="slim config list shows the built-in ones"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read ({reason})", where=path) from error
    if len(raw) > limit:
        raise ConfigError(f"is larger than {limit} bytes", where=path, remedy="give a configuration file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text (byte {error.start})", where=path) from error
    if "\0" in text:
        raise ConfigError("is a binary file, must be YAML text", where=path)
    return text

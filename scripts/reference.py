"""docs/REFERENCE.md: every command's help, and every key of a configuration with its default.

    python -m scripts.reference > docs/REFERENCE.md     (or: make reference)

Made of the command line and the configuration's classes themselves; tests/docs compares the page with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from slim.cli.app import app
from slim.config import Config

WIDTH = 110
BOUNDS = {"gt": "> {}", "ge": ">= {}", "lt": "< {}", "le": "<= {}"}
WORDS = {"string": "text", "boolean": "true, false"}
REF = "#/$defs/"

HEAD = """\
# Reference

Made by `make reference` from the command line and the configuration's classes; a test compares this page
with them. Exit codes stand in [README.md](../README.md), errors in [TROUBLESHOOTING.md](TROUBLESHOOTING.md).

## Commands
"""

KEYS = """\
## Configuration keys

PaddleOCR's sections first, then ours. Any key may be given as `-o Section.key=value`; an unknown key is an
error. A key without a meaning beside it is PaddleOCR's: it means what it means there, or steers PaddleOCR's
own tools and has no effect here. A section that stands below several others is shown below the first.
`slim config check FILE` prints the whole configuration with its defaults.
"""


def commands(command: click.Command, name: str, above: click.Context | None) -> Iterator[str]:
    """A section for a command and for each below it."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, above, info_name=name, **settings)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"### {context.command_path}\n\n```text\n{text}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from commands(found, below, context)


def sections(schema: dict[str, Any]) -> dict[str, list[str]]:
    """Name of a definition -> the paths it stands at, below the first of those of its parent."""
    found: dict[str, list[str]] = {}

    def visit(here: dict[str, Any], path: str) -> None:
        for key, value in here.get("properties", {}).items():
            inner = f"{path}.{key}" if path else key
            for name, many in refs(value):
                at = f"{inner}[]" if many else inner
                known = name in found
                found.setdefault(name, []).append(at)
                if not known:
                    visit(schema["$defs"][name], at)

    visit(schema, "")
    return found


def refs(value: Any, many: bool = False) -> Iterator[tuple[str, bool]]:
    """Definitions that a value may hold, and whether it holds a list of them."""
    if "$ref" in value:
        yield value["$ref"].removeprefix(REF), many
    for part in [*value.get("anyOf", []), *value.get("oneOf", [])]:
        yield from refs(part, many)
    if "items" in value:
        yield from refs(value["items"], True)


def kind(value: dict[str, Any]) -> str:
    """What may stand there, in few words.

    >>> kind({"anyOf": [{"type": "number", "gt": 0, "le": 0.9}, {"type": "null"}]})
    'number > 0, <= 0.9 or null'
    >>> kind({"type": "array", "items": {"enum": ["arm", "x86"]}})
    'list of arm, x86'
    """
    if "anyOf" in value or "oneOf" in value:
        parts = value.get("anyOf") or value["oneOf"]
        return " or ".join(dict.fromkeys(kind(part) for part in parts))
    if "$ref" in value:
        return "section"
    if "enum" in value:
        return ", ".join(str(one) for one in value["enum"])
    if "const" in value:
        return json.dumps(value["const"])
    if value.get("type") == "array":
        return f"list of {kind(value['items'])}"
    word = WORDS.get(value["type"], value["type"])
    bounds = [text.format(f"{value[key]:g}") for key, text in BOUNDS.items() if key in value]
    return f"{word} {', '.join(bounds)}" if bounds else word


def default(key: str, value: dict[str, Any], here: dict[str, Any]) -> str:
    """The default as YAML would have it; a dash where the key must be given."""
    if key in here.get("required", ()):
        return "-"
    return f"`{json.dumps(value.get('default'), ensure_ascii=False)}`"


def table(here: dict[str, Any]) -> str:
    """Rows of one section."""
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for key, value in here["properties"].items():
        cells = (f"`{key}`", kind(value), default(key, value, here), value.get("description", ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def keys() -> Iterator[str]:
    """A section for each mapping of the configuration."""
    schema = Config.model_json_schema()
    for name, paths in sections(schema).items():
        here = schema["$defs"][name]
        places = ", ".join(dict.fromkeys(paths))
        tag = here.get("properties", {}).get("name", {})
        names = [tag["const"]] if "const" in tag else tag.get("enum", [])
        heading = f"{places}: {' / '.join(names)}" if names and "default" not in tag else places
        text = " ".join(here.get("description", "").partition(">>>")[0].split())
        if here.get("properties"):
            yield f"### {heading}\n\n{text}{chr(10) * 2 if text else ''}{table(here)}\n"


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *commands(app, "slim", None), KEYS, *keys()]).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())

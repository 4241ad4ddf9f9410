"""Each message that docs/TROUBLESHOOTING.md explains is one that the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slim.cli.main import run

VARIES = "..."
HOLE = "\0"


def texts(source: str) -> Iterator[str]:
    """Every string of a module, with a hole where a value is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else HOLE for p in node.values]
            yield "".join(str(part) for part in parts)


def says(text: str, message: str) -> bool:
    """Whether a string, its holes filled in, can read like a message, ``...`` standing for anything.

    The fixed parts of the message must stand in the text in their order, the first at its beginning unless
    the message begins with ``...``.
    """
    shape = ".*".join(re.escape(part.strip()) for part in message.split(VARIES))
    return re.match(shape, text.strip(), re.S) is not None


@pytest.fixture(scope="module")
def code(checkout: Path) -> list[str]:
    """Strings of the four packages."""
    sources = [p for name in ("slim", "prune", "quant", "export") for p in (checkout / name).rglob("*.py")]
    return [text for path in sources for text in texts(path.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def messages(pages: dict[str, Any]) -> list[str]:
    """The headings of the page."""
    return re.findall(r"^### `(.*)`$", pages["docs/TROUBLESHOOTING.md"].text, re.M)


def test_every_message_is_said_by_the_code(messages: list[str], code: list[str]) -> None:
    assert len(messages) > 45
    assert [message for message in messages if not any(says(text, message) for text in code)] == []


def test_every_heading_is_a_message_and_stands_once(messages: list[str], pages: dict[str, Any]) -> None:
    headings = re.findall(r"^### (.*)$", pages["docs/TROUBLESHOOTING.md"].text, re.M)
    assert headings == [f"`{message}`" for message in dict.fromkeys(messages)]
    # Of a message that varies, enough must be fixed to find it by.
    assert all(len(message.replace(VARIES, "").strip()) >= 10 for message in messages)


@pytest.mark.parametrize(
    "message",
    ["label file is hollow", "is published but never in ...", "opt for ... did not end before ... s"],
)
def test_a_message_nobody_says_is_seen(message: str, code: list[str]) -> None:
    assert not any(says(text, message) for text in code)


def test_holes_and_order_count() -> None:
    text, *_ = texts("f'has {n} classes, which fits {found}'")
    assert says(text, "has ... classes, which fits ...")
    assert not says(text, "which fits ... classes") and not says(text, "classes, which fits ...")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["config", "check", "none"], "no such file or built-in recipe"),
        (["config", "check", "cls/cls_demo", "-o", "Prune.flop=1"], "is not a known key, did you mean ..."),
        (["prune", "-c", "cls/cls_demo", "--model", "zoo:ka_mobile_v2.0_rec"], "is published but not in ..."),
    ],
)
def test_a_provoked_message_is_found_on_the_page(
    args: list[str], message: str, messages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in messages
    assert run(args) == 2
    said = capsys.readouterr().err
    assert all(part.strip() in said for part in message.split(VARIES))

"""The pages of the project, and the commands they show."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Files that hold no prose of ours, or none for a user.
LEFT_OUT = ("CHANGELOG.md", "NOTICE.md")


@dataclass(frozen=True)
class Page:
    """A Markdown file, by its path from the checkout's root."""

    name: str
    text: str

    def blocks(self) -> list[str]:
        """What stands in its `sh` blocks."""
        return re.findall(r"^```sh\n(.*?)^```$", self.text, re.M | re.S)

    def commands(self) -> list[str]:
        """The commands of its `sh` blocks, one line each."""
        return [line for block in self.blocks() for line in commands_of(block)]


def commands_of(block: str) -> list[str]:
    """Lines of a script without comments, continued lines joined; what a line is fed stays as it stands.

    >>> commands_of("# first\\nslim a \\\\\\n  --b  # why\\n\\nslim c\\n")
    ['slim a --b', 'slim c']
    >>> commands_of("cat > a.yml <<'END'\\nA:\\n  b: 1\\nEND\\nslim c\\n")
    ["cat > a.yml <<'END'\\nA:\\n  b: 1\\nEND", 'slim c']
    """
    found: list[str] = []
    lines = iter(block.replace("\\\n", " ").splitlines())
    for line in lines:
        bare = re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*$", "", line).strip())
        if fed := re.search(r"<<'(\w+)'$", bare):
            for part in lines:
                bare += f"\n{part}"
                if part == fed[1]:
                    break
        if bare:
            found.append(bare)
    return found


@pytest.fixture(scope="session")
def split() -> Callable[[str], list[str]]:
    """The commands of a script."""
    return commands_of


@pytest.fixture(scope="session")
def pages(checkout: Path) -> dict[str, Page]:
    """Every page with prose of ours, by name."""
    found = [*checkout.glob("*.md"), *checkout.glob("docs/**/*.md"), *checkout.glob("configs/**/*.md")]
    found += [
        *checkout.glob("benchmarks/*.md"),
        *checkout.glob("tests/**/*.md"),
        *checkout.glob("slim/**/*.md"),
    ]
    names = {path.relative_to(checkout).as_posix(): path for path in found if path.name not in LEFT_OUT}
    return {name: Page(name, path.read_text(encoding="utf-8")) for name, path in sorted(names.items())}

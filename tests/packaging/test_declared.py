"""Imports, declared dependencies and the lock agree."""

from __future__ import annotations

import ast
import re
import sys
from itertools import chain
from pathlib import Path

import pytest
import tomli

OURS = {"slim", "quant", "prune", "export"}
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
# Import name -> distribution, where they differ.
SOLD_AS = {
    "cv2": "opencv-python",
    "google": "protobuf",
    "paddle": "paddlepaddle",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "yaml": "pyyaml",
}
# Declared, though no line of ours imports them: undeclared needs of the Paddle wheels; a carrier of fonts.
NOT_IMPORTED = {"setuptools", "matplotlib"}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project(checkout: Path) -> dict[str, list[str]]:
    """Declared requirement strings: "runtime" and each extra."""
    table = tomli.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"runtime": table["dependencies"], **table["optional-dependencies"]}


def name_of(requirement: str) -> str:
    return normalized(re.split(r"[<>=!~ ;\[]", requirement, maxsplit=1)[0])


def imported(checkout: Path) -> set[str]:
    """Distributions that the four packages import, anywhere in their code."""
    tops: set[str] = set()
    for package in sorted(OURS):
        for path in (checkout / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    tops.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    tops.add(node.module.partition(".")[0])
    foreign = tops - OURS - set(sys.stdlib_module_names)
    return {normalized(SOLD_AS.get(top, top)) for top in foreign}


@pytest.fixture(scope="module")
def lock(checkout: Path) -> str:
    return (checkout / "requirements" / "lock.txt").read_text(encoding="utf-8")


def test_every_import_is_a_declared_dependency(checkout: Path) -> None:
    groups = project(checkout)
    declared = {name_of(requirement) for requirement in groups["runtime"] + groups["onnx"]}
    assert sorted(imported(checkout) - declared) == []


def test_every_declared_dependency_is_imported(checkout: Path) -> None:
    groups = project(checkout)
    declared = {name_of(requirement) for requirement in groups["runtime"] + groups["onnx"]}
    assert sorted(declared - imported(checkout) - NOT_IMPORTED) == []


def test_the_lock_pins_everything_declared(checkout: Path, lock: str) -> None:
    locked = {normalized(name): version for name, version in PIN.findall(lock)}
    declared = project(checkout)
    for requirement in chain.from_iterable(declared.values()):
        assert name_of(requirement) in locked, requirement
        if "==" in requirement:
            assert locked[name_of(requirement)] == requirement.partition("==")[2]


def test_every_pin_has_hashes(lock: str) -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", lock)
    bare = [
        block.partition("\n")[0] for block in blocks if PIN.match(block) and "--hash=sha256:" not in block
    ]
    assert bare == []


def test_the_lock_names_no_address_and_no_second_opencv(lock: str) -> None:
    assert re.findall(r"--(?:extra-)?index-url|--find-links|file://|https?://", lock) == []
    assert [name for name, _ in PIN.findall(lock) if "opencv" in name] == ["opencv-python"]

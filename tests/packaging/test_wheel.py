"""The wheel: what lands in site-packages, and that it works there without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

TOP = {"slim", "quant", "prune", "export"}
BUILD_FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE")
# What the interpreter or an editor leaves beside sources; not part of the product.
LEFTOVERS = {".pyc", ".pyo", ".swp"}


def product_files(root: Path, folder: str) -> Iterator[PurePosixPath]:
    """Files below a folder of the checkout, relative to the checkout."""
    for path in sorted((root / folder).rglob("*")):
        hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts)
        if path.is_file() and not hidden and path.suffix not in LEFTOVERS and ".tmp-" not in path.name:
            yield PurePosixPath(path.relative_to(root).as_posix())


@pytest.fixture(scope="module")
def source(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from, in a folder whose name holds a space."""
    copy = tmp_path_factory.mktemp("a checkout") / "with spaces"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    for folder in [*sorted(TOP), "configs"]:
        shutil.copytree(checkout / folder, copy / folder, ignore=ignore)
    for name in BUILD_FILES:
        if (checkout / name).is_file():
            shutil.copy2(checkout / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `make wheel` does."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(out), "."], cwd=source, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that plays site-packages: the wheel and nothing else."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile"]
    done = subprocess.run(
        [*command, "--target", str(target), str(wheel)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def names_in(wheel: Path) -> set[PurePosixPath]:
    with zipfile.ZipFile(wheel) as archive:
        return {PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")}


def run_outside(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in ``folder`` with the installed wheel first and this environment's packages behind it."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_top_level_is_exactly_the_four_packages(wheel: Path) -> None:
    tops = {path.parts[0] for path in names_in(wheel)}
    assert {name for name in tops if not name.endswith(".dist-info")} == TOP
    assert len(tops) == len(TOP) + 1


def test_every_file_of_the_packages_is_carried(source: Path, wheel: Path) -> None:
    carried = names_in(wheel)
    lost = [
        str(path) for folder in sorted(TOP) for path in product_files(source, folder) if path not in carried
    ]
    assert lost == [], "a new kind of file: name its ending under package-data in pyproject.toml"


def test_the_recipes_are_carried_as_data_of_slim(source: Path, wheel: Path) -> None:
    recipes = [PurePosixPath("slim", path) for path in product_files(source, "configs")]
    assert recipes, "configs/ is empty"
    assert [str(path) for path in recipes if path not in names_in(wheel)] == []


def test_no_byte_code_and_no_tests_are_carried(wheel: Path) -> None:
    stray = [str(path) for path in names_in(wheel) if path.suffix == ".pyc" or "tests" in path.parts]
    assert stray == []


def test_licence_and_notice_are_carried(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (prefix,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        assert "Apache License" in archive.read(f"{prefix}/LICENSE").decode()
        assert "PaddleOCR" in archive.read(f"{prefix}/NOTICE").decode()


def test_site_packages_gets_only_the_four_names(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names - {"bin"} == TOP


def test_the_installed_package_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = (
        "import slim, quant, prune, export\n"
        "from slim.resources import configs_root\n"
        "from slim.shadow import check_shadowing\n"
        "check_shadowing()\n"
        "print(slim.__file__, quant.__file__, prune.__file__, export.__file__, configs_root(), sep='\\n')"
    )
    done = run_outside(installed, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    places = [Path(line) for line in done.stdout.split("\n") if line]
    assert all(installed in place.parents for place in places), places


def test_the_installed_command_line_starts(installed: Path, tmp_path: Path) -> None:
    for start in (["-m", "slim"], [str(installed / "bin" / "slim")]):
        done = run_outside(installed, tmp_path, *start, "--help")
        assert done.returncode == 0, done.stderr
        assert "export-nb" in done.stdout


def test_the_zoo_loads_from_the_installed_package(installed: Path, tmp_path: Path) -> None:
    done = run_outside(installed, tmp_path, "-m", "slim", "models", "--json")
    assert done.returncode == 0, done.stderr
    assert "ch_ppocr_mobile_v2.0_cls" in done.stdout
    assert list(installed.glob("slim/zoo/**/*.pdparams"))

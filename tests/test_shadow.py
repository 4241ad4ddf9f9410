"""A foreign quant, prune or export is noticed, wherever it comes from, and never imported to find out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slim.errors import SlimError
from slim.shadow import HOME, check_shadowing

CODE = "from slim.shadow import check_shadowing as check\ncheck()"


def run(code: str, cwd: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """A child whose module search path is the current folder, then ``path``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(place) for place in path)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )


def test_our_own_packages_pass() -> None:
    check_shadowing()


@pytest.mark.parametrize("name", ["quant", "prune", "export"])
def test_a_package_earlier_on_the_path_is_found_and_not_imported(tmp_path: Path, name: str) -> None:
    foreign = tmp_path / "other" / name
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    done = run(CODE, tmp_path, tmp_path / "other", HOME)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("slim.errors."))
    assert str(foreign) in line
    assert f"before ours ({HOME / name})" in line
    assert line.endswith("take its folder out of PYTHONPATH")


def test_a_module_in_the_current_folder_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "quant.py").write_text("", encoding="utf-8")
    done = run(CODE, tmp_path, HOME)
    assert "start `slim` from another folder or rename quant.py" in done.stderr


def test_an_output_folder_called_export_does_no_harm_to_an_installed_package(tmp_path: Path) -> None:
    """A folder without __init__.py gives way to a real package later on the path."""
    (tmp_path / "export").mkdir()
    assert run(CODE, tmp_path, HOME).returncode == 0


def test_another_distribution_is_told_apart(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    (site / "prune").mkdir(parents=True)
    (site / "prune" / "__init__.py").write_text("", encoding="utf-8")
    assert "another distribution installed it" in run(CODE, tmp_path, site, HOME).stderr


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slim.shadow.find_spec", lambda name: None)
    with pytest.raises(SlimError, match="the package 'quant' is missing"):
        check_shadowing()


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "export.py").write_text("", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    done = subprocess.run(
        [sys.executable, "-m", "slim", "models"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == SlimError.exit_code
    assert len(done.stderr.strip().splitlines()) == 1
    assert "another package 'export'" in done.stderr

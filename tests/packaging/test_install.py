"""scripts/: finding an interpreter that runs, naming missing system pieces, telling a whole environment."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

LOCK = "alpha==1.0 \\\n    --hash=sha256:00\nbeta-two==2.0 \\\n    --hash=sha256:11\n"


def executable(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def find_python(checkout: Path, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """find-python.sh with a PATH and a HOME that hold only what a test put there."""
    return subprocess.run(
        ["/bin/bash", str(checkout / "scripts" / "find-python.sh")],
        env={"PATH": f"{home / 'bin'}:/usr/bin:/bin", "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder, with a space in its name, whose python3.10 is a shim that does not run."""
    place = tmp_path / "a home"
    executable(place / "bin" / "python3.10", "echo 'pyenv: python3.10: command not found' >&2; exit 127")
    return place


def test_a_shim_that_does_not_run_is_passed_over(checkout: Path, home: Path) -> None:
    real = executable(
        home / ".pyenv" / "versions" / "3.10.99" / "bin" / "python3.10", f'exec "{sys.executable}" "$@"'
    )
    done = find_python(checkout, home)
    assert done.returncode == 0, done.stderr
    version = subprocess.run([done.stdout.strip(), "--version"], capture_output=True, text=True, timeout=60)
    assert version.stdout.startswith("Python 3.10"), (version, real)


def test_no_interpreter_is_one_line_with_what_was_tried(checkout: Path, home: Path) -> None:
    if Path("/usr/bin/python3.10").exists() or Path("/usr/local/bin/python3.10").exists():
        home = home / "python3.10 given"  # the system's own would be found: ask for a wrong one instead
        environment = {"PYTHON": str(executable(home / "bin" / "python3.10", "echo broken >&2; exit 1"))}
    else:
        environment = {}
    done = find_python(checkout, home, **environment)
    assert done.returncode == 3
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(home / "bin" / "python3.10") in done.stderr
    assert "PYTHON=/path/to/python3.10" in done.stderr


def test_the_named_interpreter_is_the_only_one_tried(checkout: Path, home: Path) -> None:
    old = executable(home / "old", "echo 'is Python 2.7' >&2; exit 1")
    done = find_python(checkout, home, PYTHON=str(old))
    assert done.returncode == 3
    assert f"(found: {old}: is Python 2.7)" in done.stderr


def test_missing_system_libraries_are_named_with_the_command(checkout: Path) -> None:
    code = (
        "import ctypes, runpy, sys\n"
        "real = ctypes.CDLL\n"
        "def load(name, *rest, **options):\n"
        "    if 'libGL' in str(name) or 'libgomp' in str(name): raise OSError(name)\n"
        "    return real(None)\n"
        "ctypes.CDLL = load\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    script = checkout / "scripts" / "system_libraries.py"
    done = subprocess.run(
        [sys.executable, "-c", code, str(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    (line,) = done.stderr.strip().splitlines()
    assert "libGL.so.1 (opencv-python)" in line
    assert "libgthread" not in line
    assert line.endswith("apt-get install -y --no-install-recommends libgl1 libgomp1")


def fake_package(site: Path, name: str, version: str) -> Path:
    """An installed distribution of one module, with a RECORD."""
    module = site / f"{name.replace('-', '_')}.py"
    module.write_text("x = 1\n", encoding="utf-8")
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
    )
    digest = base64.urlsafe_b64encode(hashlib.sha256(module.read_bytes()).digest()).decode().rstrip("=")
    (info / "RECORD").write_text(
        f"{module.name},sha256={digest},6\n{info.name}/METADATA,,\n", encoding="utf-8"
    )
    return module


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """site-packages as the lock above wants it, the project editable from `tmp/check out`."""
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "check out").mkdir()
    (tmp_path / "lock.txt").write_text(LOCK, encoding="utf-8")
    for name, version in (("alpha", "1.0"), ("beta.two", "2.0"), ("paddleocr-slim", "0.1.0")):
        fake_package(site, name, version)
    origin = (tmp_path / "check out").as_uri()
    (site / "paddleocr_slim-0.1.0.dist-info" / "direct_url.json").write_text(
        f'{{"url": "{origin}", "dir_info": {{"editable": true}}}}', encoding="utf-8"
    )
    return site


def verify(checkout: Path, site: Path, project: str = "check out") -> tuple[int, str]:
    """Run verify_env.py for the folder ``project``, seeing nothing but ``site``."""
    script = checkout / "scripts" / "verify_env.py"
    folder = site.parent
    done = subprocess.run(
        [sys.executable, "-S", str(script), str(folder / "lock.txt"), str(folder / project)],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_a_whole_environment_passes(checkout: Path, environment: Path) -> None:
    assert verify(checkout, environment) == (0, "")


def test_a_lost_file_is_found(checkout: Path, environment: Path) -> None:
    (environment / "alpha.py").unlink()
    assert verify(checkout, environment) == (1, "alpha lacks alpha.py")


def test_another_version_is_found(checkout: Path, environment: Path) -> None:
    (environment.parent / "lock.txt").write_text(LOCK.replace("2.0", "2.1"), encoding="utf-8")
    assert verify(checkout, environment) == (1, "beta-two is 2.0, locked is 2.1")


def test_a_missing_package_is_found(checkout: Path, environment: Path) -> None:
    (environment.parent / "lock.txt").write_text(LOCK + "gamma==3 \\\n", encoding="utf-8")
    assert verify(checkout, environment) == (1, "gamma 3 is not installed")


def test_a_copied_checkout_is_found(checkout: Path, environment: Path) -> None:
    code, text = verify(checkout, environment, "a copy")
    assert code == 1
    assert text.startswith("paddleocr-slim is installed from")
    assert text.endswith("a copy")

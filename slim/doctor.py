"""What is installed here, what is missing, what that disables, and the command that mends it.

Paddle, PaddleSlim, Paddle-Lite and OpenCV are loaded by child processes only (see ``slim.probe``): the
doctor must be able to speak where they crash.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slim import shaping
from slim.errors import SlimError
from slim.probe import ask
from slim.shadow import check_shadowing

ALL = ("every command",)
NETS = ("train", "eval", "prune", "quant", "export", "export-nb", "check", "run")
IMAGES = ("train", "eval", "prune", "quant", "check", "synth", "run")

# Distribution -> (versions this release was measured with, what does not work without it). Paddle's
# exported programs, PaddleSlim's hooks and opt's behaviour all differ between releases.
SUPPORTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "paddlepaddle": (("2.6.2",), NETS),
    "paddleslim": (("2.6.0",), ("prune", "quant", "run")),
    "paddlelite": (("2.13rc0",), ("export-nb", "check", "run")),
    "opencv-python": (("4.6.0.66",), IMAGES),
    "setuptools": (("65.5.0",), NETS),
}
# Library -> Debian / Ubuntu package that holds it.
LIBRARIES = {"libGL.so.1": "libgl1", "libgthread-2.0.so.0": "libglib2.0-0", "libgomp.so.1": "libgomp1"}
# One family per kind that the shipped data sets are rendered with; matplotlib carries them.
FONTS = ("DejaVuSans.ttf", "STIXGeneral.ttf", "cmr10.ttf")
# Room for Paddle and a training batch of the larger recipes: a comfortable bound, not a measured minimum.
MEMORY_GIB = 4.0
TEMP_GIB = 1.0
REINSTALL = "make install (in a checkout), or pip install --force-reinstall paddleocr-slim"


@dataclass(frozen=True)
class Finding:
    """One fact about this machine.

    Attributes:
        name: what was looked at.
        ok: whether it is as needed.
        found: what is there.
        needed: what has to be there.
        disables: commands that do not work while ``ok`` is False.
        optional: whether few need it: told, but no fault of the installation.
        remedy: what to do about it; empty when ``ok``.
    """

    name: str
    ok: bool
    found: str
    needed: str
    disables: tuple[str, ...] = ()
    remedy: str = ""
    optional: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for json.dump."""
        return {**asdict(self), "disables": list(self.disables)}


def diagnose() -> list[Finding]:
    """Every finding, in the order a reader should mend them; takes a few seconds (child processes).

    >>> [finding.name for finding in diagnose() if not finding.ok]
    []
    """
    checks: list[Callable[[], Iterable[Finding]]] = [
        _platform,
        _packages,
        _libraries,
        _shadowing,
        lambda: [_loads("opencv", "import cv2; print('loads,', cv2.__version__)", IMAGES)],
        lambda: [_loads("paddle", "import paddle; print('loads,', paddle.__version__)", NETS)],
        lambda: [
            _loads("opt", "from paddlelite.lite import Opt; Opt(); print('runs')", ("export-nb", "run"))
        ],
        _resources,
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [finding for found in pool.map(lambda check: list(check()), checks) for finding in found]


def _finding(name: str, ok: bool, found: str, needed: str, disables: tuple[str, ...], remedy: str) -> Finding:
    """A Finding whose losses and remedy are only told when it is not ok."""
    return Finding(name, ok, found, needed, () if ok else disables, "" if ok else remedy)


def _platform() -> list[Finding]:
    version = platform.python_version()
    machine = f"{platform.system()} {platform.machine()}"
    flags = _cpu_flags()
    return [
        _finding(
            "python",
            sys.version_info[:2] == (3, 10),
            f"{version} ({sys.executable})",
            "3.10",
            ALL,
            "install Python 3.10, then: make install PYTHON=/path/to/python3.10",
        ),
        _finding(
            "machine",
            machine == "Linux x86_64",
            machine,
            "Linux x86_64",
            ("export-nb", "check", "run"),
            "paddlelite 2.13rc0 has wheels for Linux x86_64 only: use such a machine or container",
        ),
        _finding(
            "processor",
            flags is None or "avx" in flags,
            "unknown" if flags is None else ("AVX" if "avx" in flags else "no AVX"),
            "AVX",
            NETS,
            "the paddlepaddle wheel needs AVX: use a processor (or emulator setting) that has it",
        ),
    ]


def _cpu_flags() -> set[str] | None:
    """The processor's feature flags, None where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return None


def _packages() -> list[Finding]:
    return [_package(name, versions, disables) for name, (versions, disables) in SUPPORTED.items()]


def _package(name: str, versions: tuple[str, ...], disables: tuple[str, ...]) -> Finding:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        found = "not installed"
    return _finding(name, found in versions, found, " or ".join(versions), disables, REINSTALL)


def _libraries() -> list[Finding]:
    code = (
        "import ctypes\nlost = []\n"
        f"for name in {tuple(LIBRARIES)!r}:\n"
        "    try: ctypes.CDLL(name)\n"
        "    except OSError: lost.append(name)\n"
        "print(' '.join(lost) or '-')"
    )
    answer = ask(code)
    lost = [name for name in answer.text.split() if name in LIBRARIES] if answer.ok else list(LIBRARIES)
    packages = " ".join(LIBRARIES[name] for name in lost)
    found = f"missing: {', '.join(lost)}" if lost else "all load"
    return [
        _finding(
            "system libraries", not lost, found, ", ".join(LIBRARIES), NETS, f"apt-get install -y {packages}"
        )
    ]


def _shadowing() -> list[Finding]:
    try:
        check_shadowing()
    except SlimError as error:
        return [
            Finding(
                "packages of ours",
                False,
                f"{error.where}: {error.what}",
                "ours come first",
                ALL,
                error.remedy or "",
            )
        ]
    return [Finding("packages of ours", True, "quant, prune, export beside slim", "ours come first")]


def _loads(name: str, code: str, disables: tuple[str, ...]) -> Finding:
    answer = ask(code)
    packages = [package for library, package in LIBRARIES.items() if library in answer.text]
    remedy = f"apt-get install -y {' '.join(packages)}" if packages else REINSTALL
    return _finding(name, answer.ok, answer.text, "loads in a fresh process", disables, remedy)


def _resources() -> list[Finding]:
    return [_memory(), _cores(), _fonts(), _shaping(), _temporary(), _cache()]


def _memory() -> Finding:
    total = _memory_bytes() / 2**30
    return _finding(
        "memory",
        total >= MEMORY_GIB,
        f"{total:.1f} GiB",
        f"{MEMORY_GIB:g} GiB",
        ("train", "prune", "quant", "run"),
        "use a machine or container with more memory, or a smaller Train batch size",
    )


def _memory_bytes() -> int:
    """Memory this process may use: the machine's, or less where a control group limits it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cores", True, str(cores), "1 (the times in the README are for 2)")


def _fonts() -> Finding:
    spec = find_spec("matplotlib")
    home = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None
    lost = [name for name in FONTS if home is None or not (home / name).is_file()]
    found = f"missing: {', '.join(lost)}" if lost else str(home)
    return _finding("fonts", not lost, found, "DejaVu, STIX and Computer Modern", ("synth", "run"), REINSTALL)


def _shaping() -> Finding:
    """Optional: Latin, Cyrillic, Chinese and Korean lines do without."""
    try:
        ok = shaping.shaping_available()
        versions = shaping.engine_versions() if ok else {"no": "Raqm"}
        found, remedy = ", ".join(" ".join(pair) for pair in versions.items()), shaping.ENGINE_REMEDY
    except ImportError as error:
        ok, found, remedy = False, f"Pillow does not load ({error})", REINSTALL
    disables = ("synth for Arabic, Indic and other scripts whose letters join",)
    finding = _finding("text shaping", ok, found, "Raqm with FriBidi", disables, remedy)
    return replace(finding, optional=True)


def _temporary() -> Finding:
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder) as handle:
            handle.write(b"slim")
        free = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        ok, found = False, f"not writable ({error})"
    else:
        ok, found = free >= TEMP_GIB, f"{folder}, {free:.1f} GiB free"
    remedy = "set TMPDIR to a folder that can be written to and has room"
    return _finding("temporary folder", ok, found, f"writable, {TEMP_GIB:g} GiB free", NETS, remedy)


def _cache() -> Finding:
    """Importing paddle makes ~/.cache/paddle, or the same below the temporary folder for a read-only home."""
    home = Path.home()
    base = home if os.access(home, os.W_OK) else Path(tempfile.gettempdir())
    wanted = base / ".cache" / "paddle" / "dataset"
    place = wanted
    while not place.exists() and place != place.parent:
        place = place.parent
    ok = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    found = f"{wanted}, {'writable' if ok else f'not writable at {place}'}"
    remedy = f"make {place} a folder of yours, or set HOME to one: paddle cannot be imported without it"
    return _finding("cache folder", ok, found, "writable", NETS, remedy)

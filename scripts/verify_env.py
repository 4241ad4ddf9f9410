"""Says whether this interpreter's environment is the locked one: `verify_env.py LOCK CHECKOUT`.

Every locked package has to be installed in its locked version with all the files it was installed with,
and the project has to come from CHECKOUT. Prints the first few differences and exits 1. Standard library
only, under a second: `make install` runs it each time to find out that nothing has to be done.
"""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

PROJECT = "paddleocr-slim"
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")


def normalized(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: Path) -> dict[str, str]:
    """Name -> version of every pin in the lock."""
    pins = (PIN.match(line) for line in lock.read_text(encoding="utf-8").splitlines())
    return {normalized(pin[1]): pin[2] for pin in pins if pin}


def missing_files(dist: metadata.Distribution) -> list[str]:
    """Recorded files that are gone; byte code and console scripts of other prefixes do not count."""
    record = dist.read_text("RECORD")
    if record is None:
        return ["RECORD"]
    base = str(dist.locate_file(""))
    names = (line.rsplit(",", 2)[0].strip('"') for line in record.splitlines() if line)
    return [
        name for name in names if not name.endswith(".pyc") and not os.path.exists(os.path.join(base, name))
    ]


def differences(lock: Path, checkout: Path) -> list[str]:
    """What keeps this environment from being the locked one; empty when nothing does."""
    installed = {normalized(dist.metadata["Name"] or ""): dist for dist in metadata.distributions()}
    found = []
    for name, version in locked(lock).items():
        dist = installed.get(name)
        if dist is None:
            found.append(f"{name} {version} is not installed")
        elif dist.version != version:
            found.append(f"{name} is {dist.version}, locked is {version}")
        elif gone := missing_files(dist):
            found.append(f"{name} lacks {gone[0]}")
    return found + project_differences(installed.get(PROJECT), checkout)


def project_differences(dist: metadata.Distribution | None, checkout: Path) -> list[str]:
    """Whether the project is installed in editable mode from this checkout and no other."""
    if dist is None:
        return [f"{PROJECT} is not installed"]
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    source = Path(unquote(urlsplit(origin.get("url", "")).path))
    if source.resolve() != checkout.resolve():
        return [f"{PROJECT} is installed from {source}, not from {checkout}"]
    return [f"{PROJECT} lacks {name}" for name in missing_files(dist)[:1]]


if __name__ == "__main__":
    problems = differences(Path(sys.argv[1]), Path(sys.argv[2]))
    for problem in problems[:3]:
        print(problem)
    sys.exit(1 if problems else 0)

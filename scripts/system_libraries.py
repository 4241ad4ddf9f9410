"""Tries the shared libraries that the Python wheels need from the system; run before anything is installed.

Prints one line with the apt-get command and exits 3 when one cannot be loaded. Standard library only.
"""

from __future__ import annotations

import ctypes
import sys

# library -> (Debian / Ubuntu package, who needs it)
NEEDED = {
    "libGL.so.1": ("libgl1", "opencv-python"),
    "libgthread-2.0.so.0": ("libglib2.0-0", "opencv-python"),
    "libgomp.so.1": ("libgomp1", "paddlepaddle"),
}


def missing() -> dict[str, tuple[str, str]]:
    """The part of NEEDED that the dynamic loader cannot load here."""
    found = {}
    for library, need in NEEDED.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            found[library] = need
    return found


if __name__ == "__main__":
    lacking = missing()
    if lacking:
        what = ", ".join(f"{library} ({who})" for library, (_, who) in lacking.items())
        packages = " ".join(package for package, _ in lacking.values())
        print(
            f"install: system libraries are missing: {what}; "
            f"run: apt-get update && apt-get install -y --no-install-recommends {packages}",
            file=sys.stderr,
        )
        sys.exit(3)

"""Notices when Python would import somebody else's ``quant``, ``prune`` or ``export``.

The four packages have short names, and a folder ``export/`` in the working directory or another
distribution's ``quant`` can come first on the module search path. What then fails is an import far inside
a stage, so the CLI asks here before it starts. Nothing is imported to find out.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from slim.errors import SlimError

HOME = Path(__file__).resolve().parent.parent
SIBLINGS = ("quant", "prune", "export")


def check_shadowing() -> None:
    """Raise SlimError unless quant, prune and export are the ones that stand beside slim.

    The message names the foreign folder and how to get it out of the way.
    """
    for name in SIBLINGS:
        found = _location(name)
        if found == HOME / name:
            continue
        if found is None:
            raise SlimError(
                f"the package {name!r} is missing, it belongs beside {HOME / 'slim'}",
                remedy="install again: make install, or pip install --force-reinstall paddleocr-slim",
            )
        raise SlimError(
            f"Python finds another package {name!r} before ours ({HOME / name})",
            where=found,
            remedy=_remedy(name, found),
        )


def _location(name: str) -> Path | None:
    """The folder (or file) that ``import name`` would read, None when there is none."""
    try:
        spec: ModuleSpec | None = find_spec(name)
    except ValueError:  # a module without __spec__ sits in sys.modules: somebody put it there by hand
        loaded = getattr(sys.modules.get(name), "__file__", None)
        return Path(loaded).resolve() if loaded else None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None


def _remedy(name: str, found: Path) -> str:
    """How the foreign package got in front, as far as its place tells."""
    if found.parent == Path.cwd():
        return f"it is in the current folder: start `slim` from another folder or rename {found.name}"
    if "site-packages" in found.parts:
        return f"another distribution installed it: give slim a virtual environment without that {name}"
    return "take its folder out of PYTHONPATH"

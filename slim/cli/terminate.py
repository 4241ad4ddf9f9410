"""SIGTERM as Ctrl-C: job managers, ``docker stop`` and Paddle's launcher send it before they kill.

The launcher's processes are sessions of their own: a Ctrl-C in the terminal reaches them as its SIGTERM.

Paddle installs a handler of its own at its import. That one prints a stack of C++ frames and may wait for
ever for a lock; no checkpoint is written and nothing is cleared away. Ours is set again behind it.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from slim.interrupts import terminated


def as_interrupt() -> None:
    """From now on SIGTERM does what Ctrl-C does at that moment, also once Paddle is imported."""
    _install()
    if "paddle" not in sys.modules:
        sys.meta_path.insert(0, _BehindPaddle())


def ignored() -> None:
    """From now on SIGTERM is ignored, if it was ours: the command ends already; launchers send several."""
    if signal.getsignal(signal.SIGTERM) is terminated:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _install() -> None:
    signal.signal(signal.SIGTERM, terminated)


class _BehindPaddle(MetaPathFinder):
    """Imports paddle as Python would, and acts when that is done."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "paddle":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_install(module: ModuleType) -> None:
            load(module)
            _install()

        spec.loader.exec_module = load_and_install  # type: ignore[method-assign]
        return spec

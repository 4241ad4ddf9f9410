"""Pillow's shaping engine: whether it is here, in which versions, and what brings it.

Raqm and HarfBuzz come with Pillow's wheels; FriBidi is a library of the system, looked for when Pillow is
imported. Without it Pillow would draw isolated letters from left to right and only warn, so it is asked for
before anything is drawn.
"""

from __future__ import annotations

ENGINE_REMEDY = "apt-get install -y libfribidi0 (Pillow looks for it when it starts)"


def shaping_available() -> bool:
    """Whether Pillow has its shaping engine here; ImportError where there is no Pillow."""
    from PIL import features

    return bool(features.check("raqm"))


def engine_versions() -> dict[str, str]:
    """Versions of the parts of the engine, which decide how a shaped line looks."""
    from PIL import features

    return {name: str(features.version(name)) for name in ("raqm", "fribidi", "harfbuzz")}

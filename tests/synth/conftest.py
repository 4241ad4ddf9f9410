"""Tiny fonts whose missing glyph is a frame: the only glyph with a hole, so that a picture tells of it."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]


def _boxes(*boxes: tuple[int, int, int, int]) -> object:
    """A glyph of boxes; every second one is wound the other way, which makes it a hole."""
    pen = TTGlyphPen(None)
    for k, (left, low, right, high) in enumerate(boxes):
        corners = [(left, low), (left, high), (right, high), (right, low)]
        corners = corners if k % 2 == 0 else corners[::-1]
        pen.moveTo(corners[0])
        for corner in corners[1:]:
            pen.lineTo(corner)
        pen.closePath()
    return pen.glyph()


FRAME = ((100, 0, 700, 800), (200, 100, 600, 700))


def build_font(path: Path, family: str, characters: str, framed: str = "") -> Path:
    """A font that draws ``characters`` as bars, and ``framed`` by glyphs that look like the missing one."""
    names = {char: f"glyph{ord(char):05d}" for char in characters + framed}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "space", *names.values()])
    builder.setupCharacterMap({32: "space", **{ord(char): name for char, name in names.items()}})
    glyphs = {".notdef": _boxes(*FRAME), "space": _boxes()}
    for k, (char, name) in enumerate(names.items()):
        bar = (100, -100, 300 + 10 * k, 700 - 10 * k)
        glyphs[name] = _boxes(*FRAME) if char in framed else _boxes(bar)
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (900, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)
    return path


@pytest.fixture(scope="session")
def make_font() -> Callable[..., Path]:
    """build_font."""
    return build_font


@pytest.fixture(scope="session")
def real_fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three packaged fonts of two families; DejaVu Sans has Arabic and Hebrew, STIX has not."""
    found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.submodule_search_locations is not None
    home = Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    folder = tmp_path_factory.mktemp("real fonts")
    for name in ("DejaVuSans", "DejaVuSans-Bold", "STIXGeneral"):
        shutil.copy(home / f"{name}.ttf", folder)
    return folder

"""Font files, and which characters each can really draw.

Some old fonts map characters to other glyphs (Computer Modern's ``<`` is an inverted exclamation mark),
and a missing one becomes a box: a label must never claim such a character. So a character counts only if
the font maps it, the glyph's name is the character's own, and the glyph is not empty.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path

from slim.errors import InputError, ToolMissing
from slim.synth.texts import ASCII

BUNDLED = {
    "DejaVu": (
        "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold",
        "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    ),
    "STIX": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    "Computer Modern": ("cmr10", "cmb10", "cmss10", "cmtt10"),
}  # fmt: skip
"""Families of matplotlib's TrueType files; the last one is for eval only."""

MIN_CHARACTERS = 60


@dataclass(frozen=True)
class Face:
    """One font file of a family, and the printable ASCII characters that it draws."""

    path: Path
    family: str
    sha256: str
    characters: frozenset[str]

    @property
    def name(self) -> str:
        """File name without its ending."""
        return self.path.stem


def bundled_faces() -> list[Face]:
    """DejaVu, STIX and Computer Modern out of the installed matplotlib, which is not imported.

    Raises:
        ToolMissing: matplotlib or one of the files is not there.
    """
    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise ToolMissing("matplotlib is not installed", remedy="pip install matplotlib, or give --fonts DIR")
    folder = Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    return [_face(folder / f"{name}.ttf", family) for family, names in BUNDLED.items() for name in names]


def faces_in(folder: Path) -> list[Face]:
    """All .ttf and .otf files below ``folder``, by the family name that each states.

    Raises:
        InputError: fewer than two families (one is kept for eval), or a file that is no font.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf") and p.is_file())
    faces = [_face(path, None) for path in paths]
    families = {face.family for face in faces}
    if len(families) < 2:
        raise InputError(
            f"{len(paths)} font files of {len(families)} families, at least two families needed",
            where=folder,
            remedy="one family is kept for the eval set; add .ttf or .otf files of another",
        )
    return faces


def held_out_family(faces: list[Face]) -> str:
    """The family that only the eval set shows: Computer Modern, else the last one by name."""
    families = sorted({face.family for face in faces})
    return "Computer Modern" if "Computer Modern" in families else families[-1]


def _face(path: Path, family: str | None) -> Face:
    from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-untyped]

    logging.getLogger("fontTools").setLevel(logging.ERROR)  # old fonts state odd time stamps
    try:
        data = path.read_bytes()
        with TTFont(path, lazy=True) as font:
            characters = _characters(font)
            stated = font["name"].getBestFamilyName() if family is None else family
    except OSError as error:
        raise InputError(f"cannot read font ({error.strerror})", where=path) from error
    except (TTLibError, KeyError, ValueError, AssertionError) as error:
        raise InputError(f"not a usable font ({type(error).__name__}: {error})", where=path) from error
    if len(characters) < MIN_CHARACTERS:
        raise InputError(
            f"font draws {len(characters)} of 94 ASCII characters, at least {MIN_CHARACTERS} needed",
            where=path,
            remedy="use a font with Latin letters and digits",
        )
    return Face(path, stated or path.stem, hashlib.sha256(data).hexdigest(), characters)


def _characters(font: object) -> frozenset[str]:
    from fontTools.agl import toUnicode  # type: ignore[import-untyped]

    cmap = font.getBestCmap() or {}  # type: ignore[attr-defined]
    glyphs = font.getGlyphSet()  # type: ignore[attr-defined]
    found = set()
    for char in ASCII:
        name = cmap.get(ord(char))
        if name is None or name == ".notdef" or toUnicode(name) not in (char, ""):
            continue
        if _draws(glyphs, name):
            found.add(char)
    return frozenset(found)


def _draws(glyphs: object, name: str) -> bool:
    from fontTools.pens.recordingPen import RecordingPen  # type: ignore[import-untyped]

    pen = RecordingPen()
    glyphs[name].draw(pen)  # type: ignore[index]
    return bool(pen.value)

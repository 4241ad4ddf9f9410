"""Font files, and which characters each can really draw.

Some old fonts map characters to other glyphs (Computer Modern's ``<`` is an inverted exclamation mark),
and a missing one becomes a box: a label must never claim such a character. So a character counts only if
the font maps it, the glyph's name is the character's own, and the glyph is not empty. A font for lines of
another language is asked for the characters of that language alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import struct
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from slim.errors import InputError, ToolMissing
from slim.synth.scripts import script_of
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
TALL = "Ag"
"""A capital and a descender: a line box keeps their ends, whatever its text."""
_BROKEN = (
    KeyError,
    ValueError,
    AssertionError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    struct.error,
)
"""What fontTools raises, beside its own errors, where the tables of a font lie."""


@dataclass(frozen=True)
class Face:
    """One font file of a family.

    Attributes:
        characters: those it draws of what was asked for: printable ASCII, or those of a language.
        tall: characters whose ends the box of every line keeps; "" where the font lacks them.
    """

    path: Path
    family: str
    sha256: str
    characters: frozenset[str]
    tall: str = TALL

    @property
    def name(self) -> str:
        """File name without its ending."""
        return self.path.stem


def bundled_faces() -> list[Face]:
    """DejaVu, STIX and Computer Modern out of the installed matplotlib, which is not imported.

    Raises:
        ToolMissing: matplotlib or one of the files is not there.
    """
    return [_latin(path, family) for path, family in _bundled_files()]


def _bundled_files() -> list[tuple[Path, str]]:
    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise ToolMissing("matplotlib is not installed", remedy="pip install matplotlib, or give --fonts DIR")
    folder = Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    return [(folder / f"{name}.ttf", family) for family, names in BUNDLED.items() for name in names]


def faces_in(folder: Path) -> list[Face]:
    """All .ttf and .otf files below ``folder``, by the family name that each states.

    Raises:
        InputError: fewer than two families (one is kept for eval), or a file that is no font.
    """
    paths = _files(folder, (".ttf", ".otf"))
    faces = [_latin(path, None) for path in paths]
    families = {face.family for face in faces}
    if len(families) < 2:
        raise InputError(
            f"{len(paths)} font files of {len(families)} families, at least two families needed",
            where=folder,
            remedy="one family is kept for the eval set; add .ttf or .otf files of another",
        )
    return faces


def faces_for(wanted: Iterable[str], folder: Path | None) -> list[Face]:
    """The packaged fonts, or all .ttf, .otf and .ttc files below ``folder``, asked for ``wanted`` alone.

    A face may draw none of them. Of a collection (.ttc) the first font counts.

    Raises:
        InputError: no folder, no font file in it, or a file that is no font. ToolMissing: no matplotlib.
    """
    if folder is None:
        files: list[tuple[Path, str | None]] = [(path, family) for path, family in _bundled_files()]
    else:
        files = [(path, None) for path in _files(folder, (".ttf", ".otf", ".ttc"))]
        if not files:
            what = "no .ttf, .otf or .ttc file" if folder.is_dir() else "is no folder"
            raise InputError(what, where=folder, remedy="give --fonts a folder with font files")
    wanted = frozenset(wanted)
    return [_face(path, family, wanted) for path, family in files]


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in endings and p.is_file())


def held_out_family(faces: list[Face]) -> str:
    """The family that only the eval set shows: Computer Modern, else the last one by name."""
    families = sorted({face.family for face in faces})
    return "Computer Modern" if "Computer Modern" in families else families[-1]


def _latin(path: Path, family: str | None) -> Face:
    """A face for English lines; InputError where it draws too little of ASCII."""
    face = _face(path, family, frozenset(ASCII))
    if len(face.characters) < MIN_CHARACTERS:
        raise InputError(
            f"font draws {len(face.characters)} of 94 ASCII characters, at least {MIN_CHARACTERS} needed",
            where=path,
            remedy="use a font with Latin letters and digits",
        )
    return replace(face, tall=TALL)


def _face(path: Path, family: str | None, wanted: frozenset[str]) -> Face:
    from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-untyped]

    logging.getLogger("fontTools").setLevel(logging.ERROR)  # old fonts state odd time stamps
    try:
        data = path.read_bytes()
        with TTFont(path, lazy=True, fontNumber=0) as font:
            drawn = _characters(font, wanted | set(TALL))
            stated = font["name"].getBestFamilyName() if family is None else family
    except OSError as error:
        raise InputError(f"cannot read font ({error.strerror})", where=path) from error
    except (TTLibError, *_BROKEN) as error:
        raise InputError(f"not a usable font ({type(error).__name__}: {error})", where=path) from error
    tall = TALL if set(TALL) <= drawn else ""
    return Face(path, stated or path.stem, hashlib.sha256(data).hexdigest(), drawn & wanted, tall)


def _characters(font: object, wanted: frozenset[str]) -> frozenset[str]:
    """Those of ``wanted`` that the font maps to a glyph of their own with something in it.

    The first glyph stands for all missing ones, whatever its name; some fonts map characters to copies of it.
    """
    cmap = font.getBestCmap() or {}  # type: ignore[attr-defined]
    glyphs = font.getGlyphSet()  # type: ignore[attr-defined]
    missing = font.getGlyphOrder()[0]  # type: ignore[attr-defined]
    empty: tuple[list[object], ...] = ([], _outline(glyphs, missing))
    found = set()
    for char in wanted:
        name = cmap.get(ord(char))
        if name is None or name in (missing, ".notdef") or not _own(char, name):
            continue
        if _outline(glyphs, name) not in empty:
            found.add(char)
    return frozenset(found)


def _own(char: str, glyph: str) -> bool:
    """Whether the glyph's name speaks of ``char``, or of nothing.

    A font may draw letters of two scripts by one glyph (a Cyrillic capital by the Latin one that looks
    the same), and old names stand for compatible characters (``Omega`` is the ohm sign).
    """
    from fontTools.agl import toUnicode  # type: ignore[import-untyped]

    named = toUnicode(glyph)
    if named in (char, ""):
        return True
    if ord(char) < 128 or len(named) != 1:
        return False
    same = unicodedata.normalize("NFKC", named) == unicodedata.normalize("NFKC", char)
    alike = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN")
    scripts = {script_of(named), script_of(char)}
    return same or (len(scripts) == 2 and scripts <= set(alike))


def _outline(glyphs: object, name: str) -> list[object]:
    from fontTools.pens.recordingPen import RecordingPen  # type: ignore[import-untyped]

    pen = RecordingPen()
    glyphs[name].draw(pen)  # type: ignore[index]
    return list(pen.value)

"""What a script asks of the renderer: joined or stacked letters need a shaping engine, Latin needs none."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from slim import shaping
from slim.errors import ToolMissing

JOINERS = frozenset("\u200c\u200d")
"""Zero width (non-)joiner: they draw nothing and change the letters beside them."""

# Letters of these blocks are stacked, reordered or joined even where no mark stands beside them.
_SHAPED_BLOCKS = (
    (0x0900, 0x0DFF),  # Devanagari to Sinhala
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul jamo, which join into syllables
    (0x1780, 0x18AF),  # Khmer, Mongolian
    (0xA840, 0xA87F),  # Phags-pa
)
_INDIC = (0x0900, 0x0DFF)


@lru_cache(maxsize=65536)
def script_of(char: str) -> str:
    """Script of a letter or mark by its Unicode name; "" for digits, signs and spaces.

    >>> script_of("a"), script_of("é"), script_of("ب"), script_of("7")
    ('LATIN', 'LATIN', 'ARABIC', '')
    """
    if unicodedata.category(char)[0] not in "LM":
        return ""
    return unicodedata.name(char, "").partition(" ")[0].partition("-")[0]


def is_mark(char: str) -> bool:
    """Whether ``char`` is drawn on, under or around the letter before it."""
    return unicodedata.category(char)[0] == "M"


def bears_marks(char: str) -> bool:
    """Whether a mark may follow: any letter, of the Indic scripts a consonant.

    A vowel sign on anything but a consonant gets a dotted circle from the engine, which no label holds.
    """
    if not char.isalpha():
        return False
    if not _INDIC[0] <= ord(char) <= _INDIC[1]:
        return True
    head, _, tail = unicodedata.name(char, "").partition(" LETTER ")
    return bool(head and tail) and "VOCALIC" not in tail and not set(tail.split()[-1]) <= set("AEIOU")


def draws_nothing(char: str) -> bool:
    """Spaces, controls, format characters, unassigned ones: no picture can show them.

    >>> [draws_nothing(char) for char in ("a", "\\u3000", "\\u200b", "\\u00ad")]
    [False, True, True, True]
    """
    return unicodedata.category(char)[0] in "ZC"


@lru_cache(maxsize=65536)
def _shaped(char: str) -> bool:
    code = ord(char)
    return (
        unicodedata.bidirectional(char) in ("R", "AL", "AN")
        or is_mark(char)
        or char in JOINERS
        or any(low <= code <= high for low, high in _SHAPED_BLOCKS)
    )


def needs_shaping(text: str) -> bool:
    """Whether glyphs one after the other, left to right, would be a wrong picture of ``text``.

    >>> needs_shaping("Straße"), needs_shaping("한국"), needs_shaping("سلام"), needs_shaping("e\\u0301")
    (False, False, True, True)
    """
    return any(_shaped(char) for char in text)


def require_shaping(texts: Iterable[str]) -> bool:
    """Whether one of ``texts`` needs the engine.

    Raises:
        ToolMissing: it does, and the engine is not here.
    """
    first = next((text for text in texts if needs_shaping(text)), None)
    if first is not None and not shaping.shaping_available():
        raise ToolMissing(
            f"{first[:40]!r} needs a shaping engine (Raqm), which Pillow does not find here",
            remedy=shaping.ENGINE_REMEDY,
        )
    return first is not None

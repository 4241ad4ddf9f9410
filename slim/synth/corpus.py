"""The lines of a text file as texts of pictures: cleaned, cut to length, each one once."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from slim.dictionaries import read_text
from slim.errors import InputError
from slim.synth.scripts import JOINERS, draws_nothing, is_mark

MAX_BYTES = 64 << 20
MAX_TEXTS = 1_000_000


def read_corpus(path: Path, longest: int) -> list[str]:
    """Texts of at most ``longest`` characters, in the file's order, each one once.

    White space becomes one space; characters that draw nothing go, but for those that join letters. A
    longer line is cut between words, a longer word between letters.

    Raises:
        InputError: missing, too large, not UTF-8, without a text, or with too many.
    """
    texts: dict[str, None] = {}
    for line in read_text(path, "corpus", MAX_BYTES, smaller="give fewer lines").split("\n"):
        texts.update(dict.fromkeys(_cut(_clean(line), longest)))
        if len(texts) > MAX_TEXTS:
            raise InputError(
                f"corpus gives more than {MAX_TEXTS} texts", where=path, remedy="give fewer lines"
            )
    if not texts:
        raise InputError("corpus holds no text", where=path, remedy="write one text a line")
    return list(texts)


def _clean(line: str) -> str:
    spaced = " ".join(line.split())
    return "".join(c for c in spaced if c == " " or c in JOINERS or not draws_nothing(c))


def _cut(line: str, longest: int) -> Iterator[str]:
    """Pieces of a line: as many words as fit, then the next."""
    piece = ""
    for word in line.split():
        for part in _letters(word, longest):
            if piece and len(piece) + 1 + len(part) > longest:
                yield piece
                piece = ""
            piece = f"{piece} {part}" if piece else part
    if piece:
        yield piece


def _letters(word: str, longest: int) -> Iterator[str]:
    """A word in parts that begin with no mark and no joiner, which would be drawn on nothing."""
    while len(word) > longest:
        end = longest
        while end > 1 and (is_mark(word[end]) or word[end] in JOINERS or _virama(word[end - 1])):
            end -= 1
        yield word[:end]
        word = word[end:]
    yield word


def _virama(char: str) -> bool:
    """Whether the next letter is joined to the one before by ``char``."""
    return unicodedata.combining(char) == 9

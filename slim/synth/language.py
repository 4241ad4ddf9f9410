"""Lines of any language: texts of a corpus or of a dictionary's characters, each in a font that has them all.

What no font draws is never drawn: a corpus that needs it is refused, random words do without it and say so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slim.errors import InputError
from slim.numerics import file_sha256
from slim.progress import Reporter
from slim.synth.corpus import read_corpus
from slim.synth.fonts import Face, faces_for
from slim.synth.scripts import JOINERS, require_shaping, script_of
from slim.synth.texts import Split, split_of
from slim.synth.words import Words, main_script, make_words, usable

DEFAULT_LONGEST = 25
"""PaddleOCR's ``max_text_length``: a longer label is not trained on."""
SHOWN = 20
FONTS_REMEDY = "give --fonts a folder with fonts that have them"
_TRIES = 1000
_SPACES = frozenset(" ")


@dataclass(frozen=True)
class Request:
    """What lines of another language are made of.

    Attributes:
        entries: the dictionary's entries; None: whatever the corpus holds.
        name: the dictionary as the user named it.
        spaces: whether a space is a class of the net.
        corpus: a text file, UTF-8, one text a line; None: random words of the dictionary's characters.
        longest: characters of a label.
    """

    entries: tuple[str, ...] | None
    name: str = "dictionary"
    spaces: bool = True
    corpus: Path | None = None
    longest: int = DEFAULT_LONGEST

    def facts(self) -> dict[str, Any]:
        """What was asked for, as plain data: names and hashes, no path of this machine."""
        body = "\n".join(self.entries or ()).encode()
        return {
            "dictionary": None if self.entries is None else Path(self.name).name,
            "dictionary_sha256": None if self.entries is None else hashlib.sha256(body).hexdigest(),
            "corpus": None if self.corpus is None else self.corpus.name,
            "corpus_sha256": None if self.corpus is None else file_sha256(self.corpus),
            "spaces": self.spaces,
            "longest": self.longest,
        }


@dataclass(frozen=True)
class Language:
    """Texts and the fonts that draw them, ready to draw from.

    Attributes:
        faces: fonts that draw something of it.
        held_out: family that train never shows; "" where each family is the only one for some text.
        shaped: whether some line goes through the shaping engine.
        words: random words, or None.
        texts: of a corpus, by split.
    """

    faces: tuple[Face, ...]
    held_out: str
    shaped: bool
    words: Words | None
    texts: Mapping[Split, Sequence[str]]

    def draw(self, rng: np.random.Generator, split: Split, unseen: bool) -> tuple[Face, str]:
        """A text of ``split`` and a font for it; ``unseen``: of the held-out family where that draws it.

        Raises:
            InputError: the characters make no text of this split.
        """
        for _ in range(_TRIES):
            if self.words is None:
                text = self.texts[split][int(rng.integers(len(self.texts[split])))]
                return self._face(rng, text, unseen), text
            first = self.words.characters[int(rng.integers(len(self.words.characters)))]
            face = self._face(rng, first, unseen)
            text = self.words.line(rng, first, face.characters)
            if text and split_of(text) == split:
                return face, text
        raise InputError(
            f"{len(self.words.characters) if self.words else 0} characters make no text for {split}",
            remedy="give a dictionary with more characters, or fonts that draw more of them",
        )

    def _face(self, rng: np.random.Generator, text: str, unseen: bool) -> Face:
        """A family that draws ``text``, each as likely as another, then one of its faces."""
        able = [face for face in self.faces if _draws(face, text)]
        new = [face for face in able if face.family == self.held_out]
        able = new if unseen and new else [face for face in able if face.family != self.held_out]
        families = sorted({face.family for face in able})
        family = families[int(rng.integers(len(families)))]
        faces = [face for face in able if face.family == family]
        return faces[int(rng.integers(len(faces)))]


def _draws(face: Face, text: str) -> bool:
    return needed(text) <= face.characters


def needed(text: str) -> frozenset[str]:
    """Characters of a text that a font must have: joiners only steer the shaping engine."""
    return frozenset(text) - _SPACES - JOINERS


def prepare(request: Request, fonts: Path | None, counts: Mapping[str, int], progress: Reporter) -> Language:
    """Texts and fonts of a request, checked before anything is drawn; what is left out is said once.

    Raises:
        InputError: the corpus, dictionary or fonts cannot be used, or fit each other badly.
        ToolMissing: the script needs a shaping engine, which is not here.
    """
    if request.corpus is not None:
        return _of_corpus(request, request.corpus, fonts, counts, progress)
    if request.entries is None:
        raise InputError("nothing to draw from", remedy="give a dictionary or a corpus")
    return _of_dictionary(request, request.entries, fonts, progress)


def _of_dictionary(
    request: Request, entries: tuple[str, ...], fonts: Path | None, progress: Reporter
) -> Language:
    wanted = usable(entries)
    faces = faces_for(wanted, fonts)
    drawn = frozenset().union(*(face.characters for face in faces))
    chosen = usable(char for char in wanted if char in drawn)
    lost = [char for char in wanted if char not in drawn]
    script = main_script(wanted)
    of_script = [char for char in wanted if script_of(char) == script]
    if not chosen or (of_script and not drawn & set(of_script)):
        what = f"{len(of_script)} {script} characters" if chosen else f"{len(wanted)} characters"
        raise InputError(
            f"no font draws any of its {what}: {listed(of_script if chosen else lost)}",
            where=request.name,
            remedy=FONTS_REMEDY,
        )
    if lost:
        progress.warn(
            f"{request.name}: {len(lost)} of {len(entries)} characters are in no font and left out: "
            f"{listed(lost)}; {FONTS_REMEDY}"
        )
    shaped = require_shaping(chosen)
    held_out = _held_out(faces, chosen, progress)
    words = make_words(chosen, request.longest, request.spaces)
    return Language(_used(faces), held_out, shaped, words, {})


def _of_corpus(
    request: Request, corpus: Path, fonts: Path | None, counts: Mapping[str, int], progress: Reporter
) -> Language:
    texts = _in_dictionary(request, read_corpus(corpus, request.longest), corpus, progress)
    wanted = frozenset().union(*map(needed, texts))
    faces = faces_for(wanted, fonts)
    lost = sorted(wanted - frozenset().union(*(face.characters for face in faces)))
    if lost:
        raise InputError(
            f"{len(lost)} of its {len(wanted)} characters are in no font: {listed(lost)}",
            where=corpus,
            remedy=f"{FONTS_REMEDY}, or take the lines out",
        )
    whole = [text for text in texts if any(_draws(face, text) for face in faces)]
    if len(whole) < len(texts):
        message = f"{len(texts) - len(whole)} of {len(texts)} texts need more than one font"
        _leave_out(message, corpus, whole, FONTS_REMEDY, progress)
    shaped = require_shaping(whole)
    held_out = _held_out(faces, whole, progress)
    return Language(_used(faces), held_out, shaped, None, _by_split(whole, corpus, counts))


def _by_split(texts: list[str], corpus: Path, counts: Mapping[str, int]) -> dict[Split, list[str]]:
    """The texts that train and eval may show; InputError where one of them needs some and gets none."""
    by_split: dict[Split, list[str]] = {"train": [], "eval": []}
    for text in texts:
        by_split[split_of(text)].append(text)
    for split, found in by_split.items():
        if counts[split] and not found:
            raise InputError(
                f"none of its {len(texts)} texts falls to {split} (a text's hash decides)",
                where=corpus,
                remedy=f"give more lines, or --{split} 0",
            )
    return by_split


def _in_dictionary(request: Request, texts: list[str], corpus: Path, progress: Reporter) -> list[str]:
    """The texts whose characters are all classes of the net: another one would be no true label."""
    if request.entries is None:
        return texts
    classes = frozenset(request.entries) | (_SPACES if request.spaces else frozenset())
    kept = [text for text in texts if classes.issuperset(text)]
    if len(kept) < len(texts):
        outside = dict.fromkeys(char for text in texts for char in text if char not in classes)
        message = f"{len(texts) - len(kept)} of {len(texts)} texts hold characters outside {request.name}"
        remedy = (
            "set Global.use_space_char: true" if " " in outside else "give the dictionary of this language"
        )
        _leave_out(f"{message}: {listed(list(outside))}", corpus, kept, remedy, progress)
    return kept


def _leave_out(message: str, corpus: Path, kept: list[str], remedy: str, progress: Reporter) -> None:
    if not kept:
        raise InputError(message, where=corpus, remedy=remedy)
    progress.warn(f"{corpus}: {message}; these are left out")


def _held_out(faces: Sequence[Face], units: Sequence[str], progress: Reporter) -> str:
    """A family that eval alone may show, as the others draw all units: Computer Modern, else the last."""
    families = {face.family for face in faces if any(_draws(face, unit) for unit in units)}
    for unit in units:
        able = {face.family for face in faces if _draws(face, unit)}
        families -= able if len(able) == 1 else set()
    if not families:
        progress.info("train and eval show the same fonts: no family can be spared for eval alone")
        return ""
    return "Computer Modern" if "Computer Modern" in families else max(families)


def _used(faces: Sequence[Face]) -> tuple[Face, ...]:
    return tuple(face for face in faces if face.characters)


def listed(characters: Sequence[str]) -> str:
    """The first 20 with their code points.

    >>> listed(["é", " "])
    "'é' U+00E9, ' ' U+0020"
    """
    shown = ", ".join(f"{char!r} U+{ord(char[0]):04X}" for char in characters[:SHOWN])
    return f"{shown} and {len(characters) - SHOWN} more" if len(characters) > SHOWN else shown

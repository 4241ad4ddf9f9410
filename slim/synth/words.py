"""Random words out of the characters of a dictionary, of one script each, as a shaping engine takes them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from slim.synth.scripts import bears_marks, draws_nothing, is_mark, script_of

LONGEST_WORD = 8
MOST_WORDS = 4
MARK_SHARE = 0.3
"""How often a letter that can bear a mark gets one."""
_FEW = 5
"""A script of fewer characters is thrown together with digits and signs: no word can be made of it."""


@dataclass(frozen=True)
class Words:
    """Draws texts from ``characters``, in which each is as likely as any other.

    Attributes:
        characters: those that may be drawn, in the dictionary's order.
        groups: script of each; "" for digits, signs and rare letters.
        longest: characters of a text.
        spaces: whether a text may have several words.
    """

    characters: tuple[str, ...]
    groups: dict[str, str]
    longest: int
    spaces: bool

    def line(self, rng: np.random.Generator, first: str, drawn: frozenset[str]) -> str:
        """A text that holds ``first``, of characters in ``drawn`` (those of a font).

        "" where it cannot be: the font has no letter for a mark, or marks made the text too long.
        """
        pool = [char for char in self.characters if char in drawn]
        parts: dict[str, list[str]] = defaultdict(list)
        for char in pool:
            parts[self.groups[char]].append(char)
        room = int(rng.integers(1, self.longest + 1))
        words = [self._word(rng, first, parts[self.groups[first]], room)]
        room -= len(words[0]) + 1
        while self.spaces and room > 0 and len(words) < MOST_WORDS:
            seed = pool[int(rng.integers(len(pool)))]
            words.append(self._word(rng, seed, parts[self.groups[seed]], room))
            room -= len(words[-1]) + 1
        text = " ".join(words[k] for k in rng.permutation(len(words)))
        return text if words[0] and len(text) <= self.longest else ""

    def _word(self, rng: np.random.Generator, first: str, pool: Sequence[str], room: int) -> str:
        """``first`` at a random place among others of its script; a mark stands behind a letter."""
        letters = [char for char in pool if not is_mark(char)]
        marks = [char for char in pool if is_mark(char)]
        bearers = [char for char in letters if bears_marks(char)]
        count = int(rng.integers(1, min(LONGEST_WORD, max(1, room)) + 1))
        place = int(rng.integers(count))
        word = ""
        for k in range(count):
            letter = letters[int(rng.integers(len(letters)))] if letters else first
            if k == place and not is_mark(first):
                letter = first
            elif k == place:
                if not bearers:
                    return ""
                letter = bearers[int(rng.integers(len(bearers)))] + first
            elif marks and bears_marks(letter) and rng.random() < MARK_SHARE:
                letter += marks[int(rng.integers(len(marks)))]
            word += letter
        return word


def usable(characters: Iterable[str]) -> list[str]:
    """Characters that random words can show: those with a picture, and marks that some letter bears."""
    seen = [char for char in characters if len(char) == 1 and not draws_nothing(char)]
    borne = {script_of(char) for char in seen if not is_mark(char) and bears_marks(char)}
    return [char for char in seen if not is_mark(char) or script_of(char) in borne]


def make_words(characters: Iterable[str], longest: int, spaces: bool) -> Words:
    """Words of ``characters``, all of which must be usable."""
    chosen = tuple(dict.fromkeys(characters))
    scripts = {char: script_of(char) for char in chosen}
    counts = Counter(scripts.values())
    groups = {char: script if counts[script] >= _FEW else "" for char, script in scripts.items()}
    return Words(chosen, groups, longest, spaces)


def main_script(characters: Iterable[str]) -> str:
    """The script a dictionary is for: the largest but Latin, which nearly all of them hold as well.

    >>> main_script("abcdefgh" + "가나다라마바사"), main_script("abc1")
    ('HANGUL', 'LATIN')
    """
    counts = Counter(script_of(char) for char in characters if len(char) == 1)
    others = [(count, script) for script, count in counts.items() if script not in ("", "LATIN")]
    count, script = max(others, default=(0, ""))
    return script if count > _FEW else "LATIN"

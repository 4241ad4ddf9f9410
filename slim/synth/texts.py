"""Texts of rendered lines, and which split each text belongs to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np

Split = Literal["train", "eval"]
MAX_CHARACTERS = 22
EVAL_BUCKETS = 96
"""Of the 256 values of a text's first hash byte, how many belong to the eval split."""

ASCII = "".join(chr(code) for code in range(33, 127))
DIGITS, UPPER, LOWER = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
SYMBOLS = "".join(char for char in ASCII if not char.isalnum())
WORDS = tuple((Path(__file__).parent / "words.txt").read_text(encoding="ascii").split())


def split_of(text: str) -> Split:
    """The only split that may hold ``text``: decided by the text alone, so the splits cannot share one.

    >>> split_of("HELLO"), split_of("hello")
    ('train', 'eval')
    """
    return "eval" if hashlib.blake2b(text.encode()).digest()[0] < EVAL_BUCKETS else "train"


def draw_text(rng: np.random.Generator, split: Split, characters: frozenset[str]) -> str:
    """A text of 1 to 22 characters, all in ``characters``, that belongs to ``split``.

    No space at either end and no two in a row, so that the image shows everything the label says.
    """
    while True:
        text = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))](rng)
        text = " ".join("".join(c for c in text if c == " " or c in characters).split())
        text = text[:MAX_CHARACTERS].strip()
        if text and split_of(text) == split:
            return text


def _pick(rng: np.random.Generator, pool: str, low: int, high: int) -> str:
    numbers = rng.integers(0, len(pool), int(rng.integers(low, high + 1)))
    return "".join(pool[k] for k in numbers)


def _cased(rng: np.random.Generator, word: str) -> str:
    return (word, word.upper(), word.capitalize())[int(rng.integers(3))]


def _words(rng: np.random.Generator) -> str:
    count = int(rng.integers(1, 4))
    separator = (" ", " ", " ", "-", "/", ", ", ". ")[int(rng.integers(7))]
    return separator.join(_cased(rng, WORDS[int(rng.integers(len(WORDS)))]) for _ in range(count))


def _alphanumeric(rng: np.random.Generator) -> str:
    pool = (UPPER + DIGITS, LOWER + DIGITS, UPPER + LOWER + DIGITS, LOWER, UPPER)[int(rng.integers(5))]
    return _pick(rng, pool, 1, MAX_CHARACTERS)


def _number(rng: np.random.Generator) -> str:
    a, b, c = (int(k) for k in rng.integers(0, [10_000, 100, 100]))
    forms = (
        f"{a}.{b:02d}", f"${a:,}.{b:02d}", f"{b % 31 + 1:02d}/{c % 12 + 1:02d}/{1980 + a % 60}",
        f"{a % 24:02d}:{b % 60:02d}", f"{1980 + a % 60}-{b % 12 + 1:02d}-{c % 31 + 1:02d}", f"{b}%", f"{a}",
        f"+{b} {a:04d} {c * 97:04d}", f"#{a:05d}", f"({b:02d}) {a:04d}-{c:02d}", f"No.{a}", f"{b}x{c}",
    )  # fmt: skip
    return forms[int(rng.integers(len(forms)))]


def _mixed(rng: np.random.Generator) -> str:
    return _pick(rng, ASCII + "   ", 2, MAX_CHARACTERS)


def _code(rng: np.random.Generator) -> str:
    parts = [_pick(rng, UPPER + DIGITS, 1, 5) for _ in range(int(rng.integers(1, 5)))]
    return "-_./: "[int(rng.integers(6))].join(parts)


def _symbols(rng: np.random.Generator) -> str:
    word = _cased(rng, WORDS[int(rng.integers(len(WORDS)))])
    return _pick(rng, SYMBOLS, 0, 2) + word + _pick(rng, SYMBOLS, 1, 2)


_KINDS = (_words, _alphanumeric, _number, _mixed, _code, _symbols)
_SHARES = (0.30, 0.22, 0.16, 0.08, 0.12, 0.12)

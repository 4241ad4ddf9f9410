"""Scripts, the order of a line, random words and corpora."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from slim.dictionaries import BUNDLED, read_dictionary
from slim.errors import InputError
from slim.synth.corpus import read_corpus
from slim.synth.order import visual_order
from slim.synth.scripts import bears_marks, is_mark, needs_shaping
from slim.synth.words import main_script, make_words, usable

# What joins or substitutes glyphs; without it the engine only decides where a character stands.
_JOINING = ["init", "medi", "fina", "isol", "liga", "rlig", "clig", "dlig", "calt", "ccmp", "kern", "locl"]


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("Grüße, 12 %", False),
        ("Привет", False),
        ("漢字カナ한글", False),
        ("سلام", True),
        ("שלום", True),
        ("नमस्ते", True),
        ("தமிழ்", True),
        ("తెలుగు", True),
        ("ಕನ್ನಡ", True),
        ("বাংলা", True),
        ("ภาษาไทย", True),
        ("cafe\u0301", True),
        ("a\u200db", True),
    ],
)
def test_which_texts_need_shaping(text: str, needed: bool) -> None:
    assert needs_shaping(text) is needed


def _picture(text: str, font: ImageFont.FreeTypeFont) -> bytes:
    image = Image.new("L", (600, 40))
    ImageDraw.Draw(image).text((4, 4), text, 255, font, features=[f"-{name}" for name in _JOINING])
    return image.tobytes()


def test_the_order_is_that_of_the_engine(real_fonts: Path) -> None:
    """A text and its visual order, forced to stand from left to right, are one picture, pixel for pixel."""
    font = ImageFont.truetype(str(real_fonts / "DejaVuSans.ttf"), 20, layout_engine=ImageFont.Layout.RAQM)
    pool = "ابجدهوزاحمאבגדabcAB0123٠١٢٣   .,:;-+/%$()[]!?'#&*=<>«»{}"
    rng, turned = np.random.default_rng(5), 0
    for _ in range(150):
        text = " ".join("".join(pool[k] for k in rng.integers(0, len(pool), rng.integers(1, 14))).split())
        seen = _picture(text, font)
        assert seen == _picture(f"\u202d{visual_order(text)}\u202c", font), ascii(text)
        turned += seen != _picture(f"\u202d{text}\u202c", font)
    assert turned > 100  # texts left in reading order would have been seen


def test_order_of_plain_cases() -> None:
    assert visual_order("a (b) 12") == "a (b) 12"
    assert visual_order("سلام") == "مالس"
    assert visual_order("سلام 12:30 abc") == "abc 12:30 مالس"
    assert visual_order("(سلام)") == "(مالس)"
    assert visual_order("") == ""


@pytest.mark.parametrize("name", ["arabic_dict.txt", "devanagari_dict.txt", "te_dict.txt", "german_dict.txt"])
def test_random_words_are_such_as_an_engine_takes(name: str) -> None:
    """Marks stand on letters that bear them, words are of one script, every character is shown."""
    chosen = usable(read_dictionary(BUNDLED / name))
    words, drawn = make_words(chosen, 20, spaces=True), frozenset(chosen)
    rng, shown = np.random.default_rng(2), set[str]()
    for k in range(4 * len(chosen)):
        first = chosen[k % len(chosen)]
        text = words.line(rng, first, drawn)
        if not text:
            continue
        assert first in text and len(text) <= 20 and text == " ".join(text.split())
        shown |= set(text)
        for before, char in zip(" " + text, text, strict=False):
            assert not is_mark(char) or (bears_marks(before) and not is_mark(before)), ascii(text)
        for word in text.split():
            assert len({words.groups[char] for char in word}) == 1
    assert shown - {" "} == set(chosen)


def test_what_has_no_picture_is_no_character_of_words() -> None:
    assert usable(["a", " ", "\u3000", "\u200b", "\u00ad", "ab", "\u0301", "\u0940"]) == ["a"]
    assert usable(["क", "\u0940"]) == ["क", "\u0940"]
    assert not any(bears_marks(char) for char in "अईऋऽ१a"[:5])  # vowels, avagraha, a digit
    assert bears_marks("क") and bears_marks("ب")
    line = make_words("ab", 10, spaces=False).line(np.random.default_rng(1), "a", frozenset("ab"))
    assert " " not in line


@pytest.mark.parametrize(
    ("name", "script"),
    [("ta_dict.txt", "TAMIL"), ("korean_dict.txt", "HANGUL"), ("german_dict.txt", "LATIN")],
)
def test_the_script_that_a_dictionary_is_for(name: str, script: str) -> None:
    assert main_script(read_dictionary(BUNDLED / name)) == script


def test_a_corpus_is_cleaned_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeff one\u3000two \r\n\none two\nnever ending words\nsoft\u00adhyphen\n".encode())
    assert read_corpus(path, 11) == ["one two", "never", "ending", "words", "softhyphen"]
    assert read_corpus(path, 12)[1:3] == ["never ending", "words"]


def test_a_long_word_is_not_cut_before_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("क\u094dषक\u093eक\u093f", encoding="utf-8")
    texts = read_corpus(path, 4)
    assert "".join(texts) == path.read_text(encoding="utf-8")
    assert len(texts) > 1 and all(unicodedata.category(text[0])[0] == "L" for text in texts)


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"\n \n", "corpus holds no text"), (b"\xff\xfe", r"corpus is not UTF-8 text \(byte 0\)")],
)
def test_a_corpus_that_is_none(body: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(body)
    with pytest.raises(InputError, match=said):
        read_corpus(path, 25)

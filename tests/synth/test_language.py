"""Lines of other languages: no box for a missing character, each text in a font that has all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slim import shaping
from slim.cli.main import run
from slim.errors import InputError, ToolMissing
from slim.progress import Silent, Task
from slim.synth import fonts, language, render, synthesize
from slim.synth.language import Request, prepare
from slim.synth.manifest import HARD
from slim.synth.order import visual_order
from slim.synth.texts import Split, split_of

LATIN = "abcdefghijklmnopqrstuvwxyz"
FEW = {"train": 10, "eval": 8, "calib": 2}
MakeFont = Callable[..., Path]


class Notes:
    """A Reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def info(self, message: str) -> None:
        self.told.append(message)

    def warn(self, message: str) -> None:
        self.told.append(f"warning: {message}")

    def task(self, label: str, total: int | None = None) -> Task:
        return Silent().task(label, total)


def _hashes(folder: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.*"))]


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "lines.jsonl").read_text("utf-8").split("\n")[:-1]]


@pytest.fixture
def tiny(tmp_path: Path, make_font: MakeFont) -> Path:
    """Two families: the first has é, the second has not; no one has ß."""
    make_font(tmp_path / "fonts" / "one.ttf", "One", LATIN + "é")
    make_font(tmp_path / "fonts" / "two.ttf", "Two", LATIN)
    return tmp_path / "fonts"


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Every text as it was drawn, before it is warped and blurred."""
    kept: list[np.ndarray] = []
    draw = render.text_mask

    def keep(*arguments: Any) -> Any:
        mask = draw(*arguments)
        kept.append(np.asarray(mask))
        return mask

    monkeypatch.setattr(render, "text_mask", keep)
    return kept


def _holes(mask: np.ndarray) -> int:
    """Parts of the ground that ink encloses: one a missing glyph, as the bars of the tiny fonts have none."""
    ground = np.pad(mask < 128, 2, constant_values=True).astype(np.uint8)
    return int(cv2.connectedComponents(ground, connectivity=4)[0]) - 2


# --- what no font has ------------------------------------------------------------------------------


def test_no_box_is_drawn_and_each_text_has_its_font(
    tiny: Path, tmp_path: Path, masks: list[np.ndarray]
) -> None:
    notes = Notes()
    synthesize(
        "rec", tmp_path / "set", FEW, 3, tiny, notes, language=Request((*LATIN, "é", "ß"), "my_dict.txt")
    )
    assert len(masks) == 18 and not any(_holes(mask) for mask in masks)
    rows = _rows(tmp_path / "set")
    assert not any("ß" in row["text"] for row in rows)
    assert {row["font"] for row in rows if "é" in row["text"]} <= {"one"}
    said = [line for line in notes.told if "my_dict.txt" in line]
    assert len(said) == 1 and said[0].startswith(
        "warning: my_dict.txt: 1 of 28 characters are in no font and left out: 'ß' U+00DF; give --fonts"
    )


def test_a_box_would_be_seen(
    tiny: Path, tmp_path: Path, masks: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test above: every font claims to draw everything."""
    monkeypatch.setattr(fonts, "_characters", lambda font, wanted: wanted)
    synthesize("rec", tmp_path / "set", FEW, 3, tiny, language=Request((*LATIN[:3], "é", "ß")))
    rows = _rows(tmp_path / "set")
    boxes = [row["text"].count("ß") + row["text"].count("é") * (row["font"] == "two") for row in rows]
    assert sum(boxes) > 5
    assert [_holes(mask) for mask in masks] == boxes


def test_a_character_mapped_to_a_copy_of_the_missing_glyph_is_missing(
    tmp_path: Path, make_font: MakeFont
) -> None:
    path = make_font(tmp_path / "one.ttf", "One", "abc", framed="xy")
    (face,) = fonts.faces_for("abxz ", path.parent)
    assert (face.characters, face.tall) == (frozenset("ab"), "")


def test_a_corpus_that_no_font_can_draw_is_refused(tiny: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "lines.txt"
    corpus.write_text("weiß\ngroß ñandu\ncafe\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"2 of its \d+ characters are in no font: 'ß' U\+00DF, 'ñ' U\+00F1; "
    ):
        synthesize("rec", tmp_path / "set", FEW, 3, tiny, language=Request(None, corpus=corpus))
    assert not (tmp_path / "set").exists()


def test_a_dictionary_whose_script_no_font_has_is_refused(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tiny.parent / "set"
    arguments = ["synth", "--task", "rec", "--out", str(out), "--fonts", str(tiny)]
    assert run([*arguments, "-c", "rec/korean_mobile_v2.0_rec"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no font draws any of its 1775 HANGUL characters: 'ㄱ' U+3131, " in last
    assert last.count("U+") == language.SHOWN and "give --fonts a folder" in last
    assert not out.exists()


def test_texts_that_need_two_fonts_are_left_out(tmp_path: Path, make_font: MakeFont) -> None:
    make_font(tmp_path / "fonts" / "one.ttf", "One", "abc")
    make_font(tmp_path / "fonts" / "two.ttf", "Two", "xyz")
    corpus = tmp_path / "lines.txt"
    corpus.write_text("abc\nabc xyz\nxyz\nzyx\ncba\nbac\nyxz\n", encoding="utf-8")
    notes = Notes()
    found = prepare(Request(None, corpus=corpus), tmp_path / "fonts", {"train": 0, "eval": 0}, notes)
    texts = [text for part in found.texts.values() for text in part]
    assert sorted(texts) == ["abc", "bac", "cba", "xyz", "yxz", "zyx"]
    assert notes.told[0].endswith("1 of 7 texts need more than one font; these are left out")
    # Each family is the only one for some text: none can be kept from train.
    assert found.held_out == "" and "no family can be spared" in notes.told[1]


def test_a_family_that_others_replace_is_kept_for_eval(tiny: Path) -> None:
    found = prepare(Request(tuple(LATIN)), tiny, FEW, Notes())
    rng = np.random.default_rng(1)
    assert found.held_out == "Two"
    for split, unseen, expected in (("train", False, "One"), ("eval", True, "Two")):
        drawn = [found.draw(rng, split, unseen) for _ in range(20)]  # type: ignore[arg-type]
        assert {face.family for face, _ in drawn} == {expected}
        assert {split_of(text) for _, text in drawn} == {split}
    assert prepare(Request((*LATIN, "é")), tiny, FEW, Notes()).held_out == "Two"


# --- sets ------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_other_seed_others(tiny: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        synthesize("rec", tmp_path / name, FEW, seed, tiny, language=Request((*LATIN, "é")))
    assert _hashes(tmp_path / "a") == _hashes(tmp_path / "b")
    assert not set(_hashes(tmp_path / "a" / "images")) & set(_hashes(tmp_path / "c" / "images"))


def test_a_corpus_gives_the_lines(tiny: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "lines.txt"
    words = ["le cafe", "un the", "deux cafés", "trois", "quatre", "cinq six", "sept", "huit", "neuf", "dix"]
    corpus.write_text("\n".join([*words, "42"]), encoding="utf-8")
    notes, request = Notes(), Request((*LATIN, "é"), "fr.txt", corpus=corpus)
    manifest = synthesize("rec", tmp_path / "set", FEW, 3, tiny, notes, language=request)
    rows = _rows(tmp_path / "set")
    assert {row["text"] for row in rows} <= set(words)
    assert all(row["label"] == row["text"] for row in rows)
    assert "1 of 11 texts hold characters outside fr.txt: '4' U+0034, '2' U+0032; these" in notes.told[0]
    facts = manifest["recipe"]["language"]
    assert (facts["dictionary"], facts["corpus"], facts["shaped"]) == ("fr.txt", "lines.txt", False)
    assert facts["corpus_sha256"] == hashlib.sha256(corpus.read_bytes()).hexdigest()


def test_a_split_without_a_text_is_told(tiny: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "lines.txt"
    texts: dict[Split, str] = {split_of(word): word for word in ("a", "b", "c", "d", "e", "f", "g", "h")}
    corpus.write_text(texts["train"], encoding="utf-8")
    with pytest.raises(
        InputError, match="none of its 1 texts falls to eval .*; give more lines, or --eval 0"
    ):
        prepare(Request(None, corpus=corpus), tiny, FEW, Notes())
    assert prepare(Request(None, corpus=corpus), tiny, {**FEW, "eval": 0}, Notes()).texts["train"] == [
        texts["train"]
    ]


def test_lines_of_another_language_are_turned_for_cls(tiny: Path, tmp_path: Path) -> None:
    arguments = ["--task", "cls", "--out", str(tmp_path / "set"), "--fonts", str(tiny), "--dict", "my.txt"]
    dictionary = tmp_path / "my.txt"
    dictionary.write_text("\n".join(LATIN + "é"), encoding="utf-8")
    arguments[-1] = str(dictionary)
    assert run(["synth", *arguments, "--train", "12", "--eval", "8", "--calib", "2"]) == 0
    assert {row["label"] for row in _rows(tmp_path / "set")} == {"0", "180"}


# --- scripts that need shaping ---------------------------------------------------------------------


def _arabic(folder: Path) -> Request:
    corpus = folder / "arabic.txt"
    corpus.write_text("سلام\nكتاب جديد\nمدينة (12)\nبيت\nشمس\nقمر\nمطر\nنهار\n", encoding="utf-8")
    return Request(None, corpus=corpus)


def test_joined_letters_are_drawn_joined(real_fonts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit: pixels of width. Joined forms are narrower than isolated ones; seen alone, both are the same."""
    assert shaping.shaping_available()
    (sans, *_) = [f for f in fonts.faces_for("سلامكتب", real_fonts) if f.name == "DejaVuSans"]
    hard = replace(HARD["rec"], margin=0.0)

    def width(text: str) -> int:
        return render.text_mask(text, sans, np.random.default_rng(1), hard).width

    shaped = {text: width(text) for text in ("سلام", "كتب", "ab")}
    monkeypatch.setattr(render, "needs_shaping", lambda text: False)
    bare = {text: width(text) for text in shaped}
    assert shaped["سلام"] < bare["سلام"] - 5 and shaped["كتب"] < bare["كتب"] - 5
    assert shaped["ab"] == bare["ab"]


def test_a_line_read_from_the_right_is_labelled_as_it_stands(real_fonts: Path, tmp_path: Path) -> None:
    manifest = synthesize("rec", tmp_path / "set", FEW, 3, real_fonts, language=_arabic(tmp_path))
    rows = _rows(tmp_path / "set")
    assert {row["font"] for row in rows} <= {"DejaVuSans", "DejaVuSans-Bold"}
    assert all(row["label"] == visual_order(row["text"]) != row["text"] for row in rows)
    assert {"raqm", "fribidi", "harfbuzz"} <= set(manifest["tools"])
    labels = {
        line.partition("\t")[2] for line in (tmp_path / "set/train.txt").read_text("utf-8").splitlines()
    }
    assert labels == {row["label"] for row in rows if "/train/" in row["ref"]}


def test_without_the_engine_joined_scripts_are_refused(
    real_fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shaping, "shaping_available", lambda: False)
    request = _arabic(tmp_path)
    with pytest.raises(ToolMissing, match="'سلام' needs a shaping engine .*; apt-get install -y libfribidi0"):
        synthesize("rec", tmp_path / "set", FEW, 3, real_fonts, language=request)
    common = ["synth", "--out", str(tmp_path / "set"), "--fonts", str(real_fonts), "--train", "2"]
    common += ["--eval", "2", "--calib", "0", "--task", "rec"]
    assert run([*common, "--dict", "arabic_dict.txt"]) == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "needs a shaping engine (Raqm), which Pillow does not find here" in told
    assert not (tmp_path / "set").exists()
    # Scripts that do not join are none of its business.
    assert run([*common, "--dict", "cyrillic_dict.txt"]) == 0


# --- the command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["rec", "-c", "rec/german_mobile_v2.0_rec", "--dict", "german_dict.txt"],
            "give the dictionary once",
        ),
        (["rec", "-c", "cls/cls_demo"], "describes a cls model, which has no dictionary"),
        (["det", "--dict", "german_dict.txt"], "pages are rendered in English only"),
        (["rec", "--dict", "germn_dict.txt"], "did you mean ppocr/utils/dict/german_dict.txt?"),
        (["rec", "--corpus", "nowhere.txt"], "nowhere.txt: corpus cannot be read"),
        (["rec", "--dict", "german_dict.txt", "--fonts", "nowhere"], "nowhere: is no folder"),
        (["rec", "-o", "Global.seed=1"], "-o changes a configuration, give one with -c"),
    ],
)
def test_a_request_that_cannot_be(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["synth", "--out", str(tmp_path / "set"), "--task", *arguments]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []

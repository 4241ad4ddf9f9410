"""Dictionaries: which file is meant, what it holds, which classes follow."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slim.config import load_config
from slim.dictionaries import (
    BUNDLED,
    PADDLEOCR_PATHS,
    bundled_names,
    ctc_labels,
    dictionaries_with,
    labels_for,
    read_dictionary,
    resolve_dictionary,
)
from slim.errors import InputError

SIZES = {
    "arabic_dict.txt": 161,
    "chinese_cht_dict.txt": 8421,
    "cyrillic_dict.txt": 163,
    "devanagari_dict.txt": 167,
    "en63_dict.txt": 63,
    "en_dict.txt": 95,
    "french_dict.txt": 136,
    "german_dict.txt": 143,
    "ic15_dict.txt": 36,
    "japan_dict.txt": 4399,
    "ka_dict.txt": 153,
    "korean_dict.txt": 3688,
    "latin_dict.txt": 185,
    "ppocr_keys_v1.txt": 6623,
    "ta_dict.txt": 128,
    "te_dict.txt": 151,
}


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "d.txt"
    path.write_bytes(data)
    return path


def test_the_bundled_files_hold_the_official_models_characters() -> None:
    assert {name: len(read_dictionary(BUNDLED / name)) for name in bundled_names()} == SIZES
    assert all(len(entry) == 1 for name in SIZES for entry in read_dictionary(BUNDLED / name))
    assert "Apache-2.0" in (BUNDLED / "README.md").read_text()


def test_the_two_english_dictionaries_are_told_apart() -> None:
    assert len(read_dictionary(resolve_dictionary("ppocr/utils/en_dict.txt"))) == 95
    assert len(read_dictionary(resolve_dictionary("ppocr/utils/dict/en_dict.txt"))) == 63
    assert read_dictionary(resolve_dictionary("ppocr/utils/en_dict.txt"))[-1] == " "


def test_german_p_with_a_tab_keeps_its_class() -> None:
    german = read_dictionary(BUNDLED / "german_dict.txt")
    raw = (BUNDLED / "german_dict.txt").read_bytes().split(b"\n")
    assert german[raw.index(b"p\t")] == "p"
    assert german.count("p") == 1


def test_a_tab_stays_where_the_plain_character_exists(tmp_path: Path) -> None:
    assert read_dictionary(_write(tmp_path, b"p\np\t\n")) == ("p", "p\t")


@pytest.mark.parametrize("path", sorted(PADDLEOCR_PATHS))
def test_paths_of_the_paddleocr_tree_resolve(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for form in (path, f"./{path}", f"/home/me/PaddleOCR/{path}", path.replace("/", "\\")):
        assert resolve_dictionary(form) == BUNDLED / PADDLEOCR_PATHS[path]


def test_a_users_file_wins_over_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "ppocr" / "utils" / "en_dict.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("a\nb\n")
    assert read_dictionary(resolve_dictionary("ppocr/utils/en_dict.txt")) == ("a", "b")
    assert resolve_dictionary("german_dict.txt") == BUNDLED / "german_dict.txt"
    assert resolve_dictionary(None) == BUNDLED / "ic15_dict.txt"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ppocr/utils/dict/frensh_dict.txt", "did you mean ppocr/utils/dict/french_dict.txt?"),
        ("korean_dcit.txt", "did you mean "),
        ("/nowhere/my_own_list", "give a file with one character per line"),
        ("a\0b", "not a usable path|no such dictionary"),
        (".", "is a folder"),
    ],
)
def test_a_missing_dictionary_names_the_nearest(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve_dictionary(name)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "dictionary is empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"a\nb\na\n", "'a' stands in line 1 and again in line 3"),
        (b"a\n\xff\n", r"not UTF-8 text \(byte 2\)"),
        (b"a\n\0\n", "is a binary file"),
        (b"x" * 1_000_001, "larger than 1000000 bytes"),
    ],
)
def test_a_wrong_dictionary_is_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        read_dictionary(_write(tmp_path, data))
    assert "\n" not in str(error.value)


def test_line_ends_byte_order_mark_and_missing_last_newline(tmp_path: Path) -> None:
    assert read_dictionary(_write(tmp_path, b"\xef\xbb\xbfa\r\nb\r\n \r\nc")) == ("a", "b", " ", "c")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_dictionary(tmp_path / "none.txt")


@given(
    st.lists(
        st.characters(exclude_characters="\n\r\0\ufeff", exclude_categories=["Cs"]), min_size=1, unique=True
    )
)
def test_any_characters_come_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, entries: list[str]
) -> None:
    path = tmp_path_factory.mktemp("d") / "d.txt"
    path.write_bytes("".join(entry + "\n" for entry in entries).encode())
    assert read_dictionary(path) == tuple(entries)


def test_classes_of_a_head() -> None:
    assert ctc_labels(("a", "b"), False) == ("", "a", "b")
    assert ctc_labels(("a", "b"), True) == ("", "a", "b", " ")


def _net(kind: str, **parts: str) -> str:
    named = "".join(f", {section}: {{name: {name}}}" for section, name in parts.items())
    return f"Architecture={{model_type: {kind}{named}}}"


def test_labels_of_a_config() -> None:
    rec = _net("rec", Backbone="MobileNetV3", Neck="SequenceEncoder", Head="CTCHead")
    dictionary = ["Global.character_dict_path=ppocr/utils/en_dict.txt", "Global.use_space_char=true"]
    notices: list[str] = []
    labels = labels_for(load_config(None, [rec, *dictionary]), notices.append)
    assert len(labels) == 97 and labels[0] == "" and labels[1] == "0" and labels[-2:] == (" ", " ")
    assert notices == [
        "Global.character_dict_path ppocr/utils/en_dict.txt: the bundled copy en_dict.txt is used"
    ]
    assert len(labels_for(load_config(None, [rec]))) == 37
    cls = _net("cls", Backbone="MobileNetV3", Head="ClsHead")
    assert labels_for(load_config(None, [cls])) == ("0", "180")
    det = _net("det", Backbone="ResNet_vd", Neck="DBFPN", Head="DBHead")
    assert labels_for(load_config(None, [det])) == ()


def test_a_head_width_tells_the_dictionary() -> None:
    assert dictionaries_with(97) == [("en_dict.txt", True)]
    assert dictionaries_with(6625) == [("ppocr_keys_v1.txt", True)]
    assert dictionaries_with(37) == [("ic15_dict.txt", False)]
    assert dictionaries_with(5) == []

"""Fonts: only characters that a font really draws count."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slim.errors import InputError
from slim.synth.fonts import BUNDLED, bundled_faces, faces_in, held_out_family
from slim.synth.texts import ASCII


@pytest.fixture(scope="module")
def ttf() -> Path:
    found = importlib.util.find_spec("matplotlib")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


def test_bundled_families_and_their_characters() -> None:
    faces = bundled_faces()
    assert {face.family for face in faces} == set(BUNDLED)
    assert held_out_family(faces) == "Computer Modern"
    by_name = {face.name: face for face in faces}
    assert by_name["DejaVuSans"].characters == frozenset(ASCII)
    assert by_name["STIXGeneral"].characters == frozenset(ASCII)
    # cmr10 maps these to other glyphs: "<" draws an inverted exclamation mark, "{" a dash.
    assert frozenset(ASCII) - by_name["cmr10"].characters == frozenset("\"'<>\\^_`{|}~")


def test_fonts_are_found_without_importing_matplotlib() -> None:
    # In a process of its own: another test may have imported it here.
    code = (
        "import sys; from slim.synth.fonts import bundled_faces; "
        "bundled_faces(); print('matplotlib' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_font_of_other_glyphs_is_refused(ttf: Path, tmp_path: Path) -> None:
    """cmsy10 maps letters and signs to symbols under the codes of ASCII."""
    shutil.copy(ttf / "cmsy10.ttf", tmp_path)
    with pytest.raises(InputError, match=r"cmsy10.ttf: font draws \d+ of 94 ASCII characters"):
        faces_in(tmp_path)


def test_own_fonts_need_two_families(ttf: Path, tmp_path: Path) -> None:
    shutil.copy(ttf / "DejaVuSans.ttf", tmp_path)
    shutil.copy(ttf / "DejaVuSans-Bold.ttf", tmp_path)
    with pytest.raises(InputError, match="2 font files of 1 families, at least two families needed"):
        faces_in(tmp_path)
    (tmp_path / "more").mkdir()
    shutil.copy(ttf / "STIXGeneral.ttf", tmp_path / "more")
    faces = faces_in(tmp_path)
    assert [face.family for face in faces] == ["DejaVu Sans", "DejaVu Sans", "STIXGeneral"]
    assert held_out_family(faces) == "STIXGeneral"


def test_what_is_no_font(tmp_path: Path) -> None:
    (tmp_path / "bad.ttf").write_bytes(b"not a font at all")
    with pytest.raises(InputError, match="bad.ttf: not a usable font"):
        faces_in(tmp_path)

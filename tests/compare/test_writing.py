"""Files written together: a failure between two renames gives back what was there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slim.compare.writing import write_together
from slim.errors import InputError


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_failed_rename_gives_all_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int
) -> None:
    places = [tmp_path / name for name in ("old", "new", "last")]
    places[0].write_bytes(b"0")
    places[2].write_bytes(b"2")
    before, real, calls = _contents(tmp_path), os.replace, []

    def replace(source: Path, dest: Path) -> None:
        calls.append(dest)
        if len(calls) == at + 1:
            raise error
        real(source, dest)

    monkeypatch.setattr(os, "replace", replace)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_together(dict.fromkeys(places, b"now"))
    assert _contents(tmp_path) == before


def test_bytes_and_copies_are_written_in_new_folders(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"copied")
    places = [tmp_path / "a" / "1", tmp_path / "b" / "2"]
    write_together({places[0]: source, places[1]: b"given"})
    assert [place.read_bytes() for place in places] == [b"copied", b"given"]
    assert [p.name for folder in ("a", "b") for p in (tmp_path / folder).iterdir()] == ["1", "2"]

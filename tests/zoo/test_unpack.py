"""Archives from outside: plain files below the folder, or nothing at all."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from slim.errors import InputError
from slim.zoo import unpack as unpacking
from slim.zoo.unpack import unpack

from .conftest import tar_of

GOOD = ("m/a.txt", b"a" * 700)


def _special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _sparse() -> bytes:
    info = tarfile.TarInfo("m/sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    return tar_of(GOOD, info)


HOSTILE = {
    "absolute": (tar_of(("/tmp/owned", b"x")), "leaves the folder"),
    "dot dot": (tar_of(GOOD, ("m/../../owned", b"x")), "leaves the folder"),
    "backslash": (tar_of(("m\\..\\owned", b"x")), "leaves the folder"),
    "symbolic link": (tar_of(GOOD, _special("m/l", tarfile.SYMTYPE, "/etc")), "is a symbolic link"),
    "hard link": (tar_of(GOOD, _special("m/l", tarfile.LNKTYPE, "m/a.txt")), "is a hard link"),
    "device": (tar_of(GOOD, _special("m/d", tarfile.CHRTYPE)), "is a device or pipe"),
    "pipe": (tar_of(GOOD, _special("m/p", tarfile.FIFOTYPE)), "is a device or pipe"),
    "unknown type": (tar_of(GOOD, _special("m/u", b"Z")), "unknown type"),
    "twice": (tar_of(GOOD, GOOD), "twice"),
    "file as folder": (tar_of(GOOD, ("m/a.txt/b", b"x")), "as file and as folder"),
    "control character": (tar_of(("m/a\nb", b"x")), "not a usable name"),
    "long name": (tar_of(("m/" + "x" * 300, b"x")), "not a usable name"),
    "deep": (tar_of(("/".join("abcdefghijkl"), b"x")), "not a usable name"),
    "empty": (tar_of(), "holds no files"),
    "not a tar": (b"<html>gone</html>" * 100, "not a whole, plain tar"),
    "zero bytes": (b"", "not a whole, plain tar"),
    "compressed": (gzip.compress(tar_of(GOOD)), "not a whole, plain tar"),
    "cut in a header": (tar_of(GOOD, ("m/b", b"x"))[:1700], "between two members"),
    "damaged header": (tar_of(GOOD, ("m/b", b"x")).replace(b"m/b", b"m/c"), "between two members"),
    "cut in a file": (tar_of(("m/a.txt", b"a" * 5000))[:2000], "not a whole, plain tar|cut off"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    data, said = HOSTILE[name]
    tar, target = tmp_path / "a.tar", tmp_path / "in" / "model"
    tar.write_bytes(data)
    with pytest.raises(InputError, match=said):
        unpack(tar, target)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["a.tar", "in"]
    assert not Path("/tmp/owned").exists()


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(_sparse())
    with pytest.raises(InputError, match="sparse file|not a whole"):
        unpack(tmp_path / "a.tar", tmp_path / "model")


def test_size_and_count_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(tar_of(*((f"m/{i}", b"12345") for i in range(4))))
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 3)
    with pytest.raises(InputError, match="holds over 3 members"):
        unpack(tar, tmp_path / "model")
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 4)
    monkeypatch.setattr(unpacking, "MAX_BYTES", 19)
    with pytest.raises(InputError, match="unpacks to over 19 bytes"):
        unpack(tar, tmp_path / "model")
    monkeypatch.setattr(unpacking, "MAX_BYTES", 20)
    unpack(tar, tmp_path / "model")
    assert len(list((tmp_path / "model").iterdir())) == 4


def test_a_header_that_claims_a_huge_file_writes_nothing(tmp_path: Path) -> None:
    info = tarfile.TarInfo("m/bomb")
    info.size = 1 << 40
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(InputError, match="unpacks to over"):
        unpack(tmp_path / "a.tar", tmp_path / "model")


def test_the_shared_top_folder_is_dropped_and_modes_are_plain(tmp_path: Path) -> None:
    info = tarfile.TarInfo("top/run.sh")
    info.size, info.mode = 1, 0o6777
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(_special("top", tarfile.DIRTYPE))
        archive.addfile(info, io.BytesIO(b"x"))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("replaced")
    unpack(tmp_path / "a.tar", tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["run.sh"]
    assert (tmp_path / "model" / "run.sh").stat().st_mode & 0o7111 == 0

"""LMDB sets as PaddleOCR writes them, and damaged ones that would kill the process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from slim.data.images import UnreadableImage
from slim.data.lmdb_data import LmdbData, open_lmdb
from slim.errors import InputError


def _write(folder: Path, texts: list[str], *, count: str | None = None, skip: str = "") -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    env = lmdb.open(str(folder), map_size=1 << 24)
    rng = np.random.default_rng(5)
    with env.begin(write=True) as txn:
        for number, text in enumerate(texts, 1):
            image = rng.integers(0, 256, (32, 200, 3), np.uint8)
            txn.put(b"image-%09d" % number, cv2.imencode(".png", image)[1].tobytes())
            txn.put(b"label-%09d" % number, text.encode())
        txn.put(b"num-samples", (count or str(len(texts))).encode())
        if skip:
            txn.delete(skip.encode())
    env.close()
    return folder


def test_read_by_number(tmp_path: Path) -> None:
    data = LmdbData(_write(tmp_path / "set", ["one", "zwei é"]), "rec")
    assert len(data) == 2
    assert [data[k].text for k in range(2)] == ["one", "zwei é"]
    assert data[1].ref.endswith("#image-000000002")
    assert data[1].image.shape == (32, 200, 3)
    assert data.size(0) == (32, 200)
    described = data.describe()
    assert (described["count"], described["path"]) == (2, str(tmp_path / "set"))
    with pytest.raises(IndexError):
        data.entry(2)


def test_hash_follows_the_labels(tmp_path: Path) -> None:
    hashes = [
        LmdbData(_write(tmp_path / name, texts), "rec").describe()["sha256"]
        for name, texts in [("1", ["a", "b"]), ("2", ["a", "b"]), ("3", ["a", "c"])]
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("count", ["0", "7", "-1", "many", "99999999999999999999"])
def test_wrong_num_samples(tmp_path: Path, count: str) -> None:
    with pytest.raises(InputError, match=f"num-samples is '{count}' but the LMDB holds 5 keys"):
        LmdbData(_write(tmp_path / "set", ["a", "b"], count=count), "rec")


def test_missing_keys(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data.mdb"):
        LmdbData(tmp_path, "rec")
    with pytest.raises(InputError, match="num-samples is None"):
        LmdbData(_write(tmp_path / "1", ["a", "b"], skip="num-samples"), "rec")
    # One of three images is gone: the count still fits, so the gap is met when it is read.
    folder = _write(tmp_path / "2", ["a", "b", "c"], skip="image-000000002")
    env = lmdb.open(str(folder), map_size=1 << 24)
    with env.begin(write=True) as txn:
        txn.put(b"extra", b"x")
    env.close()
    data = LmdbData(folder, "rec")
    assert data[0].text == "a"
    with pytest.raises(UnreadableImage, match="key image-000000002 is missing"):
        data[1]


def test_cut_off_file_is_refused(tmp_path: Path) -> None:
    """Reading past the end of the file would end this process with SIGBUS."""
    folder = _write(tmp_path / "set", [str(k) for k in range(50)])
    file = folder / "data.mdb"
    file.write_bytes(file.read_bytes()[: 4096 * 6])
    with pytest.raises(InputError, match="LMDB is damaged"):
        LmdbData(folder, "rec")


def test_damaged_pages_are_refused(tmp_path: Path) -> None:
    folder = _write(tmp_path / "set", [str(k) for k in range(50)])
    file = folder / "data.mdb"
    data = bytearray(file.read_bytes())
    data[2 * 4096 :] = b"\xff" * (len(data) - 2 * 4096)
    file.write_bytes(bytes(data))
    with pytest.raises(InputError, match="LMDB is damaged"):
        LmdbData(folder, "rec")
    file.write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="LMDB is damaged"):
        LmdbData(folder, "rec")


def test_folders_below_are_joined(tmp_path: Path) -> None:
    _write(tmp_path / "b" / "second", ["x"])
    _write(tmp_path / "a", ["one", "two"])
    data = open_lmdb(tmp_path, "rec")
    assert [data[k].text for k in range(len(data))] == ["one", "two", "x"]
    assert data.entry(2).ref == f"{tmp_path}/b/second#image-000000001"
    assert data.where(2) == f"{tmp_path}/b/second#label-000000001"
    assert data.size(2) == (32, 200)
    assert data.describe()["count"] == 3
    with pytest.raises(IndexError):
        data.entry(3)
    assert len(open_lmdb(tmp_path / "a", "rec")) == 2


def test_no_lmdb_below(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="no LMDB"):
            open_lmdb(folder, "rec")


def test_two_threads_read_while_the_file_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slim.data.lmdb_data.READS_MAPPED", 2)
    texts = [f"text {number}" for number in range(50)]
    data = LmdbData(_write(tmp_path / "set", texts), "rec")

    def read(_: int) -> list[str]:
        return [data.entry(number).text for _ in range(20) for number in range(50)]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(read, range(2))) == [texts * 20] * 2

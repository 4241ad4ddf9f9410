"""Data sets of label files: order, ratios, checks by kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from slim.data.dataset import open_dataset
from slim.data.images import UnreadableImage
from slim.errors import InputError

Writer = Callable[..., Path]


def test_lines_come_in_order_with_their_images(write_set: Writer) -> None:
    path = write_set(["one", "two"], [40, 90])
    data = open_dataset([path], path.parent, "rec")
    lines = [data[k] for k in range(len(data))]
    assert [(line.ref, line.text, line.image.shape) for line in lines] == [
        ("0.png", "one", (32, 40, 3)),
        ("1.png", "two", (32, 90, 3)),
    ]
    assert data.size(1) == (32, 90)
    assert data.describe() == {
        "path": str(path),
        "count": 2,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "kind": "rec",
    }


def test_several_files_follow_each_other(write_set: Writer) -> None:
    first, second = write_set(["a", "b"], name="1.txt"), write_set(["c", "d", "e"], name="2.txt")
    data = open_dataset([first, second], first.parent, "rec")
    assert [data.entry(k).text for k in range(5)] == ["a", "b", "c", "d", "e"]
    assert data.where(4) == f"{second}:3"
    described = data.describe()
    assert described["count"] == 5
    assert [part["count"] for part in described["files"]] == [2, 3]
    with pytest.raises(IndexError):
        data.entry(5)


def test_ratio_takes_a_seeded_share_in_order(write_set: Writer) -> None:
    path = write_set([str(k) for k in range(20)])

    def texts(seed: int) -> list[str]:
        data = open_dataset([path], path.parent, "rec", ratio_list=[0.25], seed=seed)
        return [data.entry(k).text for k in range(len(data))]

    assert len(texts(1)) == 5
    assert texts(1) == texts(1) == sorted(texts(1), key=int)
    assert texts(1) != texts(2)


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.5, float("nan")])
def test_ratio_out_of_range(write_set: Writer, ratio: float) -> None:
    path = write_set(["a"])
    with pytest.raises(InputError, match="must be above 0 and at most 1"):
        open_dataset([path], path.parent, "rec", ratio_list=[ratio])


def test_cls_labels_are_checked_with_their_place(write_set: Writer) -> None:
    path = write_set(["0", "180", "90"])
    data = open_dataset([path], path.parent, "cls")
    assert [data[k].text for k in range(2)] == ["0", "180"]
    with pytest.raises(InputError, match=r"labels.txt:3: cls label is '90'; labels are 0 and 180"):
        data.entry(2)


def test_det_labels_are_checked(write_set: Writer) -> None:
    path = write_set(["not json"])
    with pytest.raises(InputError, match="labels.txt:1: det label is malformed"):
        open_dataset([path], path.parent, "det").entry(0)


def test_bad_requests(write_set: Writer, tmp_path: Path) -> None:
    path = write_set(["a"])
    with pytest.raises(InputError, match="no label file given"):
        open_dataset([], tmp_path, "rec")
    with pytest.raises(InputError, match="data folder does not exist"):
        open_dataset([path], tmp_path / "none", "rec")
    with pytest.raises(InputError, match="kind is 'ocr', must be one of cls, rec, det"):
        open_dataset([path], tmp_path, "ocr")
    with pytest.raises(InputError, match="2 ratios for 3 label files"):
        open_dataset([path] * 3, tmp_path, "rec", ratio_list=[1.0, 0.5])


def test_missing_image_names_its_path(write_set: Writer) -> None:
    path = write_set(["a"])
    (path.parent / "0.png").unlink()
    with pytest.raises(UnreadableImage, match=r"^0.png: cannot read image .*No such file"):
        open_dataset([path], path.parent, "rec")[0]

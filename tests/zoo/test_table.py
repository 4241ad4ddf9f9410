"""The table of published models: whole, consistent, and answering by name."""

from __future__ import annotations

import pytest

from slim.dictionaries import BUNDLED, PADDLEOCR_PATHS
from slim.errors import InputError
from slim.zoo import MODELS, find
from slim.zoo.table import BASE, KINDS, PUBLISHED, archive, row

# The publisher's list: name, size, paths of inference and trained archive.
LIST = """
ch_ppocr_server_v2.0_det 47M ch/ch_ppocr_server_v2.0_det_infer.tar ch/ch_ppocr_server_v2.0_det_train.tar
ch_ppocr_mobile_v2.0_rec 5.2M ch/ch_ppocr_mobile_v2.0_rec_infer.tar ch/ch_ppocr_mobile_v2.0_rec_train.tar
ch_ppocr_mobile_slim_v2.0_rec 6M ch/ch_ppocr_mobile_v2.0_rec_slim_infer.tar \
ch/ch_ppocr_mobile_v2.0_rec_slim_train.tar
en_number_mobile_v2.0_rec 2.6M multilingual/en_number_mobile_v2.0_rec_infer.tar \
multilingual/en_number_mobile_v2.0_rec_train.tar
en_number_mobile_slim_v2.0_rec 2.7M en/en_number_mobile_v2.0_rec_slim_infer.tar \
en/en_number_mobile_v2.0_rec_slim_train.tar
french_mobile_v2.0_rec 2.65M multilingual/french_mobile_v2.0_rec_infer.tar \
multilingual/french_mobile_v2.0_rec_train.tar
german_mobile_v2.0_rec 2.65M multilingual/german_mobile_v2.0_rec_infer.tar \
multilingual/german_mobile_v2.0_rec_train.tar
korean_mobile_v2.0_rec 3.9M multilingual/korean_mobile_v2.0_rec_infer.tar \
multilingual/korean_mobile_v2.0_rec_train.tar
japan_mobile_v2.0_rec 4.23M multilingual/japan_mobile_v2.0_rec_infer.tar \
multilingual/japan_mobile_v2.0_rec_train.tar
te_mobile_v2.0_rec 2.63M multilingual/te_mobile_v2.0_rec_infer.tar multilingual/te_mobile_v2.0_rec_train.tar
ka_mobile_v2.0_rec 2.63M multilingual/ka_mobile_v2.0_rec_infer.tar multilingual/ka_mobile_v2.0_rec_train.tar
ta_mobile_v2.0_rec 2.63M multilingual/ta_mobile_v2.0_rec_infer.tar multilingual/ta_mobile_v2.0_rec_train.tar
ch_ppocr_mobile_v2.0_cls 1.38M ch/ch_ppocr_mobile_v2.0_cls_infer.tar ch/ch_ppocr_mobile_v2.0_cls_train.tar
ch_ppocr_mobile_slim_v2.0_cls 2.1M ch/ch_ppocr_mobile_v2.0_cls_slim_infer.tar \
ch/ch_ppocr_mobile_v2.0_cls_slim_train.tar
"""


def test_every_row_is_there_with_size_and_addresses() -> None:
    rows = [line.split() for line in LIST.strip().splitlines()]
    assert [cells[0] for cells in rows] == list(PUBLISHED)
    for name, size, infer, train in rows:
        prefix = "slim-" if PUBLISHED[name].original else ""
        assert PUBLISHED[name].size == size
        assert archive(name, f"{prefix}infer").path == infer
        assert archive(name, f"{prefix}train").path == train
    assert archive("ch_ppocr_mobile_v2.0_rec", "pre").path == "ch/ch_ppocr_mobile_v2.0_rec_pre.tar"
    assert BASE == "https://paddleocr.bj.bcebos.com/dygraph_v2.0/"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_names_what_the_package_has(name: str) -> None:
    found = row(name)
    assert set(found.files) <= set(KINDS)
    assert (found.dictionary is not None) == (found.kind == "rec")
    if found.dictionary:
        assert (BUNDLED / found.dictionary).is_file() and found.dictionary in PADDLEOCR_PATHS.values()
    assert "1.1" in found.relation and "v2.1" in found.relation
    assert found.original is None or PUBLISHED[found.original].config == found.config


def test_defaults_and_siblings() -> None:
    assert archive("korean_mobile_v2.0_rec").kind == "train"
    assert archive("ch_ppocr_mobile_slim_v2.0_cls").kind == "slim-infer"
    sibling = archive("ch_ppocr_mobile_v2.0_cls", "slim-train")
    assert sibling.row.name == "ch_ppocr_mobile_slim_v2.0_cls"
    assert len({archive(r.name, kind).stem for r in PUBLISHED.values() for kind in r.files}) == 29


def test_wrong_names_and_kinds() -> None:
    with pytest.raises(InputError, match=r"did you mean korean_mobile_v2\.0_rec"):
        row("korean_mobile_v2.0")
    with pytest.raises(InputError, match="was not published as pre; use --kind infer or train"):
        archive("korean_mobile_v2.0_rec", "pre")
    with pytest.raises(InputError, match=r"no model 'korean' in the zoo"):
        find("zoo:korean")


def test_what_is_published_but_not_pulled_says_how() -> None:
    with pytest.raises(InputError, match="run: slim models pull korean_mobile_v2.0_rec --kind train"):
        find("zoo:korean_mobile_v2.0_rec")
    with pytest.raises(InputError, match="'infer' holds no checkpoint; use train or pre"):
        find("zoo:korean_mobile_v2.0_rec/infer")
    for name in MODELS:  # the copy in the package, whatever is in the cache
        assert find(name).path.is_file()


@pytest.mark.parametrize("name", ["ch_ppocr_mobile_slim_v2.0_rec", "ch_ppocr_mobile_v2.0_rec/slim-train"])
def test_the_publishers_slim_checkpoints_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=r"quantization wrappers.*start from zoo:ch_ppocr_mobile_v2\.0_rec"):
        find(f"zoo:{name}")

"""The models PP-OCR v2.0 published: what each is, which recipe describes it, where its files are.

Names, sizes and addresses are those of PaddleOCR's model list (release 2.x). A size is the publisher's own
figure for the inference model, program file included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slim.errors import InputError

BASE = "https://paddleocr.bj.bcebos.com/dygraph_v2.0/"
KINDS = ("infer", "train", "pre", "slim-infer", "slim-train")
WEIGHTS = ("train", "pre")
"""Kinds of archives that hold a float checkpoint."""

_STATIC = "1.1 weights are of Paddle's static graph and do not load"
_DET = f"v2.1 has a mobile detector by distillation, on another net, refused by name here; {_STATIC}"
_REC = (
    "v2.1 has a recognizer by distillation, on another net: more accurate, faster on CPUs, refused by name "
    f"here; {_STATIC}"
)
_CLS = f"v2.1 uses this same classifier; {_STATIC}"
_LANGUAGE = f"not published as v2.1; v3 and later have other nets, refused by name here; {_STATIC}"


@dataclass(frozen=True)
class Published:
    """One row of the publisher's table.

    Attributes:
        name: of the model, also its name behind ``zoo:``.
        kind: cls, rec or det.
        official_config: file name of its configuration in PaddleOCR.
        config: our recipe for it.
        dictionary: file in ``slim/dicts``, None for cls and det.
        size: the publisher's figure for the inference model, such as "2.65M".
        files: kind of archive -> path below the publisher's base address.
        relation: how it stands to the v2.1 and 1.1 models.
        original: for a slim row, the float row it was made from.
    """

    name: str
    kind: str
    official_config: str
    config: str
    dictionary: str | None
    size: str
    files: Mapping[str, str]
    relation: str
    original: str | None = None

    @property
    def megabytes(self) -> float:
        """The published size as a number.

        >>> row("german_mobile_v2.0_rec").megabytes
        2.65
        """
        return float(self.size.removesuffix("M"))


@dataclass(frozen=True)
class Archive:
    """One downloadable file: its row, its kind, its path below the base address."""

    row: Published
    kind: str
    path: str

    @property
    def file(self) -> str:
        """The file's own name: ``korean_mobile_v2.0_rec_train.tar``."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """The folder it is unpacked to."""
        return self.file.removesuffix(".tar")


def _tars(folder: str, name: str, *kinds: str) -> dict[str, str]:
    return {kind: f"{folder}/{name}_{kind.replace('-', '_')}.tar" for kind in kinds}


def _language(lang: str, size: str) -> Published:
    name = f"{lang}_mobile_v2.0_rec"
    return Published(
        name, "rec", f"rec_{lang}_lite_train.yml", f"rec/{name}", f"{lang}_dict.txt", size,
        _tars("multilingual", name, "infer", "train"), _LANGUAGE,
    )  # fmt: skip


def _slim(name: str, of: Published, size: str, folder: str) -> Published:
    return Published(
        name, of.kind, of.official_config, of.config, of.dictionary, size,
        _tars(folder, of.name, "slim-infer", "slim-train"), of.relation, of.name,
    )  # fmt: skip


_SERVER_DET = Published(
    "ch_ppocr_server_v2.0_det", "det", "ch_det_res18_db_v2.0.yml", "det/ch_ppocr_server_v2.0_det", None,
    "47M", _tars("ch", "ch_ppocr_server_v2.0_det", "infer", "train"), _DET,
)  # fmt: skip
_CHINESE = Published(
    "ch_ppocr_mobile_v2.0_rec", "rec", "rec_chinese_lite_train_v2.0.yml", "rec/ch_ppocr_mobile_v2.0_rec",
    "ppocr_keys_v1.txt", "5.2M", _tars("ch", "ch_ppocr_mobile_v2.0_rec", "infer", "train", "pre"), _REC,
)  # fmt: skip
_ENGLISH = Published(
    "en_number_mobile_v2.0_rec", "rec", "rec_en_number_lite_train.yml", "rec/en_number_mobile_v2.0_rec",
    "en_dict.txt", "2.6M", _tars("multilingual", "en_number_mobile_v2.0_rec", "infer", "train"), _LANGUAGE,
)  # fmt: skip
_ANGLE = Published(
    "ch_ppocr_mobile_v2.0_cls", "cls", "cls_mv3.yml", "cls/ch_ppocr_mobile_v2.0_cls", None, "1.38M",
    _tars("ch", "ch_ppocr_mobile_v2.0_cls", "infer", "train"), _CLS,
)  # fmt: skip

PUBLISHED: dict[str, Published] = {
    row.name: row
    for row in (
        _SERVER_DET,
        _CHINESE,
        _slim("ch_ppocr_mobile_slim_v2.0_rec", _CHINESE, "6M", "ch"),
        _ENGLISH,
        _slim("en_number_mobile_slim_v2.0_rec", _ENGLISH, "2.7M", "en"),
        _language("french", "2.65M"),
        _language("german", "2.65M"),
        _language("korean", "3.9M"),
        _language("japan", "4.23M"),
        _language("te", "2.63M"),
        _language("ka", "2.63M"),
        _language("ta", "2.63M"),
        _ANGLE,
        _slim("ch_ppocr_mobile_slim_v2.0_cls", _ANGLE, "2.1M", "ch"),
    )
}


def row(name: str) -> Published:
    """A row by its name; raises InputError with the nearest name."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    from slim.config.suggest import nearest

    guess = nearest(name, PUBLISHED)
    raise InputError(
        f"no published model {name!r}",
        remedy=f"did you mean {guess}?" if guess else "slim models lists the names",
    )


def archive(name: str, kind: str | None = None) -> Archive:
    """The archive of a model; without a kind the checkpoint, for a slim row its inference model.

    A float row also knows the archives of the slim row made from it.

    Raises:
        InputError: no such model, or it was not published in that kind.

    >>> archive("ch_ppocr_mobile_v2.0_cls", "slim-infer").file
    'ch_ppocr_mobile_v2.0_cls_slim_infer.tar'
    """
    found = row(name)
    holders = [found, *(slim for slim in PUBLISHED.values() if slim.original == name)]
    files = {key: (holder, path) for holder in holders for key, path in holder.files.items()}
    wanted = kind or ("slim-infer" if found.original else "train")
    if wanted not in files:
        raise InputError(
            f"was not published as {wanted}", where=name, remedy=f"use --kind {' or '.join(files)}"
        )
    return Archive(files[wanted][0], wanted, files[wanted][1])

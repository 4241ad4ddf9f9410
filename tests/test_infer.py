"""Kind, width and dictionary from the tensors of a checkpoint alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slim import zoo
from slim.checkpoint import read_pdparams, write_pdparams
from slim.errors import CheckpointError
from slim.infer import infer_spec


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    warn = info

    def task(self, label: str, total: int | None = None):  # type: ignore[no-untyped-def]
        raise AssertionError("nothing long happens here")


def test_the_recognizer_is_recognised_and_said() -> None:
    heard = Heard()
    spec = infer_spec(zoo.find("en_number_synthetic_crnn").path, heard)
    assert (spec.kind, spec.classes, spec.arch["Backbone"]["scale"]) == ("rec", 97, 0.5)
    assert spec.labels[0] == "" and spec.labels[-2:] == (" ", " ")
    assert "en_dict.txt and space" in heard.lines[0]


def test_the_classifier_is_recognised() -> None:
    spec = infer_spec(zoo.find("ch_ppocr_mobile_v2.0_cls").path, Heard())
    assert (spec.kind, spec.labels, spec.input.shape) == ("cls", ("0", "180"), (3, 48, 192))
    assert spec.arch["Backbone"]["scale"] == 0.35


def test_an_unknown_number_of_classes_asks_for_a_config(tmp_path: Path) -> None:
    state = read_pdparams(zoo.find("en_number_synthetic_crnn").path)
    state["head.fc.weight"] = np.zeros((96, 55), np.float32)
    state["head.fc.bias"] = np.zeros(55, np.float32)
    write_pdparams(state, tmp_path / "m.pdparams")
    with pytest.raises(CheckpointError, match="55 classes"):
        infer_spec(tmp_path / "m.pdparams", Heard())


def test_another_generation_is_named(tmp_path: Path) -> None:
    write_pdparams({"Student.backbone.conv.weight": np.zeros(3, np.float32)}, tmp_path / "m.pdparams")
    with pytest.raises(CheckpointError, match="distillation"):
        infer_spec(tmp_path / "m.pdparams", Heard())


def test_a_net_of_no_known_shape_is_refused(tmp_path: Path) -> None:
    state = read_pdparams(zoo.find("ch_ppocr_mobile_v2.0_cls").path)
    del state["backbone.conv2.bn.bias"]
    write_pdparams(state, tmp_path / "m.pdparams")
    with pytest.raises(CheckpointError, match="no PP-OCR v2.0 net"):
        infer_spec(tmp_path / "m.pdparams", Heard())

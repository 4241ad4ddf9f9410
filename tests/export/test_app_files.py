"""labels.txt and preprocess.json: enough for an app that has none of our code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from export import app_files
from slim.errors import InputError
from slim.spec import InputSpec, ModelSpec

REC = ModelSpec("r", "rec", {}, ("", "a", "b", " ", " "), InputSpec(32, 320, dynamic_width=True))


def facts(spec: ModelSpec, folder: Path) -> dict:  # type: ignore[type-arg]
    app_files.write_app_files(spec, folder)
    return json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_line_i_is_class_i(tmp_path: Path) -> None:
    found = facts(REC, tmp_path)
    assert (tmp_path / "labels.txt").read_bytes() == b"<blank>\na\nb\n \n \n"
    assert found["labels"]["blank_index"] == 0
    assert found["labels"]["space_indices"] == [3, 4]
    assert found["labels"]["count"] == 5
    assert app_files.read_labels(tmp_path / "labels.txt") == REC.labels


def test_cls_and_det(tmp_path: Path) -> None:
    cls = facts(ModelSpec("c", "cls", {}, ("0", "180"), InputSpec(48, 192)), tmp_path)
    assert (tmp_path / "labels.txt").read_text() == "0\n180\n"
    assert (
        cls["input"]["height"] == 48 and cls["input"]["width"] == 192 and "blank_index" not in cls["labels"]
    )
    inp = InputSpec(640, 640, dynamic_width=True, dynamic_height=True)
    det = facts(ModelSpec("d", "det", {}, (), inp, {"thresh": 0.3}), tmp_path)
    assert det["resize"]["multiple_of"] == 32 and det["input"]["height"] is None
    assert det["resize"]["longest_side"] == 960
    least = facts(ModelSpec("d", "det", {}, (), replace(inp, limit_side=736, limit_type="min")), tmp_path)
    assert least["resize"]["shortest_side"] == 736 and "longest_side" not in least["resize"]
    assert least["resize"]["rule"].startswith("enlarge so that the shortest side is at least shortest_side")
    assert det["postprocess"] == {"thresh": 0.3} and (tmp_path / "labels.txt").read_bytes() == b""


def test_the_formula_gives_our_tensor(tmp_path: Path) -> None:
    """An app that follows the file computes what the toolkit computed."""
    import numpy as np

    from slim.ocr.preprocess import to_tensor

    found = facts(REC, tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    tensor = to_tensor(image, REC.input)
    n = found["normalise"]
    mine = (image.astype(np.float32) * np.float32(n["scale"]) - n["mean"]) / n["std"]
    # float32 against float64 arithmetic of the same formula.
    assert np.abs(tensor[:, :, :64] - mine.transpose(2, 0, 1)).max() <= 1e-6
    assert (tensor[:, :, 64:] == found["resize"]["padding_value_after_normalisation"]).all()


@pytest.mark.parametrize("label", ["a\nb", "<blank>", "\r"])
def test_labels_that_cannot_stand_on_a_line(tmp_path: Path, label: str) -> None:
    with pytest.raises(InputError, match="cannot stand on a line"):
        app_files.write_app_files(replace(REC, labels=("", label)), tmp_path)

"""slim ocr with exported files: what each says, a picture with boxes, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from export.stage import export_nb
from slim.arch import build_net
from slim.bundle import Bundle
from slim.cli.main import run
from slim.config import ExportSection
from slim.spec import InputSpec, ModelSpec

Capture = pytest.CaptureFixture[str]
KINDS = ("det", "cls", "rec")
ARCH = {
    "model_type": "det",
    "algorithm": "DB",
    "Backbone": {"name": "MobileNetV3", "model_name": "small", "scale": 0.35, "disable_se": True},
    "Neck": {"name": "DBFPN", "out_channels": 16},
    "Head": {"name": "DBHead", "k": 50},
}


def _detector() -> Bundle:
    """Random weights, but a last layer that says 0.88 everywhere, so that the whole page is one region."""
    paddle.seed(3)
    net = build_net(ARCH, 0)
    last = net.head.binarize.conv3
    last.weight.set_value(paddle.zeros_like(last.weight))
    last.bias.set_value(paddle.full_like(last.bias, 2.0))  # sigmoid(2) = 0.88
    net.eval()
    page = InputSpec(64, 320, dynamic_width=True, dynamic_height=True)
    post = {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}
    return Bundle(ModelSpec("whole page", "det", ARCH, (), page, post), net)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder per kind with model.arm.nb and model.x86.nb."""
    folder = tmp_path_factory.mktemp("three files")
    for kind, name in (("cls", "ch_ppocr_mobile_v2.0_cls"), ("rec", "en_number_synthetic_crnn")):
        assert run(["export-nb", f"zoo:{name}", "--target", "arm,x86", "--out", str(folder / kind)]) == 0
    export_nb(_detector(), ExportSection(targets=("arm", "x86")), folder / "det")
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One line that fills its page, upside down."""
    image = np.full((40, 200, 3), 230, np.uint8)
    cv2.putText(image, "HELLO 42", (14, 31), cv2.FONT_HERSHEY_DUPLEX, 1.1, (20, 20, 20), 2, cv2.LINE_AA)
    path = tmp_path_factory.mktemp("picture") / "line.png"
    cv2.imwrite(str(path), image[::-1, ::-1])
    return path


def _args(picture: Path, files: dict[str, Path], target: str = "arm") -> list[str]:
    given = [str(picture)]
    for kind in KINDS:
        given += [f"--{kind}", str(files[kind] / f"model.{target}.nb")]
    return given


@pytest.mark.parametrize(("target", "runtime"), [("arm", "nb"), ("x86", "lite-x86")])
def test_a_line_is_found_turned_and_read(
    target: str, runtime: str, files: dict[str, Path], picture: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "boxes.png"
    assert run(["ocr", *_args(picture, files, target), "--out", str(out), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {kind: model["runtime"] for kind, model in data["models"].items()} == dict.fromkeys(KINDS, runtime)
    assert (data["height"], data["width"]) == (40, 200)
    (line,) = data["lines"]
    assert line["points"] == [[0, 0], [200, 0], [200, 40], [0, 40]]
    assert line["score"] == pytest.approx(0.8808, abs=1e-3)  # sigmoid(2)
    assert line["angle"] == "180" and line["angle_score"] > 0.9
    assert line["text"].replace(" ", "") == "HELLO42" and line["text_score"] > 0.5
    drawn, before = cv2.imread(str(out)), cv2.imread(str(picture))
    assert drawn.shape == before.shape and (drawn != before).any()
    assert [path.name for path in tmp_path.iterdir()] == ["boxes.png"]


def test_for_people_and_without_a_classifier(files: dict[str, Path], picture: Path, capsys: Capture) -> None:
    args = [arg for arg in _args(picture, files) if arg != "--cls" and "/cls/" not in arg]
    assert run(["ocr", *args]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and said[0].startswith("  1  at 0,0  box 0.88  ") and "180" not in said[0]
    assert f"{picture}: 1 lines in " in said[1]


def _refused(args: list[str], said: str, capsys: Capture) -> None:
    assert run(["ocr", *args, "--json"]) == 2
    out = capsys.readouterr()
    assert said in json.loads(out.out)["error"]


@pytest.mark.parametrize(("option", "given"), [("--rec", "cls"), ("--cls", "det"), ("--det", "rec")])
def test_a_file_of_another_kind_is_named(
    option: str, given: str, files: dict[str, Path], picture: Path, capsys: Capture
) -> None:
    args = _args(picture, files)
    path = files[given] / "model.arm.nb"
    args[args.index(option) + 1] = str(path)
    _refused(args, f"{path}: is a {given} model", capsys)


def test_what_cannot_be_used_is_named(
    files: dict[str, Path], picture: Path, tmp_path: Path, capsys: Capture
) -> None:
    args = _args(picture, files)
    _refused([*args, "--out", str(tmp_path / "boxes.txt")], "--out boxes.txt is no picture", capsys)
    _refused([str(tmp_path / "none.png"), *args[1:]], "none.png: cannot read image", capsys)
    bare = tmp_path / "bare.nb"
    shutil.copy(files["rec"] / "model.arm.nb", bare)
    where = args.index("--rec") + 1
    _refused([*args[:where], str(bare), *args[where + 1 :]], "bare.nb: has no spec.json beside it", capsys)
    _refused([*args[:where], str(tmp_path), *args[where + 1 :]], "is a folder; give --rec a .nb file", capsys)
    changed = tmp_path / "changed"
    shutil.copytree(files["rec"], changed)
    data = bytearray((changed / "model.arm.nb").read_bytes())
    data[len(data) // 2] ^= 1
    (changed / "model.arm.nb").write_bytes(bytes(data))
    _refused([*args[:where], str(changed / "model.arm.nb"), *args[where + 1 :]], "model.arm.nb", capsys)

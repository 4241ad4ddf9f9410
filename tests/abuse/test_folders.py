"""Two runs into one folder, and symlinks where files and folders are meant."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slim.artifact import seal, verify, writing
from slim.cli.main import run
from slim.errors import InputError

Capture = pytest.CaptureFixture[str]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "prune", "quant", "export-nb"])
def test_two_runs_into_one_folder(
    stage: str,
    slim: Any,
    tmp_path: Path,
    hashes: Callable[[Path], dict[str, str]],
    one_line: Callable[[str], str],
) -> None:
    """Each ends well or is refused in one line; what is there is what one run alone gives."""
    out = tmp_path / "runs" / "one"
    args = slim.stage(stage, out)
    assert slim.run(args)[0] == 0
    wanted = hashes(out)
    for _ in range(3):
        shutil.rmtree(out.parent)
        both = [slim.start(args), slim.start(args)]
        ends = [(child.communicate(timeout=600)[1], child.returncode) for child in both]
        assert 0 in [code for _, code in ends], ends
        for said, code in ends:
            assert code == 0 or "in use" in one_line(said), said[-2000:]
        assert hashes(out) == wanted
        if stage != "train":
            verify(out)
        assert [path.name for path in out.parent.iterdir() if ".tmp-" in path.name] == []


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    """A link that leads to itself."""
    (tmp_path / "a.yml").symlink_to(tmp_path / "b.yml")
    (tmp_path / "b.yml").symlink_to(tmp_path / "a.yml")
    return tmp_path / "a.yml"


@pytest.mark.parametrize(
    "args",
    [
        ["config", "check", "LOOP"],
        ["inspect", "LOOP"],
        ["compact", "LOOP", "b.nb"],
        ["bench", "LOOP"],
        ["check", "LOOP"],
        ["compare", "--baseline", "LOOP", "r.json"],
        ["eval", "--model", "LOOP", "--data", "x"],
        ["eval", "--model", "zoo:ch_ppocr_mobile_v2.0_cls", "--data", "LOOP"],
        ["synth", "--task", "cls", "--out", "LOOP", "--train", "1", "--eval", "1", "--calib", "1"],
        ["export", "zoo:ch_ppocr_mobile_v2.0_cls", "--out", "LOOP"],
        ["export-nb", "LOOP", "--out", "e"],
        ["prune", "-c", "cls/cls_demo", "--out", "LOOP"],
        ["import", "LOOP", "-c", "cls/cls_demo", "--out", "x.pdparams"],
        ["run-nb", "LOOP", "x.npy", "y.npy"],
        ["models", "pull", "ka_mobile_v2.0_rec", "--cache", "LOOP", "--base-url", "http://127.0.0.1:1/"],
        ["run", "-c", "cls/cls_demo", "--out", "LOOP"],
    ],
)
def test_a_link_that_leads_to_itself_is_one_line(
    args: list[str], loop: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(loop.parent)
    assert run([str(loop) if arg == "LOOP" else arg for arg in args]) == 2
    said = capsys.readouterr().err
    assert "unexpected" not in said and "Traceback" not in said
    assert {path.name for path in loop.parent.iterdir()} == {"a.yml", "b.yml"}


def test_links_are_followed_and_stay(slim: Any, tmp_path: Path, capsys: Capture) -> None:
    """--out, --model, the label file and each image may be links; what they lead to is read and written."""
    labels = Path(str(slim.data[3]).split("'")[1])
    linked = tmp_path / "labels"
    linked.mkdir()
    (linked / "eval.txt").symlink_to(labels)
    for line in labels.read_text(encoding="utf-8").splitlines():
        ref = line.partition("\t")[0]
        (linked / ref).parent.mkdir(parents=True, exist_ok=True)
        (linked / ref).symlink_to(labels.parent / ref)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    assert run(["export", "zoo:ch_ppocr_mobile_v2.0_cls", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real" / "inference.pdmodel").is_file()
    (tmp_path / "m.pdparams").symlink_to(_bundled())
    args = ["eval", "--model", str(tmp_path / "m.pdparams"), "--data", str(linked / "eval.txt"), "--json"]
    capsys.readouterr()
    assert run(args) == 0
    assert '"images": 16' in capsys.readouterr().out


def _bundled() -> Path:
    from slim import zoo

    return zoo.find("ch_ppocr_mobile_v2.0_cls").path


def test_a_manifest_that_names_a_circle_of_links(loop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    with writing(folder) as tmp:
        (tmp / "a").write_text("a", encoding="utf-8")
        seal(tmp, "train", recipe={}, parent="", seed=0)
    (folder / "a").unlink()
    (folder / "a").symlink_to(loop)
    with pytest.raises(InputError, match="is a link that leads to itself"):
        verify(folder)

"""Wherever a file of a stranger may be a pickle, it is refused and nothing of it is run."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim import artifact, zoo
from slim.bundle import from_checkpoint, save
from slim.checkpoint import read_pickle, write_pickle
from slim.cli.main import run
from slim.config import list_configs, load_config
from slim.config.spec import model_spec
from slim.numerics import file_sha256

MARK = "owned"
LABELS = ["--data", "labels.txt"]


class Hostile:
    """Makes a folder when it is unpickled by an ordinary reader."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARK,)


def _write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"a": Hostile()}, protocol=2))
    return path


def _checkpoint(folder: Path, slim: Any) -> list[str]:
    return ["eval", "--model", str(_write(folder / "m.pdparams")), *LABELS]


def _prefix(folder: Path, slim: Any) -> list[str]:
    _write(folder / "m.pdparams")
    return ["prune", "-c", "cls/cls_demo", "-o", f"Global.pretrained_model={folder / 'm'}", *slim.data]


def _curves(folder: Path, slim: Any) -> list[str]:
    _write(folder / "sen.pickle")
    return ["prune", "-c", "cls/cls_demo", "--sensitivities", "sen.pickle", "--out", "p", "-o", *slim.data]


def _array(folder: Path, slim: Any) -> list[str]:
    np.save(folder / "x.npy", np.array([Hostile()], dtype=object), allow_pickle=True)
    return ["run-nb", "m.nb", "x.npy", "y.npy"]


def _nb(folder: Path, slim: Any) -> list[str]:
    return ["inspect", str(_write(folder / "m.nb"))]


def _program(folder: Path, slim: Any) -> list[str]:
    _write(folder / "i" / "inference.pdmodel")
    _write(folder / "i" / "inference.pdiparams")
    return ["import", "i", "-c", "cls/ch_ppocr_mobile_v2.0_cls", "--out", "c.pdparams"]


def _folder(folder: Path, slim: Any) -> list[str]:
    """A sealed folder whose manifest vouches for the pickle."""
    found = zoo.find("ch_ppocr_mobile_v2.0_cls")
    bundle = from_checkpoint(model_spec(load_config(list_configs()[found.config])), found.path)
    with artifact.writing(folder / "p") as tmp:
        save(bundle, tmp)
        _write(tmp / "model.pdparams")
        artifact.seal(tmp, "train", recipe={}, parent="", seed=1)
    return ["eval", "--model", "p", *LABELS]


def _trained(folder: Path, slim: Any) -> list[str]:
    args: list[str] = slim.stage("train", folder / "t", "Global.epoch_num=1")
    assert run(args) == 0
    return args


def _states(folder: Path, slim: Any) -> list[str]:
    args = _trained(folder, slim)
    _write(folder / "t" / "latest.states")
    return args


def _optimizer(folder: Path, slim: Any) -> list[str]:
    """The hash in .states fits the pickle: whoever made the folder made both."""
    args = _trained(folder, slim)
    states = read_pickle(folder / "t" / "latest.states")
    states["files"]["pdopt"] = file_sha256(_write(folder / "t" / "latest.pdopt"))
    write_pickle(states, folder / "t" / "latest.states")
    return args


# Where the pickle is put -> the file that the error has to name.
PLACES: dict[Callable[[Path, Any], list[str]], str] = {
    _checkpoint: "m.pdparams",
    _prefix: "m.pdparams",
    _curves: "sen.pickle",
    _array: "x.npy",
    _nb: "m.nb",
    _program: "inference.pdmodel",
    _folder: "model.pdparams",
    _states: "latest.states",
    _optimizer: "latest.pdopt",
}


@pytest.mark.parametrize(("place", "named"), PLACES.items(), ids=list(PLACES.values()))
def test_it_is_refused_and_not_run(
    place: Callable[[Path, Any], list[str]],
    named: str,
    slim: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = Path(slim.data[3].split("'")[1])
    (tmp_path / "labels.txt").write_text(labels.read_text(encoding="utf-8"), encoding="utf-8")
    args = place(tmp_path, slim)
    capsys.readouterr()
    assert run([*args[:1], "--json", *args[1:]]) == 2
    out = capsys.readouterr()
    error = json.loads(out.out)
    assert error["exit_code"] == 2 and named in error["error"]
    assert "unexpected" not in out.err and "Traceback" not in out.err
    assert not (tmp_path / MARK).exists()


def test_an_ordinary_reader_would_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(_write(tmp_path / "m").read_bytes())
    assert (tmp_path / MARK).is_dir()

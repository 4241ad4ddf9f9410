"""`_base_`: a file laid over another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from slim.config import load_config
from slim.config.base import read_with_base
from slim.errors import ConfigError


def _write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yml"


def test_later_files_win_key_by_key_and_lists_whole(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        a="_base_: b.yml\nGlobal: {seed: 3}\nRun: {stages: [export]}\n",
        b="_base_: c.yml\nGlobal: {seed: 2, epoch_num: 7}\nCheck:\n",
        c="Global: {seed: 1, print_batch_step: 9}\nRun: {stages: [quant], out: o}\nCheck: {images: 5}\n",
    )
    assert read_with_base(path) == {
        "Global": {"seed": 3, "epoch_num": 7, "print_batch_step": 9},
        "Run": {"stages": ["export"], "out": "o"},
        "Check": None,
    }
    config = load_config(path, ["Global.epoch_num=8"])
    assert (config.Global.seed, config.Global.epoch_num) == (3, 8)
    assert config.source == str(path)


def test_a_base_is_a_neighbour_or_a_built_in_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = _write(tmp_path, mine="_base_: cls/cls_demo\nGlobal: {model_name: mine}\n")
    config = load_config(path)
    assert (config.name, config.kind) == ("mine", "cls")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a": "_base_: a.yml\n"}, "_base_ leads through over 5 files"),
        ({"a": "_base_: b.yml\n", "b": "_base_: a.yml\n"}, "_base_ leads through over 5 files"),
        ({"a": "_base_: nowhere\n"}, "_base_: nowhere: no such file or built-in recipe"),
        ({"a": "_base_: [b.yml]\n", "b": "Global:\n"}, "must name one configuration"),
        ({"a": "_base_:\n"}, "_base_ is None, must name one"),
        ({"a": "_base_: b.yml\n", "b": "Global: {epoch_nun: 1}\n"}, "did you mean epoch_num"),
        ({"a": "_base_: b.yml\n", "b": "- 1\n"}, "is a list, must be a mapping"),
    ],
)
def test_a_bad_base_is_one_line(files: dict[str, str], said: str, tmp_path: Path) -> None:
    path = _write(tmp_path, **files)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)

"""slim config check --files: what the configuration names must be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from slim.config import check_files, config_from, load_config, read_yaml
from slim.errors import InputError

DATA = Path(__file__).parent / "data"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train_data").mkdir()
    (tmp_path / "train_data" / "list.txt").write_text("a.png\tx\n")
    return read_yaml(DATA / "rec_korean_lite_train.yml")


def test_all_there(data: dict[str, object]) -> None:
    check_files(config_from(data))
    check_files(config_from(data, ["Global.pretrained_model=zoo:en_number_synthetic_crnn"]))
    Path("best.pdparams").touch()
    check_files(config_from(data, ["Global.pretrained_model=best"]))
    check_files(load_config(None))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "Global.pretrained_model=nothing",
            "Global.pretrained_model: no such file or folder as nothing or nothing.p",
        ),
        ("Global.checkpoints=a/b", "Global.checkpoints: no such file"),
        ("Global.pretrained_model=zoo:nothing", "Global.pretrained_model: no model 'nothing' in the zoo"),
        (
            "Global.character_dict_path=ppocr/utils/dict/koren_dict.txt",
            "did you mean ppocr/utils/dict/korean_dict.txt",
        ),
        ("Train.dataset.data_dir=nowhere", "Train.dataset.data_dir: no such folder as nowhere"),
        (
            "Eval.dataset.label_file_list=[train_data/list.txt, x.txt]",
            "Eval.dataset.label_file_list.1: no such file",
        ),
        ("Calibration.dataset.data_dir=nowhere", "Calibration.dataset.data_dir: no such folder"),
    ],
)
def test_what_is_missing_is_named(data: dict[str, object], override: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        check_files(config_from(data, [override], where="c.yml"))
    assert says in str(error.value)
    assert str(error.value).startswith("c.yml: ")


def test_more_than_one_is_counted(data: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"\(1 more problem\)"):
        check_files(config_from(data, ["Train.dataset.data_dir=n1", "Eval.dataset.data_dir=n2"]))


def test_plain_data_is_not_changed_by_overrides(data: dict[str, object]) -> None:
    before = repr(data)
    notices: list[str] = []
    config_from(data, ["Global.use_gpu=true", "Train.dataset.data_dir=other"], notices=notices.append)
    assert repr(data) == before
    assert any("use_gpu" in line for line in notices)

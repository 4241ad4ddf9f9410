"""-o Section.key=value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slim.config import Config, load_config
from slim.config.overrides import apply_overrides, split_override
from slim.errors import ConfigError

DATA = Path(__file__).parent / "data"


def _rec(*overrides: str) -> Config:
    return load_config(DATA / "rec_korean_lite_train.yml", overrides)


def _arguments(config: Config, purpose: str, step: str) -> dict[str, Any]:
    arguments = config.dataset(purpose).transform(step)
    assert arguments is not None
    return arguments.plain()


def test_the_first_equals_sign_splits_and_values_are_yaml() -> None:
    assert split_override("Global.infer_img=a=b=c.png") == (["Global", "infer_img"], "a=b=c.png")
    assert split_override("Global.checkpoints=") == (["Global", "checkpoints"], None)
    assert split_override("A.b=[1, 'x', {c: null}]")[1] == [1, "x", {"c": None}]


def test_values_lists_and_nested_entries_are_set() -> None:
    config = _rec(
        "Train.loader.batch_size_per_card=8",
        "Train.dataset.label_file_list.0=other.txt",
        "Eval.dataset.transforms.2.RecResizeImg.image_shape=[3,32,160]",
        "Optimizer.lr.learning_rate=1e-05",
        "Train.dataset.transforms.1.RecAug.tia_prob=0.25",
    )
    assert config.Train is not None and config.Train.loader is not None and config.Eval is not None
    assert config.Train.loader.batch_size_per_card == 8
    assert config.Train.dataset.label_file_list == ("other.txt",)
    assert _arguments(config, "eval", "RecResizeImg") == {"image_shape": [3, 32, 160]}
    assert _arguments(config, "train", "RecResizeImg") == {"image_shape": [3, 32, 320]}
    assert _arguments(config, "train", "RecAug") == {"tia_prob": 0.25}
    assert config.Optimizer is not None and config.Optimizer.lr is not None
    assert config.Optimizer.lr.learning_rate == 1e-05


def test_later_overrides_win_and_absent_sections_are_created() -> None:
    config = _rec("Prune.ratio=0.2", "Prune.ratio=0.3", "Prune.method=ratio", "Prune.Finetune.steps=5")
    assert config.Prune is not None and config.Prune.ratio == 0.3
    assert config.Prune.Finetune is not None and config.Prune.Finetune.steps == 5
    assert _rec("Optimizer=null").Optimizer is None


def test_an_override_changes_one_place_where_the_file_has_an_alias(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("Train: &data\n  dataset: {data_dir: a}\nEval: *data\n")
    config = load_config(path, ["Train.dataset.data_dir=b"])
    assert config.dataset("train").data_dir == "b"
    assert config.dataset("eval").data_dir == "a"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "Global.pretrain_weights=x",
            "Global.pretrain_weights: is not a known key, did you mean pretrained_model?",
        ),
        ("Global.epoch=3", "did you mean epoch_num?"),
        ("Globl.use_gpu=true", "Globl: is not a known key, did you mean Global?"),
        ("Prune.Finetune.step=3", "Prune.Finetune.step: is not a known key, did you mean steps?"),
        ("Train.dataset.transforms.1.RecAug.tia_prop=0.1", "did you mean tia_prob?"),
        ("Eval.dataset.transforms.2.RecResizeImg.shape=[3,32,320]", "did you mean image_shape?"),
        ("Global.batch_size_per_card=8", "is not a known key here, it belongs to "),
        (
            "Architecture.Backbone.scal=1.0",
            "Architecture.Backbone.scal: is not a known key, did you mean scale?",
        ),
        ("Global.use_gpu=5", "Global.use_gpu: is 5, must be true or false"),
        ("Prune.criterion=fpgn", "must be one of fpgm, l1, l2"),
        ("Global.use_gpu.x=5", "Global.use_gpu is True, a value without keys"),
        ("Train.dataset.label_file_list.3=x", "has 1 entries, index 3 is past its end"),
        ("Train.dataset.label_file_list.-1=x", "'-1' is no index"),
        ("Train.dataset.transforms.RecAug=x", "is a list, 'RecAug' is no index"),
        ("Global.use_gpu", "has no '='"),
        ("=3", "has an empty name"),
        ("Global..x=3", "has an empty name"),
        ("Global.label_list=[1, 2", "is not valid YAML"),
        ("Global.seed=!!python/name:os.system", "is not valid YAML"),
        ("Global={1: 2}", "key 1 is not text"),
    ],
)
def test_a_wrong_override_is_named_as_such(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        _rec(override)
    assert says in str(error.value)
    assert str(error.value).startswith("-o")
    assert error.value.exit_code == 2


def test_a_fault_of_the_file_is_not_blamed_on_an_override(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("Global:\n  use_gpuu: true\n")
    with pytest.raises(ConfigError) as error:
        load_config(path, ["Global.seed=3"])
    assert str(error.value).startswith(str(path))


def test_order_of_overrides_on_a_list_entry() -> None:
    data = {"a": [None, 2]}
    assert apply_overrides(data, ["a.0.b=1", "a.1=5"]) == [("a", 0), ("a", 1)]
    assert data == {"a": [{"b": 1}, 5]}

"""Built-in recipes: found by name, loadable, and true to the bundled models."""

from __future__ import annotations

from pathlib import Path

import pytest

from slim.config import find_config, list_configs, load_config
from slim.config.spec import model_spec
from slim.errors import ConfigError
from slim.zoo import find

BUILT_IN = [
    "cls/ch_ppocr_mobile_v2.0_cls",
    "cls/cls_demo",
    "rec/en_number_demo",
    "rec/en_number_mobile_v2.0_rec",
]


@pytest.fixture
def root(checkout: Path) -> Path:
    return checkout / "configs"


def test_listed_by_name(root: Path) -> None:
    assert set(BUILT_IN) <= set(list_configs(root))
    assert list_configs(root)["cls/cls_demo"] == root / "cls" / "cls_demo.yml"


@pytest.mark.parametrize(
    "name",
    [
        "rec/en_number_mobile_v2.0_rec",
        "en_number_mobile_v2.0_rec",
        "configs/rec/en_number_mobile_v2.0_rec.yml",
        "rec/en_number_m",
        "en_number_mobile",
    ],
)
def test_found_by_any_clear_name(
    root: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(name, root) == root / "rec" / "en_number_mobile_v2.0_rec.yml"


def test_a_file_of_the_users_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    (tmp_path / "cls").mkdir()
    (tmp_path / "cls" / "cls_demo").write_text("Global:\n")
    monkeypatch.chdir(tmp_path)
    assert find_config("cls/cls_demo", root) == Path("cls/cls_demo")


def test_unclear_and_unknown_names(root: Path) -> None:
    with pytest.raises(
        ConfigError, match="means 4 recipes; give one of rec/en_number_demo, rec/en_number_fast"
    ):
        find_config("rec/en_number", root)
    with pytest.raises(ConfigError, match="did you mean cls/cls_demo"):
        find_config("cls/cls_dmeo", root)
    with pytest.raises(ConfigError, match="slim config list"):
        find_config("zzzzzz.yml", root)
    with pytest.raises(ConfigError, match="no such file"):
        find_config("", root)
    with pytest.raises(ConfigError, match="not a usable path"):
        find_config("x" * 5000, root)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_recipes_describe_the_bundled_models(root: Path, name: str) -> None:
    config = load_config(find_config(name, root))
    assert config.Global.pretrained_model is not None
    model = find(config.Global.pretrained_model)
    spec = model_spec(config)
    assert spec.kind == model.kind
    assert spec.classes == {"cls": 2, "rec": 97}[spec.kind]
    assert config.Prune and config.Quant and config.Export and config.Check and config.Run
    assert config.Export.targets == ("arm", "x86")
    assert config.train_recipe().epochs


def test_demo_bounds_are_those_the_project_promises(root: Path) -> None:
    for name, drop, cut, share, megabytes in (
        ("cls/cls_demo", 1.0, 0.15, 0.5, 2.1),
        ("rec/en_number_demo", 5.0, 0.05, 0.75, 2.7),
    ):
        config = load_config(find_config(name, root))
        assert config.Check is not None and config.Prune is not None and config.Prune.flops is not None
        check = config.Check
        assert (check.images, check.simulation_images) == (2000, 500)
        assert check.max_drop <= drop
        assert check.min_flops_cut is not None and cut <= check.min_flops_cut <= config.Prune.flops
        assert check.max_nb_ratio is not None and check.max_nb_ratio <= share
        assert check.max_inference_mb is not None and check.max_inference_mb <= megabytes
        folders = {config.dataset(purpose).label_file_list for purpose in ("train", "eval", "calibration")}
        assert len(folders) == 3

"""Every published row: a recipe that loads, the right head, parameters that fit the published size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slim.config import find_config, list_configs, load_config
from slim.config.spec import model_spec
from slim.pipeline.published import PROGRAM_M, markdown, measure, measure_all
from slim.progress import Silent
from slim.zoo.table import PUBLISHED

FLOAT = [name for name, row in PUBLISHED.items() if row.original is None]
CLASSES = {
    "ch_ppocr_mobile_v2.0_rec": 6625,
    "en_number_mobile_v2.0_rec": 97,
    "french_mobile_v2.0_rec": 138,
    "german_mobile_v2.0_rec": 145,
    "korean_mobile_v2.0_rec": 3690,
    "japan_mobile_v2.0_rec": 4401,
    "te_mobile_v2.0_rec": 153,
    "ka_mobile_v2.0_rec": 155,
    "ta_mobile_v2.0_rec": 130,
    "ch_ppocr_mobile_v2.0_cls": 2,
    "ch_ppocr_server_v2.0_det": 0,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_has_a_recipe_named_after_it(name: str) -> None:
    row = PUBLISHED[name]
    assert row.config in list_configs()
    config = load_config(find_config(row.config))
    assert config.Global.model_name == (row.original or name) == row.config.split("/")[1]
    assert config.kind == row.kind
    path = config.Global.character_dict_path
    assert (path.rsplit("/", 1)[-1] if path else None) == row.dictionary


@pytest.mark.parametrize("name", FLOAT)
def test_the_head_has_the_published_width_and_the_bytes_fit(name: str) -> None:
    found = measure(PUBLISHED[name])
    assert found.classes == CLASSES[name]
    assert found.agrees, f"{found.rest:.2f} M beside the parameters, a program file has {PROGRAM_M}"


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("korean_mobile_v2.0_rec", "rec/japan_mobile_v2.0_rec"),
        ("japan_mobile_v2.0_rec", "rec/korean_mobile_v2.0_rec"),
        ("ch_ppocr_mobile_v2.0_rec", "rec/en_number_mobile_v2.0_rec"),
    ],
)
def test_the_recipe_of_another_row_does_not_fit(name: str, recipe: str) -> None:
    assert not measure(replace(PUBLISHED[name], config=recipe)).agrees


def test_parameter_bytes_are_those_of_a_checkpoint() -> None:
    from slim.checkpoint import read_pdparams
    from slim.zoo import find

    held = sum(array.nbytes for array in read_pdparams(find("ch_ppocr_mobile_v2.0_cls").path).values())
    assert measure(PUBLISHED["ch_ppocr_mobile_v2.0_cls"]).bytes == held == 534_512


def test_the_recipes_of_the_recognizers_differ_in_the_dictionary_alone() -> None:
    base = load_config(find_config("rec/en_number_mobile_v2.0_rec")).resolved()
    for name in FLOAT:
        if PUBLISHED[name].kind != "rec":
            continue
        other = load_config(find_config(PUBLISHED[name].config)).resolved()
        for section in ("Architecture", "Loss", "Optimizer", "Train", "Eval", "Prune", "Quant", "Check"):
            assert other[section] == base[section], f"{name} {section}"


def test_the_table_in_the_docs_is_the_one_of_the_command(checkout: Path) -> None:
    docs = (checkout / "docs" / "MODELS.md").read_text(encoding="utf-8")
    assert markdown(measure_all(Silent())) in docs, "run: slim models table, and put it into docs/MODELS.md"


def test_the_spec_of_a_derived_recipe_is_whole() -> None:
    spec = model_spec(load_config(find_config("rec/te_mobile_v2.0_rec")))
    assert (spec.name, spec.kind, spec.classes) == ("te_mobile_v2.0_rec", "rec", 153)
    assert spec.labels[0] == "" and spec.labels[-1] == " " and spec.input.shape == (3, 32, 320)

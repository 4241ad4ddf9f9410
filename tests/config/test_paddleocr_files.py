"""PaddleOCR's own files, as they are: accepted, resolved, turned into specs and recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slim.config import Config, config_from, load_config
from slim.config.spec import model_spec
from slim.errors import ConfigError

DATA = Path(__file__).parent / "data"
FILES = sorted(DATA.glob("*.yml"))

# Head widths of the published models (dictionary + space + blank).
WIDTHS = {
    "rec_chinese_lite_train_v2.0": 6625,
    "rec_en_number_lite_train_36": 37,
    "rec_en_number_lite_train_63": 64,
    "rec_french_lite_train": 138,
    "rec_german_lite_train": 145,
    "rec_korean_lite_train": 3690,
    "rec_japan_lite_train": 4401,
    "rec_te_lite_train": 153,
    "rec_ka_lite_train": 155,
    "rec_ta_lite_train": 130,
    "rec_arabic_lite_train": 163,
    "rec_mv3_none_bilstm_ctc": 37,
    "rec_mv3_none_bilstm_ctc_first": 96,
    "rec_latin_lite_train": 187,
    "cls_mv3": 2,
    "cls_mv3_first": 2,
}


def _load(stem: str, *overrides: str) -> tuple[Config, list[str]]:
    notices: list[str] = []
    return load_config(DATA / f"{stem}.yml", overrides, notices.append), notices


def test_the_corpus_is_whole() -> None:
    assert len(FILES) == 20
    assert set(WIDTHS) <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accepted_as_it_is_and_loads_again_from_its_resolved_form(file: Path) -> None:
    config = load_config(file)
    resolved = json.loads(json.dumps(config.resolved()))
    assert config_from(resolved, where=str(file)) == config
    spec = model_spec(config)
    assert spec.name == file.stem
    assert spec.kind == file.stem.removeprefix("ch_")[:3]
    assert spec.classes == WIDTHS.get(file.stem, 0)
    assert spec.arch["Transform"] is None
    recipe = config.train_recipe()
    assert recipe.epochs == config.Global.epoch_num


def test_recognizer_facts() -> None:
    spec = model_spec(_load("rec_korean_lite_train")[0])
    assert spec.input.shape == (3, 32, 320)
    assert spec.input.dynamic_width and not spec.input.dynamic_height
    assert spec.input.order == "BGR" and spec.input.mean == (0.5, 0.5, 0.5)
    assert spec.labels[0] == "" and spec.labels[-1] == " "
    assert spec.arch == {
        "model_type": "rec",
        "algorithm": "CRNN",
        "Transform": None,
        "Backbone": {
            "name": "MobileNetV3",
            "model_name": "small",
            "scale": 0.5,
            "small_stride": [1, 2, 2, 2],
        },
        "Neck": {"name": "SequenceEncoder", "encoder_type": "rnn", "hidden_size": 48},
        "Head": {"name": "CTCHead"},
    }


def test_classifier_facts() -> None:
    spec = model_spec(_load("cls_mv3")[0])
    assert spec.input.shape == (3, 48, 192)
    assert not spec.input.dynamic_width
    assert spec.labels == ("0", "180")
    assert spec.arch["Neck"] is None


def test_detector_facts() -> None:
    spec = model_spec(_load("ch_det_res18_db_v2.0")[0])
    assert spec.input.mean == (0.485, 0.456, 0.406)
    # "1./255." in the file; a double, so equal to the last bit
    assert spec.input.scale == 1.0 / 255.0
    assert spec.input.dynamic_width and spec.input.dynamic_height
    assert spec.post == {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}
    assert spec.arch["Backbone"] == {"name": "ResNet_vd", "layers": 18}
    fixed = model_spec(_load("det_mv3_db")[0])
    assert (fixed.input.height, fixed.input.width) == (736, 1280)
    assert fixed.post["box_thresh"] == 0.5


def test_numbers_yaml_reads_as_text() -> None:
    config, _ = _load("rec_mv3_none_bilstm_ctc_first")
    assert config.Optimizer is not None and config.Optimizer.lr and config.Optimizer.regularizer
    assert config.Optimizer.lr.learning_rate == 5e-4
    assert config.Optimizer.regularizer.factor == 1e-5
    assert config.architecture.Head.plain()["fc_decay"] == 4e-5
    assert config.Global.eval_batch_step == (0, 2000)


def test_notices_name_what_is_ignored_replaced_and_deprecated() -> None:
    _, notices = _load("cls_mv3")
    assert [line.split(" ")[0] for line in notices] == ["Global.use_gpu", "Train.dataset.transforms:"]
    assert "BaseDataAugmentation, RandAugment replaced" in notices[1]
    _, notices = _load("rec_en_number_lite_train_63")
    assert any("character_type EN" in line and "36 characters" in line for line in notices)
    _, notices = _load("rec_mv3_none_bilstm_ctc")
    assert any("0-9a-z" in line for line in notices)
    _, notices = _load("rec_mv3_none_bilstm_ctc_first", "Global.use_gpu=false", "Optimizer.lr.name=Piecewise")
    assert [line for line in notices if "LMDBDateSet" in line]
    assert not [line for line in notices if "use_gpu" in line]
    assert [line for line in notices if "Optimizer.lr.name is Piecewise" in line]
    _, notices = _load("det_r50_vd_db")
    assert any("read as ResNet_vd" in line for line in notices)


def test_no_notice_of_a_gpu_where_the_gpu_build_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slim.config.notices._gpu_build", lambda: True)
    assert not [line for line in _load("cls_mv3")[1] if "use_gpu" in line]


@pytest.mark.parametrize(
    ("step", "limit"),
    [
        ("DetResizeForTest: null", (960, "max")),
        ("DetResizeForTest: {limit_side_len: 640}", (640, "max")),
        ("DetResizeForTest: {limit_type: min}", (736, "min")),
        ("DetResizeForTest: {limit_side_len: 500, limit_type: min}", (500, "min")),
    ],
)
def test_the_side_limit_of_pages_is_read(step: str, limit: tuple[int, str]) -> None:
    page = model_spec(_det(step)).input
    assert (page.limit_side, page.limit_type) == limit


@pytest.mark.parametrize("step", ["{resize_long: 960}", "{limit_type: resize_long, limit_side_len: 960}"])
def test_resize_long_is_refused(step: str) -> None:
    with pytest.raises(ConfigError, match="DetResizeForTest.resize_long is not supported; give limit_side"):
        model_spec(_det(f"DetResizeForTest: {step}"))


def test_post_processing_options_travel_with_the_model() -> None:
    plain = model_spec(_det("DetResizeForTest: null")).post
    assert plain == {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}
    more = model_spec(
        _det("DetResizeForTest: null", "PostProcess.use_dilation=true", "PostProcess.score_mode=slow")
    )
    assert more.post == {**plain, "use_dilation": True, "score_mode": "slow"}


def _det(step: str, *overrides: str) -> Config:
    return _load("ch_det_mv3_db_v2.0", f"Eval.dataset.transforms=[{{{step}}}]", *overrides)[0]

"""Strict at every depth: unknown keys, wrong types, parts that do not fit each other, other generations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from slim.config import Config, WrongConfig, load_config
from slim.config.fields import Section
from slim.config.suggest import sections_in
from slim.errors import ConfigError

OURS = ("slim.config.ours", "slim.config.pruning")
DATA = Path(__file__).parent / "data"


def _fault(tmp_path: Path, stem: str, old: str, new: str) -> str:
    text = (DATA / f"{stem}.yml").read_text()
    assert old in text
    path = tmp_path / "c.yml"
    path.write_text(text.replace(old, new))
    with pytest.raises(WrongConfig) as error:
        load_config(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("stem", "old", "new", "says"),
    [
        (
            "cls_mv3",
            "pretrained_model:",
            "pretrain_weights:",
            "Global.pretrain_weights: is not a known key, did you mean pretrained_model?",
        ),
        (
            "cls_mv3",
            "    class_dim",
            "    clas_dim",
            "Architecture.Head.clas_dim: is not a known key, did you mean class_dim?",
        ),
        (
            "cls_mv3",
            "    scale: 0.35",
            "    scale: wide",
            "Architecture.Backbone.scale: is 'wide', must be a number",
        ),
        (
            "cls_mv3",
            "img_mode: BGR",
            "img_mod: BGR",
            "Train.dataset.transforms.0.DecodeImage.img_mod: is not a known key, did you mean img_mode?",
        ),
        (
            "cls_mv3",
            "- RandAugment:",
            "- RandAugmnt:",
            "Train.dataset.transforms.3.RandAugmnt: is not a known key, did you mean RandAugment?",
        ),
        (
            "cls_mv3",
            "- RandAugment:",
            "- RandAugment",
            "Train.dataset.transforms.3: is the text 'RandAugment', write 'RandAugment:'",
        ),
        (
            "cls_mv3",
            "[3, 48, 192]",
            "[48, 192]",
            "ClsResizeImg.image_shape: has 2 entries, must have at least 3",
        ),
        (
            "cls_mv3",
            "name: ClsHead",
            "name: ClassHead",
            "Architecture.Head: name is 'ClassHead', must be one of ClsHead, CTCHead, DBHead",
        ),
        (
            "cls_mv3",
            "label_list: ['0','180']",
            "label_list: [0, 180]",
            "Global.label_list.0: is 0, must be text",
        ),
        (
            "cls_mv3",
            "batch_size_per_card: 512",
            "batch_size_per_card: -1",
            "Train.loader.batch_size_per_card: is -1, must be at least 1",
        ),
        (
            "cls_mv3",
            "class_dim: 2",
            "class_dim: 4",
            "Architecture.Head.class_dim: is 4, Global.label_list has 2 classes",
        ),
        ("cls_mv3", "name: ClsLoss", "name: CTCLoss", "Loss.name: is 'CTCLoss', a cls model needs ClsLoss"),
        (
            "cls_mv3",
            "model_type: cls",
            "model_type: clas",
            "Architecture.model_type: is 'clas', must be one of cls, rec, det",
        ),
        (
            "cls_mv3",
            "main_indicator: acc",
            "main_indicator: hmean",
            "Metric.main_indicator: is 'hmean', must be acc",
        ),
        ("cls_mv3", "Eval:", "Evla:", "Evla: is not a known key, did you mean Eval?"),
        (
            "rec_korean_lite_train",
            "  Transform:",
            "  Transform: {name: TPS}",
            "Architecture.Transform: is a mapping, must be null",
        ),
        (
            "rec_korean_lite_train",
            "name: MobileNetV3",
            "name: MobileNetV1Enhance",
            "belongs to PP-OCRv2 / v3",
        ),
        (
            "rec_korean_lite_train",
            "name: MobileNetV3",
            "nam: MobileNetV3",
            "Architecture.Backbone: has no name",
        ),
        (
            "rec_korean_lite_train",
            "encoder_type: rnn",
            "encoder_type: svtr",
            "Architecture.Neck.encoder_type: is 'svtr', must be one of rnn, reshape",
        ),
        (
            "rec_korean_lite_train",
            "- RecResizeImg:\n          image_shape: [3, 32, 320]",
            "- RecResizeImg:",
            "RecResizeImg.image_shape: is missing",
        ),
        ("ch_det_res18_db_v2.0", "'type': RandomScale", "'type': RandomScal", "did you mean RandomScale?"),
        (
            "ch_det_res18_db_v2.0",
            "'p': 0.5",
            "'pp': 0.5",
            "IaaAugment.augmenter_args.0.args.pp: is not a known key",
        ),
        (
            "ch_det_res18_db_v2.0",
            "scale: 1./255.",
            "scale: 1./0.",
            "NormalizeImage.scale: is '1./0.', must be a number",
        ),
        ("ch_det_res18_db_v2.0", "scale: 1./255.", "scale: __import__('os')", "must be a number"),
        ("ch_det_res18_db_v2.0", "std: [0.229", "std: [0.0", "NormalizeImage.std.0: is 0.0, must be above 0"),
        (
            "ch_det_res18_db_v2.0",
            "size: [960, 960]",
            "size: 960",
            "EastRandomCropData.size: is 960, must be a list",
        ),
    ],
)
def test_the_first_fault_is_named_with_its_path(
    tmp_path: Path, stem: str, old: str, new: str, says: str
) -> None:
    assert says in _fault(tmp_path, stem, old, new)


@pytest.mark.parametrize(
    ("stem", "override", "says"),
    [
        (
            "cls_mv3",
            "Architecture.Neck.name=DBFPN",
            "Architecture.Neck.name: is 'DBFPN', a cls model needs none",
        ),
        ("rec_korean_lite_train", "Architecture.Neck=null", "a rec model needs SequenceEncoder"),
        ("rec_korean_lite_train", "Architecture.Backbone={name: ResNet}", "a rec model needs MobileNetV3"),
        ("det_r50_vd_db", "Architecture.Head={name: CTCHead}", "is 'CTCHead', a det model needs DBHead"),
        (
            "det_r50_vd_db",
            "Metric={name: RecMetric}",
            "Metric.name: is 'RecMetric', a det model needs DetMetric",
        ),
    ],
)
def test_parts_of_another_kind_are_named(stem: str, override: str, says: str) -> None:
    with pytest.raises(WrongConfig) as error:
        load_config(DATA / f"{stem}.yml", [override])
    assert says in str(error.value)
    assert str(error.value).startswith("-o: Architecture" if "Arch" in override else "-o: Metric")


def test_distillation_files_of_later_versions_are_recognised(tmp_path: Path) -> None:
    line = _fault(
        tmp_path, "rec_korean_lite_train", "  algorithm: CRNN", "  algorithm: Distillation\n  Models: {}"
    )
    assert "Architecture: describes a distillation of several nets" in line


def test_a_1x_file_is_told_where_the_section_went(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("Backbone:\n  function: x\n")
    with pytest.raises(
        ConfigError, match="Backbone: is not a known key here, it belongs to Architecture.Backbone"
    ):
        load_config(path)


def test_all_faults_are_kept_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("Global:\n  use_gpu: 3\n  sed: 1\nQuant:\n  mode: int8\n")
    with pytest.raises(WrongConfig) as error:
        load_config(path)
    assert len(error.value.problems) == 3
    assert str(error.value) == f"{path}: Global.use_gpu: is 3, must be true or false (2 more problems)"
    assert any(
        problem.startswith("Quant.mode: is 'int8', must be one of qat, ptq")
        for problem in error.value.problems
    )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("Prune={method: sensitivity, flops: null}", "has method sensitivity and no budget"),
        ("Prune.ratios=[0.3, 0.1]", "must rise from entry to entry"),
        ("Prune.ratio=0.95", "must be at most 0.9"),
        ("Prune.align=0", "Prune.align: is 0, must be at least 1, or fastest"),
        ("Prune.align=fast", "Prune.align: is 'fast', must be at least 1, or fastest"),
        ("Prune.latency=1.0", "Prune.latency: is 1.0, must be below 1"),
        ("Prune={rounds: 2, sensitivities: sen.pickle}", "has sensitivities and several rounds"),
        ("Prune.rounds=0", "must be at least 1"),
        ("Prune.nb_bytes=0", "must be at least 1"),
        ("Prune={method: ratio, nb_bytes: 100}", "has method ratio, which holds no nb_bytes"),
        ("Prune.rules=[{path: a.*}]", "Prune.rules.0: bounds nothing"),
        ("Prune.rules=[{path: a.*, least: 0.5, most: 0.2}]", "has least 0.5 above most 0.2"),
        ("Quant.weight_bits=16", "must be at most 8"),
        ("Quant.layers=[Conv2D, Conv2D]", "names Conv2D twice"),
        ("Quant.layers=[LSTM]", "Quant.layers.0: is 'LSTM', must be one of Conv2D, Linear"),
        ("Export.targets=[]", "has 0 entries, must have at least 1"),
        ("Export.targets=arm", "Export.targets: is 'arm', must be a list"),
        ("Export.targets=[gpu]", "must be one of arm, x86"),
        ("Export.timeout=0", "must be above 0"),
        ("Check.min_agreement=2", "must be at most 1"),
        ("Check.images=0", "must be at least 1"),
        ("Run.stages=[quant, prune]", "must keep the order prune, quant, export, check"),
        ("Run.stages=[prune, prune]", "names prune twice"),
        ("Calibration={}", "Calibration.dataset: is missing"),
        ("Prune=3", "Prune: is 3, must be a mapping of keys"),
        ("Global.seed=-1", "must be at least 0"),
    ],
)
def test_our_own_sections_have_bounds(override: str, says: str) -> None:
    with pytest.raises(WrongConfig) as error:
        load_config(None, [override])
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("given", "flops"),
    [("{}", 0.1), ("{flops: 0.3}", 0.3), ("{params: 0.3}", None), ("{max_drop: 1.0, flops: null}", None)],
)
def test_a_tenth_of_the_flops_goes_where_no_budget_is_given(given: str, flops: float | None) -> None:
    section = load_config(None, [f"Prune={given}"]).Prune
    assert section is not None and section.flops == flops


def test_empty_sections_are_null_and_a_configuration_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("Global:\nPrune:\nTrain:\n")
    config = load_config(path)
    assert config.Prune is None and config.Train is None and config.Global.use_gpu is False
    assert config.name == "c" and config.source == str(path)
    assert list(load_config(None).resolved()) == ["Global"]
    for asked in (lambda: config.kind, lambda: config.dataset("train"), lambda: config.dataset("eval")):
        with pytest.raises(ConfigError, match="has no (Architecture|Train|Eval) section"):
            asked()


def test_calibration_falls_back_to_train() -> None:
    path = DATA / "cls_mv3.yml"
    config = load_config(path)
    assert config.dataset("calibration") == config.dataset("train")
    config = load_config(path, ["Calibration.dataset.data_dir=c"])
    assert config.dataset("calibration").data_dir == "c"


def test_values_cannot_be_changed() -> None:
    config = load_config(None, ["Prune.ratio=0.2"])
    assert config.Prune is not None
    with pytest.raises(ValidationError, match="frozen"):
        config.Prune.ratio = 0.5


def _all_sections(root: type[Section]) -> set[type[Section]]:
    found: set[type[Section]] = set()
    waiting = [root]
    while waiting:
        section = waiting.pop()
        if section not in found:
            found.add(section)
            waiting += [
                inner for field in section.model_fields.values() for inner in sections_in(field.annotation)
            ]
    return found


def test_every_section_is_strict_and_our_fields_are_described() -> None:
    sections = _all_sections(Config)
    assert len(sections) > 40
    assert all(section.model_config.get("extra") == "forbid" for section in sections)
    assert all(section.model_config.get("frozen") for section in sections)
    ours = [section for section in sections if section.__module__ in OURS]
    bare = [
        f"{section.__name__}.{name}"
        for section in ours
        for name, field in section.model_fields.items()
        if not field.description and name != "dataset"
    ]
    assert bare == []


def test_importing_the_configuration_loads_no_heavy_package() -> None:
    code = (
        "import slim.config, slim.dictionaries, sys; "
        "print([name for name in ('paddle', 'cv2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

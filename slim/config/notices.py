"""What a user should know of a configuration that is accepted: ignored, replaced and deprecated keys."""

from __future__ import annotations

from importlib import metadata

from slim.config.recipe import unsupported, unsupported_pages
from slim.config.schema import Config
from slim.config.transforms import AUGMENTATIONS

# character_type values with which old PaddleOCR versions read no dictionary file.
_FIXED_CHARSET = {"en": 36, "EN": 36, "EN_symbol": 94}


def notices_of(config: Config) -> list[str]:
    """One line each, in a fixed order."""
    return [*_devices(config), *_dictionary(config), *_old_names(config), *_training(config)]


def _devices(config: Config) -> list[str]:
    glob, found = config.Global, []
    if glob.use_gpu and not _gpu_build():
        found.append("Global.use_gpu is true, the installed paddle has no GPU support: running on the CPU")
    other = [key for key in ("use_xpu", "use_npu", "use_mlu") if getattr(glob, key)]
    if other:
        found.append(f"Global.{', Global.'.join(other)}: not supported, ignored")
    ignored = [key for key in ("use_visualdl", "use_wandb", "use_amp") if getattr(glob, key)]
    if ignored:
        found.append(f"Global.{', Global.'.join(ignored)}: no effect here")
    return found


def _gpu_build() -> bool:
    try:
        metadata.distribution("paddlepaddle-gpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def _dictionary(config: Config) -> list[str]:
    glob = config.Global
    if config.Architecture is None or config.Architecture.model_type != "rec":
        return []
    path, old = glob.character_dict_path, _FIXED_CHARSET.get(glob.character_type or "")
    if path is None:
        return ["Global.character_dict_path is null: the 36 classes 0-9a-z are used"]
    if old:
        return [
            f"Global.character_type {glob.character_type} is deprecated: old PaddleOCR versions read no "
            f"dictionary with it and used {old} characters; {path} is used, the weights must fit it"
        ]
    return (
        ["Global.character_type is deprecated and ignored: the dictionary decides"]
        if glob.character_type
        else []
    )


def _old_names(config: Config) -> list[str]:
    found = []
    if config.Global.load_static_weights:
        found.append("Global.load_static_weights is deprecated and ignored: weights must be .pdparams of 2.x")
    data = {"Train": config.Train, "Eval": config.Eval, "Calibration": config.Calibration}
    for name, section in data.items():
        if section and section.dataset.name == "LMDBDateSet":
            found.append(f"{name}.dataset.name LMDBDateSet is deprecated: read as LMDBDataSet")
    if config.Architecture and config.Architecture.Backbone.name == "ResNet":
        found.append("Architecture.Backbone.name ResNet is deprecated: read as ResNet_vd")
    return found


def _training(config: Config) -> list[str]:
    steps = (config.Train.dataset.transforms if config.Train else None) or ()
    replaced = [step.name for step in steps if step.name in AUGMENTATIONS]
    found = []
    if replaced:
        found.append(f"Train.dataset.transforms: {', '.join(replaced)} replaced by our own augmentation")
    if config.Optimizer:
        found += [f"{text}; slim train will refuse it" for text in unsupported(config.Optimizer)]
    found += [f"{text}; slim train will refuse it" for text in unsupported_pages(config)]
    return found

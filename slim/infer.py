"""What a .pdparams file is when nobody gives a config: kind, width and dictionary from its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from slim.arch import build_net
from slim.bundle import complete_lstm_names, head_width
from slim.checkpoint import read_pdparams
from slim.dictionaries import bundled_names, read_dictionary, resolve_dictionary
from slim.errors import CheckpointError
from slim.progress import Reporter
from slim.spec import BLANK, InputSpec, ModelSpec
from slim.strict import generation, wrapped

_SCALES = (0.35, 0.5, 0.75, 1.0, 1.25)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
State = Mapping[str, npt.NDArray[Any]]


def infer_spec(path: Path, progress: Reporter) -> ModelSpec:
    """Find the v2.0 net whose tensors are exactly those of the file, and a bundled dictionary that fits.

    Strides leave no trace in the tensors: those of the published configs are assumed, and said.

    Raises:
        CheckpointError: another generation, no such net, or several dictionaries fit; a config settles it.
    """
    state = complete_lstm_names(read_pdparams(path))
    other = generation(set(state))
    if other:
        raise CheckpointError(f"is {other}", where=path, remedy="use a PP-OCR v2.0 model")
    instead = wrapped(state)
    if instead:
        raise CheckpointError("is no float model", where=path, remedy=instead)
    shapes = {name: list(value.shape) for name, value in state.items()}
    for arch in _candidates(state):
        net = build_net(arch, head_width(state) or 0)
        if {name: list(tensor.shape) for name, tensor in net.state_dict().items()} == shapes:
            return _spec(arch, state, path, progress)
    raise CheckpointError(
        "its tensors are those of no PP-OCR v2.0 net known here",
        where=path,
        remedy="give the config it was trained with (-c)",
    )


def _candidates(state: State) -> Iterator[dict[str, Any]]:
    if "head.binarize.conv1.weight" in state:
        yield from _detectors(state)
        return
    blocks = len({name.split(".")[2] for name in state if name.startswith("backbone.blocks.")})
    model_name = "large" if blocks > 11 else "small"
    lstm = "neck.encoder.lstm.weight_hh_l0"
    for scale in _SCALES:
        backbone: dict[str, Any] = {"name": "MobileNetV3", "model_name": model_name, "scale": scale}
        if lstm in state:
            backbone["small_stride"] = [1, 2, 2, 2]
            neck = {
                "name": "SequenceEncoder",
                "encoder_type": "rnn",
                "hidden_size": int(state[lstm].shape[1]),
            }
            head: dict[str, Any] = {"name": "CTCHead"}
            if "head.fc1.weight" in state:
                head["mid_channels"] = int(state["head.fc1.weight"].shape[1])
            yield _arch("rec", "CRNN", backbone, neck, head)
        else:
            yield _arch("cls", "CLS", backbone, None, {"name": "ClsHead", "class_dim": head_width(state)})


def _detectors(state: State) -> Iterator[dict[str, Any]]:
    lateral = state.get("neck.in2_conv.weight")
    neck = {"name": "DBFPN", "out_channels": int(lateral.shape[0]) if lateral is not None else 256}
    head = {"name": "DBHead", "k": 50}
    for layers in (18, 34, 50, 101):
        yield _arch("det", "DB", {"name": "ResNet", "layers": layers}, neck, head)
    for model_name in ("large", "small"):
        for scale in _SCALES:
            for disable_se in (True, False):
                backbone = {
                    "name": "MobileNetV3",
                    "model_name": model_name,
                    "scale": scale,
                    "disable_se": disable_se,
                }
                yield _arch("det", "DB", backbone, neck, head)


def _arch(kind: str, algorithm: str, backbone: Any, neck: Any, head: Any) -> dict[str, Any]:
    return {"model_type": kind, "algorithm": algorithm, "Backbone": backbone, "Neck": neck, "Head": head}


def _spec(arch: dict[str, Any], state: State, path: Path, progress: Reporter) -> ModelSpec:
    kind, name = arch["model_type"], path.stem if path.stem != "best_accuracy" else path.resolve().parent.name
    backbone = arch["Backbone"]
    said = f"{path.name}: {kind}, {backbone['name']} {backbone.get('model_name', backbone.get('layers'))}"
    if kind == "det":
        progress.info(f"{said}, strides as published")
        page = InputSpec(
            736, 736, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, dynamic_width=True, dynamic_height=True
        )
        post = {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}
        return ModelSpec(name, kind, arch, (), page, post)
    if kind == "cls":
        if head_width(state) != 2:
            raise CheckpointError(
                f"classifies {head_width(state)} classes, their names are unknown",
                where=path,
                remedy="give a config with Global.label_list (-c)",
            )
        progress.info(f"{said}, classes 0 and 180, input 3x48x192, strides as published")
        return ModelSpec(name, kind, arch, ("0", "180"), InputSpec(48, 192))
    labels, told = _dictionary(head_width(state) or 0, path)
    progress.info(f"{said}, {told}, input 3x32x320, strides as published")
    return ModelSpec(name, kind, arch, labels, InputSpec(32, 320, dynamic_width=True))


def _dictionary(classes: int, path: Path) -> tuple[tuple[str, ...], str]:
    fitting = []
    for name in bundled_names():
        entries = read_dictionary(resolve_dictionary(name))
        for space in (False, True):
            if 1 + len(entries) + space == classes:
                fitting.append((name, space, (BLANK, *entries, *([" "] if space else []))))
    if len(fitting) == 1:
        name, space, labels = fitting[0]
        return labels, f"dictionary {name}{' and space' if space else ''} by its {classes} classes"
    found = (
        ", ".join(f"{name}{' + space' if space else ''}" for name, space, _ in fitting)
        or "no bundled dictionary"
    )
    raise CheckpointError(
        f"has {classes} classes, which fits {found}",
        where=path,
        remedy="give a config with Global.character_dict_path and use_space_char (-c)",
    )

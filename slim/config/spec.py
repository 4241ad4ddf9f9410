"""From a configuration to the facts that travel with a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slim.config.architecture import DBPostProcess
from slim.config.fields import Section
from slim.config.schema import Config
from slim.config.transforms import (
    ClsResizeImgArgs,
    DecodeImageArgs,
    DetResizeForTestArgs,
    NormalizeImageArgs,
    RecResizeImgArgs,
)
from slim.dictionaries import labels_for
from slim.errors import ConfigError
from slim.spec import InputSpec, ModelSpec

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# Nominal side of a page where the config gives none: PaddleOCR's smallest evaluation side.
_PAGE_SIDE = 736


def model_spec(config: Config, notices: Callable[[str], None] | None = None) -> ModelSpec:
    """The model a configuration describes, without its weights.

    The input comes from Eval's transforms, then Train's, then PaddleOCR's defaults (cls 3x48x192,
    rec 3x32x320, det ImageNet mean and deviation).

    Raises:
        ConfigError: no Architecture, or an input size the kind cannot have.
        InputError: the dictionary cannot be found or read.
    """
    arch = config.architecture
    return ModelSpec(
        name=config.name,
        kind=arch.model_type,
        arch=arch.arch(),
        labels=labels_for(config, notices),
        input={"cls": _cls_input, "rec": _rec_input, "det": _det_input}[arch.model_type](config),
        post=_post(config),
    )


def _step(config: Config, name: str) -> Section | None:
    for section in (config.Eval, config.Train):
        step = section.dataset.transform(name) if section else None
        if step is not None:
            return step
    return None


def _order(config: Config) -> str:
    decode = _step(config, "DecodeImage")
    order = decode.img_mode if isinstance(decode, DecodeImageArgs) else "BGR"
    if order == "GRAY":
        raise ConfigError(
            "DecodeImage.img_mode is GRAY, the v2.0 models read three channels",
            where=config.source,
            remedy="use BGR",
        )
    return order


def _cls_input(config: Config) -> InputSpec:
    resize = _step(config, "ClsResizeImg")
    shape = resize.image_shape if isinstance(resize, ClsResizeImgArgs) else (3, 48, 192)
    return InputSpec(height=shape[1], width=shape[2], channels=_three(shape, config), order=_order(config))


def _rec_input(config: Config) -> InputSpec:
    resize = _step(config, "RecResizeImg")
    shape = resize.image_shape if isinstance(resize, RecResizeImgArgs) else (3, 32, 320)
    if shape[1] != 32:
        raise ConfigError(
            f"RecResizeImg.image_shape has height {shape[1]}, the v2.0 recognizers read 32 pixels",
            where=config.source,
            remedy="give [3, 32, width]",
        )
    return InputSpec(
        height=32, width=shape[2], channels=_three(shape, config), order=_order(config), dynamic_width=True
    )


def _three(shape: tuple[int, ...], config: Config) -> int:
    if shape[0] != 3:
        raise ConfigError(
            f"image_shape has {shape[0]} channels, the v2.0 models read 3",
            where=config.source,
            remedy="give [3, height, width]",
        )
    return 3


def _det_input(config: Config) -> InputSpec:
    resize, norm = _step(config, "DetResizeForTest"), _step(config, "NormalizeImage")
    shape = resize.image_shape if isinstance(resize, DetResizeForTestArgs) else None
    height, width = shape or (_PAGE_SIDE, _PAGE_SIDE)
    given = norm if isinstance(norm, NormalizeImageArgs) else NormalizeImageArgs()
    limit = resize if isinstance(resize, DetResizeForTestArgs) else DetResizeForTestArgs()
    if limit.resize_long or limit.limit_type == "resize_long":
        raise ConfigError(
            "DetResizeForTest.resize_long is not supported",
            where=config.source,
            remedy="give limit_side_len with limit_type max or min",
        )
    return InputSpec(
        height=height,
        width=width,
        mean=given.mean or _IMAGENET_MEAN,
        std=given.std or _IMAGENET_STD,
        scale=given.scale or 1.0 / 255.0,
        order=_order(config),
        dynamic_width=True,
        dynamic_height=True,
        limit_side=limit.limit_side_len or (960 if (limit.limit_type or "max") == "max" else 736),
        limit_type=limit.limit_type or "max",
    )


def _post(config: Config) -> dict[str, Any]:
    if config.kind != "det":
        return {}
    post = (
        config.PostProcess
        if isinstance(config.PostProcess, DBPostProcess)
        else DBPostProcess(name="DBPostProcess")
    )
    keys = ("thresh", "box_thresh", "max_candidates", "unclip_ratio")
    found = {key: getattr(post, key) for key in keys}
    if post.use_dilation:
        found["use_dilation"] = True
    if post.score_mode != "fast":
        found["score_mode"] = post.score_mode
    return found

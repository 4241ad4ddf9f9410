"""From the Architecture section of a PaddleOCR config to a net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn

from slim.arch import heads, mobilenet_v3, necks, resnet_vd, sequential
from slim.errors import UnsupportedModel

# Keys that only steer initialisation or training; they do not change the net's shape.
_TRAINING_ONLY = frozenset({"fc_decay", "pretrained", "use_ssld", "use_sync_bn"})


class Net(nn.Layer):
    """Backbone, neck and head, so that parameter names are those of the official checkpoints.

    cls: N x 3 x H x W -> N x classes. rec: N x 3 x 32 x W -> N x W/4 x classes. det: see DBHead.
    """

    def __init__(self, backbone: nn.Layer, neck: nn.Layer | None, head: nn.Layer) -> None:
        super().__init__()
        self.backbone = backbone
        if neck is not None:
            self.neck = neck
        self.has_neck = neck is not None
        self.head = head

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.backbone(x)
        if self.has_neck:
            x = self.neck(x)
        return self.head(x)


def build_net(arch: Mapping[str, Any], classes: int) -> Net:
    """Build the net an Architecture section describes, with random weights.

    Args:
        arch: ``model_type``, ``algorithm``, ``Backbone``, ``Neck``, ``Head`` as in PaddleOCR configs.
        classes: width of the last layer (ignored for det).
    Raises:
        UnsupportedModel: naming the part that is not known, with the known ones.
    """
    kind = str(arch.get("model_type", ""))
    if kind not in ("cls", "rec", "det"):
        raise UnsupportedModel(f"Architecture.model_type is {kind!r}", remedy="use cls, rec or det")
    if arch.get("Transform"):
        raise UnsupportedModel(
            f"Architecture.Transform {arch['Transform'].get('name')!r} is not supported",
            remedy="set it to null",
        )
    backbone = _backbone(kind, _section(arch, "Backbone"), int(arch.get("in_channels", 3)))
    neck = _neck(_section(arch, "Neck"), backbone.out_channels) if arch.get("Neck") else None
    width = neck.out_channels if neck is not None else backbone.out_channels
    return Net(backbone, neck, _head(_section(arch, "Head"), width, classes))


def _section(arch: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = arch.get(name)
    if not isinstance(section, Mapping) or not section.get("name"):
        raise UnsupportedModel(f"Architecture.{name} has no name")
    return {k: v for k, v in section.items() if k not in _TRAINING_ONLY}


def _call(build: Any, section: str, args: Mapping[str, Any]) -> nn.Layer:
    try:
        return build()
    except TypeError as error:
        raise UnsupportedModel(
            f"Architecture.{section} arguments {dict(args)} do not fit ({error})"
        ) from error


def _backbone(kind: str, section: dict[str, Any], in_channels: int) -> nn.Layer:
    name = section.pop("name")
    if name == "MobileNetV3":
        return _call(lambda: mobilenet_v3.build(kind, section, in_channels), "Backbone", section)
    if name in ("ResNet", "ResNet_vd") and kind == "det":
        return _call(lambda: resnet_vd.build(section, in_channels), "Backbone", section)
    if name == "Layers":
        return _call(lambda: sequential.build(kind, section, in_channels), "Backbone", section)
    raise UnsupportedModel(
        f"Architecture.Backbone {name!r} is not known for {kind}",
        remedy="use MobileNetV3 or Layers (cls, rec, det), or ResNet (det)",
    )


def _neck(section: dict[str, Any], in_channels: Any) -> nn.Layer:
    name = section.pop("name")
    known = {"SequenceEncoder": necks.SequenceEncoder, "DBFPN": necks.DBFPN}
    if name not in known:
        raise UnsupportedModel(f"Architecture.Neck {name!r} is not known", remedy=f"use {' or '.join(known)}")
    return _call(lambda: known[name](in_channels, **section), "Neck", section)


def _head(section: dict[str, Any], in_channels: int, classes: int) -> nn.Layer:
    name = section.pop("name")
    if name == "ClsHead":
        section.pop("class_dim", None)
        return _call(lambda: heads.ClsHead(in_channels, classes, **section), "Head", section)
    if name == "CTCHead":
        return _call(lambda: heads.CTCHead(in_channels, classes, **section), "Head", section)
    if name == "DBHead":
        return _call(lambda: heads.DBHead(in_channels, **section), "Head", section)
    raise UnsupportedModel(
        f"Architecture.Head {name!r} is not known", remedy="use ClsHead, CTCHead or DBHead"
    )

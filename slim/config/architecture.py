"""PaddleOCR's Architecture, Loss, PostProcess and Metric sections for the nets the toolkit builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from slim.config.fields import Above0, Flag, From0, Number, Positive, Section, Share
from slim.config.layers import Layers

# Parts of later generations, so that a message can say more than "unknown".
LATER = {
    "MobileNetV1Enhance": "PP-OCRv2 / v3",
    "PPLCNetV3": "PP-OCRv4",
    "PPLCNetV4": "PP-OCRv5",
    "PPHGNet_small": "PP-OCRv4",
    "PPHGNetV2_B4": "PP-OCRv5",
    "SVTRNet": "PP-OCRv3",
    "LCNet": "PP-OCRv3",
    "RSEFPN": "PP-OCRv3",
    "LKPAN": "PP-OCRv3",
    "MultiHead": "PP-OCRv3 / v4",
    "PFHeadLocal": "PP-OCRv4",
    "CTCLoss_distill": "PP-OCRv2",
    "CombinedLoss": "PP-OCRv2 / v3",
    "DistillationMetric": "PP-OCRv2 / v3",
    "DistillationCTCLabelDecode": "PP-OCRv2 / v3",
    "DistillationDBPostProcess": "PP-OCRv2 / v3",
}

Strides = Annotated[tuple[Positive, ...], Field(min_length=4, max_length=4)]


class MobileNetV3(Section):
    """Backbone of the mobile models; what is left out is decided by the kind of the model."""

    name: Literal["MobileNetV3"]
    model_name: Literal["small", "large"] | None = None
    scale: Annotated[Number, Field(gt=0, le=4)] | None = Field(default=None, description="width multiplier")
    small_stride: Strides | None = None
    large_stride: Strides | None = None
    disable_se: Flag | None = Field(default=None, description="build without squeeze-and-excitation")


class ResNetVd(Section):
    """Backbone of the server detector; files of some releases call it ResNet."""

    name: Literal["ResNet_vd", "ResNet"]
    layers: Literal[18, 34, 50, 101, 152, 200] | None = None
    disable_se: Flag | None = None


class SequenceEncoder(Section):
    name: Literal["SequenceEncoder"]
    encoder_type: Literal["rnn", "reshape"] = "rnn"
    hidden_size: Positive = 48


class DBFPN(Section):
    name: Literal["DBFPN"]
    out_channels: Positive = 256


class ClsHead(Section):
    name: Literal["ClsHead"]
    class_dim: Positive = 2


class CTCHead(Section):
    name: Literal["CTCHead"]
    fc_decay: From0 | None = Field(default=None, description="L2 decay of the last layer, training only")
    mid_channels: Positive | None = None


class DBHead(Section):
    name: Literal["DBHead"]
    k: Positive = Field(default=50, description="steepness of the differentiable step function")


AnyBackbone = Annotated[MobileNetV3 | ResNetVd | Layers, Field(discriminator="name")]
AnyNeck = Annotated[SequenceEncoder | DBFPN, Field(discriminator="name")]
AnyHead = Annotated[ClsHead | CTCHead | DBHead, Field(discriminator="name")]


class ArchitectureSection(Section):
    """What the net is; the names of its weights follow from it."""

    model_type: Literal["cls", "rec", "det"]
    algorithm: Literal["CLS", "CRNN", "DB"] | None = None
    Transform: None = Field(default=None, description="the v2.0 models have none")
    Backbone: AnyBackbone
    Neck: AnyNeck | None = None
    Head: AnyHead

    @model_validator(mode="before")
    @classmethod
    def _one_net(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and ("Models" in data or data.get("algorithm") == "Distillation"):
            raise ValueError(
                "describes a distillation of several nets (PP-OCRv2 and later), must be one v2.0 net"
            )
        return data

    def arch(self) -> dict[str, Any]:
        """The section as plain data for building the net, without what only steers training."""
        plain = self.plain()
        plain.setdefault("Transform", None)
        plain.setdefault("Neck", None)
        plain["Head"].pop("fc_decay", None)
        if isinstance(self.Backbone, ResNetVd):
            plain["Backbone"].pop("disable_se", None)  # a ResNet has none, PaddleOCR ignores the key
        return plain


class ClsLoss(Section):
    name: Literal["ClsLoss"]


class CTCLoss(Section):
    name: Literal["CTCLoss"]
    use_focal_loss: Flag = False


class DBLoss(Section):
    name: Literal["DBLoss"]
    balance_loss: Flag = True
    main_loss_type: Literal["DiceLoss", "CrossEntropy", "BCELoss", "Euclidean", "MaskL1Loss"] = "DiceLoss"
    alpha: From0 = 5.0
    beta: From0 = 10.0
    ohem_ratio: Above0 = 3.0
    eps: Above0 = 1e-6


class ClsPostProcess(Section):
    name: Literal["ClsPostProcess"]


class CTCLabelDecode(Section):
    name: Literal["CTCLabelDecode"]


class DBPostProcess(Section):
    name: Literal["DBPostProcess"]
    thresh: Share = 0.3
    box_thresh: Share = 0.6
    max_candidates: Positive = 1000
    unclip_ratio: Above0 = 1.5
    use_dilation: Flag = False
    score_mode: Literal["fast", "slow"] = "fast"


class ClsMetric(Section):
    name: Literal["ClsMetric"]
    main_indicator: Literal["acc"] = "acc"


class RecMetric(Section):
    name: Literal["RecMetric"]
    main_indicator: Literal["acc", "norm_edit_dis"] = "acc"
    is_filter: Flag = Field(default=False, description="compare letters and digits only, in lower case")
    ignore_space: Flag = True


class DetMetric(Section):
    name: Literal["DetMetric"]
    main_indicator: Literal["hmean", "precision", "recall"] = "hmean"


AnyLoss = Annotated[ClsLoss | CTCLoss | DBLoss, Field(discriminator="name")]
AnyPostProcess = Annotated[ClsPostProcess | CTCLabelDecode | DBPostProcess, Field(discriminator="name")]
AnyMetric = Annotated[ClsMetric | RecMetric | DetMetric, Field(discriminator="name")]

# What belongs together, by Architecture.model_type.
_Parts = dict[str, tuple[type[Section], ...]]
FITTING: dict[str, _Parts] = {
    "cls": {
        "Backbone": (MobileNetV3, Layers),
        "Neck": (),
        "Head": (ClsHead,),
        "Loss": (ClsLoss,),
        "PostProcess": (ClsPostProcess,),
        "Metric": (ClsMetric,),
    },
    "rec": {
        "Backbone": (MobileNetV3, Layers),
        "Neck": (SequenceEncoder,),
        "Head": (CTCHead,),
        "Loss": (CTCLoss,),
        "PostProcess": (CTCLabelDecode,),
        "Metric": (RecMetric,),
    },
    "det": {
        "Backbone": (MobileNetV3, ResNetVd, Layers),
        "Neck": (DBFPN,),
        "Head": (DBHead,),
        "Loss": (DBLoss,),
        "PostProcess": (DBPostProcess,),
        "Metric": (DetMetric,),
    },
}

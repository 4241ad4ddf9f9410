"""The steps of ``dataset.transforms``: each entry is one name with its arguments (or none)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_serializer

from slim.config.fields import (
    Above0,
    Count,
    Flag,
    Fraction,
    ImageShape,
    Number,
    OneOf,
    Pair,
    PerChannel,
    Positive,
    Section,
    Share,
    Sides,
    Text,
)

# Random changes of training images that our own augmentation stands for.
AUGMENTATIONS = ("RecAug", "BaseDataAugmentation", "RandAugment", "IaaAugment")
# Steps whose work is done elsewhere: labels by the dataset, layout by the tensor builder.
BUILT_IN = ("CTCLabelEncode", "ClsLabelEncode", "DetLabelEncode", "ToCHWImage", "KeepKeys")


class NoArguments(Section):
    """A step that takes none."""


class DecodeImageArgs(Section):
    img_mode: Literal["BGR", "RGB", "GRAY"] = Field(
        default="BGR", description="channel order of the decoded image"
    )
    channel_first: Flag = False
    ignore_orientation: Flag | None = None


class NormalizeImageArgs(Section):
    scale: Annotated[Fraction, Field(gt=0)] | None = Field(
        default=None, description="factor applied to pixels first, for example 1./255."
    )
    mean: PerChannel | None = None
    std: Annotated[tuple[Above0, ...], Field(min_length=3, max_length=3)] | None = None
    order: Literal["hwc", "chw"] | None = None


class KeepKeysArgs(Section):
    keep_keys: tuple[Text, ...]


class LineAugmentArgs(Section):
    """RecAug and BaseDataAugmentation: chances of each change."""

    use_tia: Flag | None = None
    aug_prob: Share | None = None
    tia_prob: Share | None = None
    crop_prob: Share | None = None
    reverse_prob: Share | None = None
    noise_prob: Share | None = None
    jitter_prob: Share | None = None
    blur_prob: Share | None = None
    hsv_aug_prob: Share | None = None


class RandAugmentArgs(Section):
    prob: Share | None = None


class RecResizeImgArgs(Section):
    image_shape: ImageShape
    infer_mode: Flag | None = None
    padding: Flag | None = None


class ClsResizeImgArgs(Section):
    image_shape: ImageShape


class DetResizeForTestArgs(Section):
    image_shape: Sides | None = Field(default=None, description="fixed height, width")
    keep_ratio: Flag | None = None
    limit_side_len: Positive | None = None
    limit_type: Literal["min", "max", "resize_long"] | None = None
    resize_long: Positive | None = None


class IaaArguments(Section):
    p: Share | None = None
    rotate: Pair | None = None
    size: Pair | None = None
    scale_limit: Pair | None = None


class IaaStep(Section):
    """Fliplr, Resize are the older names of HorizontalFlip, RandomScale."""

    type: Literal["Fliplr", "HorizontalFlip", "Affine", "Resize", "RandomScale"]
    args: IaaArguments | None = None


class IaaAugmentArgs(Section):
    augmenter_args: tuple[IaaStep, ...] | None = None


class EastRandomCropDataArgs(Section):
    size: Sides = (640, 640)
    max_tries: Positive = 10
    min_crop_side_ratio: Share = 0.1
    keep_ratio: Flag = True


class MakeBorderMapArgs(Section):
    shrink_ratio: Annotated[Number, Field(gt=0, lt=1)] = 0.4
    thresh_min: Share = 0.3
    thresh_max: Share = 0.7


class MakeShrinkMapArgs(Section):
    shrink_ratio: Annotated[Number, Field(gt=0, lt=1)] = 0.4
    min_text_size: Count = 8


class ResizeArgs(Section):
    size: Sides


class Transform(OneOf):
    """One entry of a transforms list; exactly one of the fields is set.

    >>> Transform.model_validate({"RecResizeImg": {"image_shape": [3, 32, 320]}}).name
    'RecResizeImg'
    >>> Transform.model_validate({"RecAug": None}).name
    'RecAug'
    """

    ENTRY: ClassVar[str] = "steps"

    DecodeImage: DecodeImageArgs | None = None
    NormalizeImage: NormalizeImageArgs | None = None
    ToCHWImage: NoArguments | None = None
    KeepKeys: KeepKeysArgs | None = None
    CTCLabelEncode: NoArguments | None = None
    ClsLabelEncode: NoArguments | None = None
    DetLabelEncode: NoArguments | None = None
    RecAug: LineAugmentArgs | None = None
    BaseDataAugmentation: LineAugmentArgs | None = None
    RandAugment: RandAugmentArgs | None = None
    RecResizeImg: RecResizeImgArgs | None = None
    ClsResizeImg: ClsResizeImgArgs | None = None
    DetResizeForTest: DetResizeForTestArgs | None = None
    Resize: ResizeArgs | None = None
    IaaAugment: IaaAugmentArgs | None = None
    EastRandomCropData: EastRandomCropDataArgs | None = None
    MakeBorderMap: MakeBorderMapArgs | None = None
    MakeShrinkMap: MakeShrinkMapArgs | None = None

    @model_serializer(mode="plain")
    def _as_written(self) -> dict[str, Any]:
        return {self.name: self.args.plain() or None}

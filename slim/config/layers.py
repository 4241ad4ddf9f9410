"""``Backbone: {name: Layers, layers: [...]}``: a net of one's own, written out layer by layer."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_serializer

from slim.config.fields import OneOf, Positive, Section, Sides

MOST = 1000


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"is {value}, must be odd: the map keeps its size but for the stride")
    return value


def _some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    # A bound on the length would also speak of a list whose only entry is wrong.
    if not 1 <= len(value) <= MOST:
        raise ValueError(f"has {len(value)} layers, must have 1 to {MOST}")
    return value


def _both(value: Any) -> Any:
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


Width = Annotated[Positive, Field(le=8192)]
Kernel = Annotated[Positive, Field(le=31), AfterValidator(_odd)]
Stride = Annotated[Sides, BeforeValidator(_both)]
Activation = Literal["relu", "hardswish"]


class ConvBNArgs(Section):
    out_channels: Width
    kernel_size: Kernel = Field(default=3, description="odd")
    stride: Stride = Field(default=(1, 1), description="of both sides, or [height, width]")
    groups: Positive = 1
    act: Activation | None = "relu"


class DepthwiseConvBNArgs(Section):
    kernel_size: Kernel = 3
    stride: Stride = (1, 1)
    act: Activation | None = "relu"


class SqueezeExciteArgs(Section):
    reduction: Positive = 4


class PoolArgs(Section):
    kernel_size: Stride = Field(
        default=(2, 2), description="odd sides are padded by half; an even one needs the same stride"
    )
    stride: Stride | None = Field(default=None, description="null: the kernel's sides")


class ResidualArgs(Section):
    layers: Annotated[tuple[LayerEntry, ...], AfterValidator(_some)]
    act: Activation | None = Field(default="relu", description="after the sum")


class OutputMark(Section):
    """The map at this place goes to the neck; a detector needs four."""


class LayerEntry(OneOf):
    """One entry of a list of layers; exactly one of the fields is set.

    >>> LayerEntry.model_validate({"ConvBN": {"out_channels": 8, "stride": 2}}).plain()
    {'ConvBN': {'out_channels': 8, 'stride': [2, 2]}}
    """

    ENTRY: ClassVar[str] = "layers"

    ConvBN: ConvBNArgs | None = Field(default=None, description="conv without bias, BatchNorm, activation")
    DepthwiseConvBN: DepthwiseConvBNArgs | None = Field(default=None, description="one filter a channel")
    SqueezeExcite: SqueezeExciteArgs | None = Field(default=None, description="gate of each channel")
    MaxPool: PoolArgs | None = None
    AvgPool: PoolArgs | None = None
    Residual: ResidualArgs | None = Field(
        default=None, description="adds its input to what its layers give; a 1x1 conv where shapes differ"
    )
    Output: OutputMark | None = Field(default=None, description="det: one of the four maps of the neck")

    @model_serializer(mode="plain")
    def _as_written(self) -> dict[str, Any]:
        return {self.name: self.args.model_dump(mode="json", exclude_defaults=True) or None}


class Layers(Section):
    """A backbone of one's own: what is written here is built, in this order.

    ``layers`` takes the place of PaddleOCR's class; weights are those of a checkpoint that ``slim train``
    wrote for the same list.
    """

    name: Literal["Layers"]
    layers: Annotated[tuple[LayerEntry, ...], AfterValidator(_some)]

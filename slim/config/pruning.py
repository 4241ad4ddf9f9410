"""The Prune section: what is cut, how much at most, and the bounds of single groups."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from slim.config.fields import Above0, Count, Number, Positive, Section, Text, as_integer
from slim.config.ours import Points, TrainRecipe

Cut = Annotated[Number, Field(gt=0.0, le=0.9)]
Part = Annotated[Number, Field(ge=0.0, le=0.9)]
FASTEST = "fastest"


def _align(value: Any) -> Any:
    number = as_integer(value)
    if value == FASTEST or (type(number) is int and number >= 1):
        return number
    raise ValueError(f"is {value!r}, must be at least 1, or {FASTEST}")


Align = Annotated[
    int | Literal["fastest"],
    PlainValidator(_align),
    WithJsonSchema({"anyOf": [{"type": "integer", "ge": 1}, {"const": FASTEST}]}),
]
BUDGETS = ("flops", "params", "nb_bytes", "latency", "max_drop")
DEFAULT_FLOPS = 0.1
_OF_CURVES = ("params", "nb_bytes", "latency", "max_drop", "sensitivities")
"""What method ratio must not be given: bounds it would not hold, and curves it would not read."""


class PruneRule(Section):
    """Bounds of the groups that ``path`` names; for each key the last rule that gives it counts.

    >>> PruneRule(path="backbone.conv1.*", most=0.25).least is None
    True
    """

    path: Text = Field(description="glob of group names or of layers that make the group's channels")
    least: Part | None = Field(default=None, description="share of the channels that must go; one stays")
    most: Part | None = Field(default=None, description="share of the channels that may go")
    align: Positive | None = Field(default=None, description="kept channels are a multiple of this")

    @model_validator(mode="after")
    def _says_something(self) -> PruneRule:
        if (self.least, self.most, self.align) == (None, None, None):
            raise ValueError("bounds nothing, give least, most or align")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"has least {self.least:g} above most {self.most:g}")
        return self


class PruneSection(Section):
    """Filter pruning over whole dependency groups."""

    criterion: Literal["fpgm", "l1", "l2", "bn_scale", "taylor"] = Field(
        default="fpgm", description="which filters matter least"
    )
    gradient_batches: Positive = Field(
        default=8, description="criterion taylor: batches of 16 lines whose gradients are taken"
    )
    method: Literal["ratio", "sensitivity"] = Field(
        default="sensitivity",
        description="the same share everywhere, or by measured sensitivity within the budgets",
    )
    ratio: Cut = Field(default=0.1, description="method ratio: share of the filters removed in each group")
    flops: Cut | None = Field(
        default=None,
        description=f"share of the multiply-adds to remove; {DEFAULT_FLOPS} where no budget is given",
    )
    params: Cut | None = Field(default=None, description="share of the parameters to remove; null: any")
    nb_bytes: Positive | None = Field(
        default=None,
        description="most bytes of the ARM file, int8 where the recipe has a Quant section; null: any",
    )
    latency: Annotated[Above0, Field(lt=1.0)] | None = Field(
        default=None,
        description="most time in Paddle-Lite x86 as a share of the unpruned file's, measured; null: any",
    )
    max_drop: Points | None = Field(
        default=None, description="most points of metric lost before finetuning; null: any"
    )
    ratios: Annotated[tuple[Cut, ...], Field(min_length=1)] = Field(
        default=(0.05, 0.1, 0.2, 0.3, 0.4),
        description="shares tried in each group when sensitivity is measured",
    )
    refine: Count = Field(
        default=0, description="further shares measured in each group, where its curve bends most"
    )
    sensitivities: Text | None = Field(
        default=None,
        description="curves measured before: a sensitivity.json, or PaddleSlim's sen.pickle; null: measure",
    )
    images: Positive = Field(default=300, description="lines scored for each sensitivity measurement")
    align: Align = Field(
        default=1,
        description="kept channels are a multiple of this; fastest: 1, 2, 4 or 8, timed in Paddle-Lite x86",
    )
    rules: tuple[PruneRule, ...] = Field(default=(), description="bounds of single groups")
    exclude: tuple[Text, ...] = Field(
        default=(), description="globs of layers that keep all channels they make; what they read may be cut"
    )
    rounds: Positive = Field(
        default=1, description="cut and finetune so many times, each time a part of the way to the budgets"
    )
    bn_batches: Count = Field(
        default=20, description="batches by which BatchNorm statistics are corrected after the cut"
    )
    Finetune: TrainRecipe | None = Field(default=None, description="training after the cut; null: none")

    @field_validator("ratios")
    @classmethod
    def _rising(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if list(ratios) != sorted(set(ratios)):
            raise ValueError(f"is {list(ratios)}, must rise from entry to entry")
        return ratios

    @model_validator(mode="wrap")
    @classmethod
    def _some_budget(cls, data: Any, made: ModelWrapValidatorHandler[PruneSection]) -> PruneSection:
        """Without any budget a tenth of the multiply-adds goes; ``flops: null`` says that none is meant."""
        if not isinstance(data, dict) or any(key in data for key in BUDGETS):
            return made(data)
        section = made({**data, "flops": DEFAULT_FLOPS})
        section.model_fields_set.discard("flops")  # nobody asked for it: see `unused`
        return section

    @model_validator(mode="after")
    def _budget(self) -> PruneSection:
        if self.method == "sensitivity" and all(getattr(self, key) is None for key in BUDGETS):
            raise ValueError(f"has method sensitivity and no budget, give one of {', '.join(BUDGETS)}")
        unheld = [key for key in _OF_CURVES if getattr(self, key) is not None]
        if self.rounds > 1 and self.sensitivities is not None:
            raise ValueError("has sensitivities and several rounds: curves of a file are of the whole net")
        if self.method == "ratio" and unheld:
            raise ValueError(f"has method ratio, which holds no {unheld[0]}: use method sensitivity")
        return self

    def unused(self) -> list[str]:
        """Keys that were given and change nothing with this method; a recipe built on another may have some.

        >>> PruneSection(method="ratio", flops=0.2).unused(), PruneSection(ratio=0.3).unused()
        (['Prune.flops'], ['Prune.ratio'])
        >>> PruneSection(method="ratio", flops=None).unused(), PruneSection().unused()
        ([], [])
        """
        others = ("flops", "ratios", "refine") if self.method == "ratio" else ("ratio",)
        given = [key for key in others if key in self.model_fields_set]
        return [f"Prune.{key}" for key in given if getattr(self, key) not in (None, 0)]

"""Our own sections but Prune: Quant, Export, Check, Calibration, Run, and the recipe of a training run."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from slim.config.fields import (
    Above0,
    Count,
    Flag,
    From0,
    Integer,
    Number,
    Positive,
    Section,
    Share,
    Text,
)
from slim.config.paddleocr import DatasetSection

Open01 = Annotated[Number, Field(gt=0.0, lt=1.0)]
Points = Annotated[Number, Field(ge=0.0, le=100.0)]
Bits = Annotated[Integer, Field(ge=2, le=8)]
Target = Literal["arm", "x86"]
Stage = Literal["prune", "quant", "export", "check"]
STAGES: tuple[Stage, ...] = ("prune", "quant", "export", "check")


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice)} twice, each may stand once")
    return values


class TrainRecipe(Section):
    """How a net is trained or finetuned. Its length is given by ``steps`` or by ``epochs``, one of them.

    >>> TrainRecipe(epochs=2, warmup_epochs=0.5).in_steps(40).warmup_steps
    20
    """

    steps: Positive | None = Field(default=None, description="optimizer steps")
    epochs: Positive | None = Field(
        default=None, description="passes over the training set, instead of steps"
    )
    batch_size: Positive = Field(default=32, description="images a step")
    lr: Above0 = Field(default=0.001, description="peak learning rate")
    schedule: Literal["cosine", "constant", "linear"] = Field(
        default="cosine", description="course of the rate after the warm-up; cosine and linear end at 0"
    )
    warmup_steps: Count = Field(default=0, description="steps of linear warm-up from 0 to lr")
    warmup_epochs: From0 | None = Field(default=None, description="the warm-up in epochs, instead of steps")
    optimizer: Literal["adam", "adamw", "sgd", "momentum"] = Field(default="adam", description="update rule")
    beta1: Annotated[Number, Field(ge=0.0, lt=1.0)] = Field(
        default=0.9, description="adam: decay of the mean"
    )
    beta2: Annotated[Number, Field(ge=0.0, lt=1.0)] = Field(
        default=0.999, description="adam: decay of the square"
    )
    momentum: Annotated[Number, Field(ge=0.0, lt=1.0)] = Field(
        default=0.9, description="momentum: decay of the velocity"
    )
    l2: From0 = Field(default=0.0, description="L2 decay of the weights (adamw: decoupled)")
    clip_norm: Above0 | None = Field(default=None, description="largest global norm of the gradient")
    eval_every: Positive | None = Field(
        default=None, description="steps between two evaluations; null: at the end"
    )
    eval_start: Count = Field(default=0, description="no evaluation before this step")
    save_every: Positive | None = Field(
        default=None, description="steps between two checkpoints; null: at the end"
    )
    save_every_epochs: Positive | None = Field(
        default=None, description="the same in epochs, instead of steps"
    )
    log_every: Positive = Field(default=10, description="steps between two lines of the log")
    distill: Share = Field(default=0.0, description="weight of the teacher's outputs in the loss")
    temperature: Above0 = Field(default=1.0, description="softness of the teacher's outputs")
    augment: Flag = Field(default=True, description="change training images at random")
    width: Annotated[Integer, Field(ge=8, le=4096)] | None = Field(
        default=None,
        description="training width of rec lines in pixels, null: the model's; side of the square parts that "
        "det pages are cut into, null: 640",
    )
    shrink_loss: Literal["bce", "dice"] | None = Field(
        default=None,
        description="det: loss of the shrink map; bce (also null): cross entropy with hard negatives",
    )
    freeze_bn: Flag = Field(default=False, description="keep BatchNorm statistics as they are")

    @model_validator(mode="after")
    def _one_length(self) -> TrainRecipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("needs exactly one of steps and epochs, the other null")
        if self.warmup_epochs is not None and self.warmup_steps:
            raise ValueError("has both warmup_steps and warmup_epochs, give one")
        if self.save_every_epochs is not None and self.save_every is not None:
            raise ValueError("has both save_every and save_every_epochs, give one")
        return self

    def in_steps(self, steps_per_epoch: int) -> TrainRecipe:
        """The same recipe with every length in optimizer steps, once the data set's length is known."""
        per_epoch = max(1, steps_per_epoch)
        warmup, save = self.warmup_epochs, self.save_every_epochs
        return self.model_copy(
            update={
                "steps": self.steps if self.epochs is None else self.epochs * per_epoch,
                "epochs": None,
                "warmup_steps": self.warmup_steps if warmup is None else ceil(warmup * per_epoch),
                "warmup_epochs": None,
                "save_every": self.save_every if save is None else save * per_epoch,
                "save_every_epochs": None,
            }
        )


class QuantRecipe(TrainRecipe):
    """A TrainRecipe with other defaults: quantization moves a trained net by little, and should not unlearn.

    Half of the loss is the distance to the float original's outputs; BatchNorm keeps its statistics, which
    are folded into int8 weights at the end.
    """

    distill: Share = Field(default=0.5, description="weight of the float original's outputs in the loss")
    freeze_bn: Flag = Field(default=True, description="keep BatchNorm statistics as they are")


class QuantRule(Section):
    """Layers by type or by path: quantized, or kept float; a later rule wins over an earlier one.

    >>> QuantRule(path="head.*", quantize=False).path
    'head.*'
    """

    type: Literal["Conv2D", "Linear"] | None = Field(default=None, description="layer type that is meant")
    path: Text | None = Field(default=None, description="glob of layer paths that are meant")
    quantize: Flag = Field(default=True, description="computed in integers; false: kept float")
    weight_bits: Bits | None = Field(default=None, description="bits of the weights; null: as elsewhere")
    activation_bits: Bits | None = Field(default=None, description="bits of the inputs; null: as elsewhere")

    @model_validator(mode="after")
    def _one_way(self) -> QuantRule:
        if (self.type is None) == (self.path is None):
            raise ValueError("needs exactly one of type and path")
        if not self.quantize and (self.weight_bits, self.activation_bits) != (None, None):
            raise ValueError("keeps layers float and gives bits, leave them out")
        return self


class QuantSection(Section):
    """Int8 quantization, learned (qat) or calibrated (ptq)."""

    mode: Literal["qat", "ptq"] = Field(
        default="qat", description="learned with the net, or calibrated after it"
    )
    layers: Annotated[tuple[Literal["Conv2D", "Linear"], ...], Field(min_length=1)] = Field(
        default=("Conv2D", "Linear"), description="layer types that are quantized"
    )
    exclude: tuple[Text, ...] = Field(default=(), description="globs of layer paths that stay float")
    rules: tuple[QuantRule, ...] = Field(
        default=(), description="layers by type or path, read after layers and exclude; the later rule wins"
    )
    weight_bits: Bits = Field(default=8, description="bits of the weights, one scale a channel")
    activation_bits: Bits = Field(default=8, description="bits of the activations, one scale a tensor")
    clip: Literal["pact", "lsq", "none"] = Field(
        default="pact",
        description="qat: learn a bound of each activation (PACT), its step (LSQ), or neither",
    )
    lstm_weights: Literal["int8", "float"] = Field(
        default="int8", description="LSTM matrices, whose arithmetic is float: as int8, one scale each"
    )
    algo: Literal["absmax", "moving_average", "percentile", "hist", "mse", "kl", "auto"] = Field(
        default="mse", description="how calibration chooses the clip of an activation"
    )
    equalize: Flag = Field(
        default=False, description="even out the channels between two layers with nothing but a ReLU between"
    )
    rounding: Literal["nearest", "adaround"] = Field(
        default="nearest", description="how calibration rounds weights; adaround: learned layer by layer"
    )
    bias_correction: Flag = Field(
        default=False, description="take each channel's mean error off its bias after calibration"
    )
    moving_rate: Open01 = Field(
        default=0.9, description="qat: memory of the moving average of activation ranges"
    )
    images: Positive = Field(
        default=256, description="lines that calibrate activation ranges, and that the accuracy search scores"
    )
    max_drop: Points | None = Field(
        default=None,
        description="most accuracy the shipped file may lose, else layers fall back to float; null: any",
    )
    relative_drop: Flag = Field(
        default=False, description="max_drop is percent of the original's accuracy, not points"
    )
    analyze: Flag = Field(default=False, description="measure each layer's effect on the shipped file")
    Finetune: QuantRecipe | None = Field(default=None, description="qat: the training; null: calibrate only")

    @model_validator(mode="before")
    @classmethod
    def _pact(cls, data: Any) -> Any:
        """``pact: true`` and ``false`` are what ``clip: pact`` and ``none`` were called before."""
        if not isinstance(data, dict) or "pact" not in data:
            return data
        if type(data["pact"]) is not bool:
            raise ValueError(f"has pact {data['pact']!r}, must be true or false (now clip: pact or none)")
        if "clip" in data:
            raise ValueError("has both clip and pact, give clip")
        rest = {key: value for key, value in data.items() if key != "pact"}
        return {**rest, "clip": "pact" if data["pact"] else "none"}

    @field_validator("layers")
    @classmethod
    def _each_once(cls, layers: tuple[str, ...]) -> tuple[str, ...]:
        return _unique(layers)


class ExportSection(Section):
    """Paddle-Lite files."""

    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = Field(
        default=("arm",), description="processors to write a file for"
    )
    timeout: Annotated[Number, Field(gt=0.0, le=3600.0)] = Field(
        default=120.0, description="seconds opt may take"
    )
    dynamic_batch: Flag = Field(default=True, description="any number of images at once; false: one")
    compact: Flag = Field(default=True, description="drop from the .nb what no runtime reads")
    lstm_weights: Literal["auto", "int8", "float"] = Field(
        default="auto",
        description="LSTM matrices in the ARM file; auto: as Quant.lstm_weights says, float for float models",
    )

    @field_validator("targets")
    @classmethod
    def _each_once(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        return _unique(targets)


class CheckSection(Section):
    """What the exported model must hold."""

    images: Positive = Field(
        default=2000, description="evaluation lines for the original and the exported file"
    )
    simulation_images: Positive = Field(
        default=500, description="evaluation lines for the slow int8 simulation"
    )
    witness_images: Count = Field(
        default=50, description="evaluation lines for the int8 ARM file's arithmetic in Paddle-Lite x86"
    )
    max_drop: Points = Field(default=1.0, description="most points of metric lost against the original")
    max_abs: Above0 = Field(
        default=1e-4, description="float files: largest difference of an output to the net's"
    )
    min_agreement: Share = Field(
        default=0.99, description="share of lines with the same decoded text as the net's"
    )
    widths: tuple[Annotated[Integer, Field(ge=8, le=4096)], ...] = Field(
        default=(), description="further input widths in pixels the exported file must run with"
    )
    min_flops_cut: Open01 | None = Field(
        default=None, description="least share of the multiply-adds pruned; null: any"
    )
    max_nb_ratio: Above0 | None = Field(
        default=None, description="most bytes of the ARM file as a share of the float original's; null: any"
    )
    max_inference_mb: Above0 | None = Field(
        default=None, description="most megabytes (10**6 bytes) of the inference folder; null: any"
    )


class CalibrationSection(Section):
    """The lines quantization calibrates with; without this section those of Train."""

    dataset: DatasetSection


class RunSection(Section):
    """slim run."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = Field(
        default=STAGES, description="stages, in this order"
    )
    out: Text | None = Field(default=None, description="folder of the artifacts; null: output/<model_name>")

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if list(_unique(stages)) != [stage for stage in STAGES if stage in stages]:
            raise ValueError(f"is {', '.join(stages)}, must keep the order {', '.join(STAGES)}")
        return stages

"""PaddleOCR's Global, Optimizer, Train and Eval sections, with the keys of its 2.x files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from slim.config.fields import (
    Above0,
    Count,
    Flag,
    From0,
    ImageShape,
    Integer,
    Numbers,
    Positive,
    Section,
    Share,
    Text,
    Texts,
)
from slim.config.transforms import Transform


def _start_and_interval(value: Any) -> Any:
    return [0, value] if isinstance(value, int) and not isinstance(value, bool) else value


EvalSteps = Annotated[
    tuple[Integer, ...], Field(min_length=2, max_length=2), BeforeValidator(_start_and_interval)
]


class GlobalSection(Section):
    """Run-wide keys. Those that steer PaddleOCR's own tools are accepted and have no effect here."""

    model_name: Text | None = Field(default=None, description="short name for tables and folders")
    use_gpu: Flag = False
    use_xpu: Flag = False
    use_npu: Flag = False
    use_mlu: Flag = False
    distributed: Flag = False
    seed: Count | None = Field(default=None, description="seed of every random choice")
    epoch_num: Positive | None = Field(default=None, description="epochs of slim train")
    log_smooth_window: Positive = 20
    print_batch_step: Positive = Field(default=10, description="steps between two lines of the log")
    save_model_dir: Text | None = Field(default=None, description="folder of the checkpoints")
    save_epoch_step: Positive | None = Field(default=None, description="epochs between two kept checkpoints")
    eval_batch_step: EvalSteps | None = Field(
        default=None, description="[first step, interval] or the interval"
    )
    cal_metric_during_train: Flag = False
    pretrained_model: Text | None = Field(
        default=None, description="weights to start from; zoo:NAME for a bundled or pulled model"
    )
    checkpoints: Text | None = Field(default=None, description="checkpoint to resume, with optimizer state")
    load_static_weights: Flag | None = None
    save_inference_dir: Text | None = None
    save_res_path: Text | None = None
    use_visualdl: Flag = False
    use_wandb: Flag = False
    vdl_log_dir: Text | None = None
    infer_img: Text | None = None
    infer_mode: Flag = False
    character_dict_path: Text | None = Field(default=None, description="one character a line, in class order")
    character_type: Text | None = None
    max_text_length: Positive = 25
    use_space_char: Flag = Field(default=False, description="append a space to the dictionary")
    label_list: Annotated[tuple[Text, ...], Field(min_length=2)] | None = Field(
        default=None, description="classes of a cls model, in the order of the net's output"
    )
    debug: Flag = False
    d2s_train_image_shape: ImageShape | None = None
    use_amp: Flag = False
    scale_loss: Above0 | None = None
    use_dynamic_loss_scaling: Flag | None = None
    amp_level: Literal["O1", "O2"] | None = None


class LearningRate(Section):
    name: Literal["Cosine", "Const", "Linear", "Piecewise", "Step", "OneCycle", "CyclicalCosine"] | None = (
        None
    )
    learning_rate: Above0 = 0.001
    warmup_epoch: From0 = Field(default=0.0, description="epochs of linear warm-up")
    end_lr: From0 | None = None
    power: Above0 | None = None
    decay_epochs: tuple[Positive, ...] | None = None
    values: Numbers | None = None
    step_size: Positive | None = None
    gamma: Above0 | None = None


class Regularizer(Section):
    name: Literal["L1", "L2"]
    factor: From0 = 0.0


class OptimizerSection(Section):
    name: Literal["Adam", "AdamW", "Momentum", "RMSProp"] = "Adam"
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: Above0 | None = None
    momentum: Share | None = None
    weight_decay: From0 | None = None
    lr: LearningRate | None = None
    regularizer: Regularizer | None = None
    clip_norm: Above0 | None = None
    clip_norm_global: Above0 | None = None


class DatasetSection(Section):
    """Where lines come from: label files with images, or one or more LMDB folders."""

    name: Literal["SimpleDataSet", "LMDBDataSet", "LMDBDateSet"] = "SimpleDataSet"
    data_dir: Text | None = Field(
        default=None, description="folder the image paths are relative to; LMDB: its root"
    )
    label_file_list: Texts | None = None
    ratio_list: Numbers | None = Field(default=None, description="share of the lines used of each label file")
    delimiter: Literal["\t"] | None = Field(default=None, description="between path and label: a tab")
    transforms: tuple[Transform, ...] | None = None

    def transform(self, name: str) -> Section | None:
        """Arguments of the first step called ``name``, or None."""
        return next((step.args for step in self.transforms or () if step.name == name), None)


class LoaderSection(Section):
    shuffle: Flag = False
    drop_last: Flag = False
    batch_size_per_card: Positive = 32
    num_workers: Count = 0
    use_shared_memory: Flag | None = None


class DataSection(Section):
    """Train and Eval."""

    dataset: DatasetSection
    loader: LoaderSection | None = None

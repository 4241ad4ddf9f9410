"""The whole configuration: PaddleOCR's sections and ours, checked together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, model_serializer

from slim.config.architecture import (
    FITTING,
    AnyLoss,
    AnyMetric,
    AnyPostProcess,
    ArchitectureSection,
    ClsHead,
)
from slim.config.fields import Section
from slim.config.ours import (
    CalibrationSection,
    CheckSection,
    ExportSection,
    QuantSection,
    RunSection,
    TrainRecipe,
)
from slim.config.paddleocr import DataSection, DatasetSection, GlobalSection, OptimizerSection
from slim.config.pruning import PruneSection
from slim.errors import ConfigError

CLS_LABELS = ("0", "180")


class Config(Section):
    """A checked configuration. Sections that are absent or empty are None, Global is always there."""

    Global: GlobalSection = Field(default_factory=lambda: GlobalSection())
    Architecture: ArchitectureSection | None = None
    Loss: AnyLoss | None = None
    Optimizer: OptimizerSection | None = None
    PostProcess: AnyPostProcess | None = None
    Metric: AnyMetric | None = None
    Train: DataSection | None = None
    Eval: DataSection | None = None
    Calibration: CalibrationSection | None = None
    Prune: PruneSection | None = None
    Quant: QuantSection | None = None
    Export: ExportSection | None = None
    Check: CheckSection | None = None
    Run: RunSection | None = None

    _source: str | None = PrivateAttr(default=None)

    @model_serializer(mode="wrap")
    def _present(self, inner: Any) -> dict[str, Any]:
        return {name: section for name, section in inner(self).items() if section is not None}

    @property
    def source(self) -> str | None:
        """The file the configuration was read from, or None."""
        return self._source

    @property
    def architecture(self) -> ArchitectureSection:
        """Architecture, or ConfigError saying that the section is needed."""
        if self.Architecture is None:
            raise ConfigError(
                "has no Architecture section", where=self._source, remedy="add one, or give --model"
            )
        return self.Architecture

    @property
    def kind(self) -> str:
        """cls, rec or det."""
        return self.architecture.model_type

    @property
    def name(self) -> str:
        """Global.model_name, else the file's name, else the kind."""
        if self.Global.model_name:
            return self.Global.model_name
        return Path(self._source).stem if self._source else self.kind

    @property
    def out_folder(self) -> Path:
        """Run.out, else output/<name>."""
        return Path(self.Run.out) if self.Run and self.Run.out else Path("output") / self.name

    @property
    def main_indicator(self) -> str:
        """The metric that decides which checkpoint is best."""
        if self.Metric is not None:
            return self.Metric.main_indicator
        return "hmean" if self.kind == "det" else "acc"

    def dataset(self, purpose: str) -> DatasetSection:
        """The data set for "train", "eval" or "calibration" (default: that of Train); raises ConfigError."""
        section = {"train": self.Train, "eval": self.Eval, "calibration": self.Calibration or self.Train}[
            purpose
        ]
        if section is None:
            name = "Eval" if purpose == "eval" else "Train"
            raise ConfigError(f"has no {name} section", where=self._source, remedy=f"add {name}.dataset")
        return section.dataset

    def resolved(self) -> dict[str, Any]:
        """The configuration with every default filled in, as plain JSON data that loads again."""
        return self.model_dump(mode="json")

    def train_recipe(self) -> TrainRecipe:
        """How Optimizer, Global and Train ask for the net to be trained; see slim.config.recipe."""
        from slim.config.recipe import train_recipe

        return train_recipe(self)


def cross_checks(config: Config) -> list[tuple[str, str]]:
    """What no single section can see: (path, text) for each part that does not fit the model's kind."""
    arch = config.Architecture
    if arch is None:
        return []
    problems = []
    for name, fitting in FITTING[arch.model_type].items():
        inside = name in ("Backbone", "Neck", "Head")
        part = getattr(arch if inside else config, name)
        if part is not None and not isinstance(part, fitting):
            path = f"Architecture.{name}" if inside else name
            wanted = " or ".join(cls.__name__ for cls in fitting) or "none"
            problems.append((f"{path}.name", f"is {part.name!r}, a {arch.model_type} model needs {wanted}"))
    if arch.Neck is None and FITTING[arch.model_type]["Neck"]:
        wanted = FITTING[arch.model_type]["Neck"][0].__name__
        problems.append(("Architecture.Neck", f"is null, a {arch.model_type} model needs {wanted}"))
    labels = config.Global.label_list or CLS_LABELS
    if isinstance(arch.Head, ClsHead) and arch.model_type == "cls" and arch.Head.class_dim != len(labels):
        problems.append(
            (
                "Architecture.Head.class_dim",
                f"is {arch.Head.class_dim}, Global.label_list has {len(labels)} classes",
            )
        )
    return problems

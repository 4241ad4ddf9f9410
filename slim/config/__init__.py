"""PaddleOCR's YAML files with our own sections: strict, typed, frozen. Imports no paddle."""

from __future__ import annotations

from slim.config.files import check_files
from slim.config.find import find_config, list_configs
from slim.config.load import config_from, load_config
from slim.config.ours import (
    CalibrationSection,
    CheckSection,
    ExportSection,
    QuantSection,
    RunSection,
    TrainRecipe,
)
from slim.config.paddleocr import DataSection, DatasetSection, GlobalSection, LoaderSection
from slim.config.problems import WrongConfig
from slim.config.pruning import PruneRule, PruneSection
from slim.config.read import read_mapping as read_yaml
from slim.config.schema import Config

__all__ = [
    "CalibrationSection",
    "CheckSection",
    "Config",
    "DataSection",
    "DatasetSection",
    "ExportSection",
    "GlobalSection",
    "LoaderSection",
    "PruneRule",
    "PruneSection",
    "QuantSection",
    "RunSection",
    "TrainRecipe",
    "WrongConfig",
    "check_files",
    "config_from",
    "find_config",
    "list_configs",
    "load_config",
    "read_yaml",
]

"""The stage with training: never worse than calibrated, and the same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from quant import stage
from quant.scheme import QuantScheme
from slim.bundle import Bundle, save
from slim.config.ours import QuantRecipe, QuantSection
from slim.data.dataset import open_dataset
from slim.progress import Silent
from slim.stage import StageContext
from slim.synth import synthesize

RECIPE = QuantRecipe(steps=2, batch_size=2, lr=1e-4, width=160)
SECTION = QuantSection(images=4, Finetune=RECIPE)


class Notes(Silent):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    synthesize("rec", folder, {"train": 16, "eval": 4, "calib": 8}, 3)
    return folder


def trained(
    bundle: Bundle,
    section: QuantSection,
    data: Path,
    work: Path,
    seed: int,
    score: Callable[[Bundle], float] | None = None,
) -> tuple[Bundle, Notes]:
    lines, notes = open_dataset([data / "train.txt"], data, "rec"), Notes()
    ctx = StageContext(work, seed, train=lines, calibration=lines, score=score, progress=notes)
    return stage.apply(bundle, stage.plan(bundle, section, ctx), section, ctx), notes


@pytest.mark.parametrize("clip", ["pact", pytest.param("lsq", marks=pytest.mark.slow)])
def test_same_seed_same_bytes(originals: Mapping[str, Bundle], data: Path, tmp_path: Path, clip: str) -> None:
    """Calibration, augmentation, distillation, LSTM and depthwise convs included; another seed differs."""
    section = SECTION.model_copy(update={"clip": clip})
    written = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        save(trained(originals["rec"], section, data, tmp_path / f"work {name}", seed)[0], tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        written[name] = {file.name: file.read_bytes() for file in files}
    assert written["a"] == written["b"]
    assert written["a"]["model.pdparams"] != written["c"]["model.pdparams"]


def test_training_that_made_it_worse_is_not_kept(
    originals: Mapping[str, Bundle], data: Path, tmp_path: Path
) -> None:
    scores = [90.0, 89.0, 80.0]
    done, notes = trained(originals["rec"], SECTION, data, tmp_path, 1, lambda _: scores.pop(0))
    scheme = QuantScheme.from_json(done.scheme or {})
    assert scheme.metrics == {"float": 90.0, "calibrated": 89.0, "trained": 80.0, "final": 89.0}
    assert ["from 89.00 to 80.00 points: the calibrated weights are kept" in w for w in notes.warnings] == [
        True
    ]
    calibrated, _ = trained(
        originals["rec"], SECTION.model_copy(update={"mode": "ptq"}), data, tmp_path / "ptq", 1
    )
    wanted, kept = calibrated.state(), done.state()
    assert [name for name, value in wanted.items() if not np.array_equal(value, kept[name])] == []
    assert scheme.clips == QuantScheme.from_json(calibrated.scheme or {}).clips


def test_training_that_made_it_better_is_kept(
    originals: Mapping[str, Bundle], data: Path, tmp_path: Path
) -> None:
    scores = [90.0, 80.0, 89.0]
    done, notes = trained(originals["rec"], SECTION, data, tmp_path, 1, lambda _: scores.pop(0))
    assert QuantScheme.from_json(done.scheme or {}).metrics["final"] == 89.0
    assert not notes.warnings
    name = "backbone.conv1.conv.weight"
    assert not np.array_equal(done.state()[name], originals["rec"].state()[name])

"""The main job on both bundled models, from nothing: data, all stages, one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slim.artifact import read_json
from slim.errors import ArtifactError
from slim.progress import Reporter

SEED = 2021


@dataclass(frozen=True)
class Job:
    """One model of the demo: its recipe and the data it is worked on with."""

    config: str
    task: str
    train: int
    evaluation: int
    calibration: int


JOBS = (Job("cls/cls_demo", "cls", 2400, 2000, 320), Job("rec/en_number_demo", "rec", 2400, 2000, 320))


def run_demo(out: Path, *, fresh: bool, progress: Reporter) -> list[dict[str, Any]]:
    """Render the data sets and run both recipes below ``out``; returns their reports.

    Everything is seeded: the data sets byte for byte, the results up to the machine's floating point.
    """
    from slim.config import find_config, load_config
    from slim.pipeline.run import run_recipe

    reports = []
    for job in JOBS:
        data = out / "data" / job.task
        _data(job, data, progress)
        config = load_config(find_config(job.config), _overrides(data), notices=progress.info)
        folder = out / config.name
        reports.append(
            run_recipe(config, model=None, out=folder, targets=None, fresh=fresh, seed=SEED, progress=progress)
        )
    return reports


def _overrides(data: Path) -> list[str]:
    """Point a demo recipe at its data set, wherever it is."""
    found = []
    for section, name in (("Train", "train"), ("Eval", "eval"), ("Calibration", "calib")):
        found.append(f"{section}.dataset.data_dir={_yaml(data)}")
        found.append(f"{section}.dataset.label_file_list=[{_yaml(data / f'{name}.txt')}]")
    return found


def _yaml(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _data(job: Job, folder: Path, progress: Reporter) -> None:
    from slim.synth import synthesize

    counts = {"train": job.train, "eval": job.evaluation, "calib": job.calibration}
    if (folder / "manifest.json").is_file():
        try:
            manifest = read_json(folder / "manifest.json")
        except ArtifactError:
            manifest = {}
        if manifest.get("counts") == counts and manifest.get("seed") == SEED:
            progress.info(f"data for {job.task}: already in {folder}")
            return
    progress.info(f"data for {job.task}: {folder}")
    synthesize(job.task, folder, counts, SEED, None, progress)

"""Sensitivity curves in the report: shares of the net that the pruning started from, LSTM units too."""

from __future__ import annotations

from pathlib import Path

import pytest

from prune import stage
from prune.plan import PrunePlan
from prune.sensitivity import Point, Sensitivity
from slim import artifact
from slim.bundle import Bundle, save
from slim.config import PruneSection
from slim.pipeline import lineage
from slim.pipeline.opening import open_model
from slim.pipeline.reporting import SENSITIVITY, sensitivity
from slim.progress import Silent
from slim.stage import StageContext

LSTM = "neck.encoder.lstm"


def pruned(before: Bundle, folder: Path, ratio: float, curves: dict[str, list[int]]) -> Bundle:
    """The artifact of a pruning without lines: its plan by ratio, and a curve with these counts kept."""
    section = PruneSection(method="ratio", ratio=ratio, criterion="l1")
    after = stage.apply(before, stage.plan(before, section, StageContext(work=folder, seed=0)))
    start = before.sha256()
    entry = lineage.entry("prune", after, before=start, out=str(folder))
    points = {name: [Point(kept, 50.0, 0.1, 0.0) for kept in counts] for name, counts in curves.items()}
    with artifact.writing(folder) as tmp:
        save(after, tmp)
        artifact.write_json(tmp / SENSITIVITY, Sensitivity(90.0, points, {}).to_json())
        facts = {lineage.LINEAGE: [*lineage.of(before), entry]}
        artifact.seal(tmp, "prune", recipe={}, parent=start, seed=0, facts=facts)
    return open_model(str(folder), None, Silent())


def shares(model: Bundle) -> dict[str, list[float]]:
    found = sensitivity(lineage.folders(lineage.of(model))[0], Silent())
    assert found is not None and found["baseline"] == 90.0
    return {name: [p["removed"] for p in points] for name, points in found["groups"].items()}


def test_shares_are_of_the_net_before_this_pruning(tmp_path: Path) -> None:
    original = open_model("zoo:en_number_synthetic_crnn", None, Silent())
    once = pruned(original, tmp_path / "p1", 0.25, {LSTM: [36, 24], "backbone.conv1.conv": [4]})
    plan = PrunePlan.from_json(once.cuts[0])
    assert plan.sizes[LSTM] == 48
    assert shares(once) == {
        LSTM: [0.25, 0.5],
        "backbone.conv1.conv": [pytest.approx(1 - 4 / plan.sizes["backbone.conv1.conv"])],
    }
    left = len(plan.kept[LSTM])
    counts = {LSTM: [left // 2, left, left + 1], "no.such.group": [3]}
    twice = pruned(once, tmp_path / "p2", 0.1, counts)
    assert len(twice.cuts) == 2 and left == 36
    # Half of the 36 left, not 1 - 18 / 48; a curve of a file may hold counts this net does not have.
    assert shares(twice) == {LSTM: [0.5]}
    # The folder of the second is gone: the first one's curves are shown, of its own net.
    past = lineage.of(twice)
    (tmp_path / "p2" / "manifest.json").unlink()
    found = sensitivity(lineage.folders(past)[0], Silent())
    assert found is not None and [p["removed"] for p in found["groups"][LSTM]] == [0.25, 0.5]

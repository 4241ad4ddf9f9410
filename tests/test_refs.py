"""The stored references are readable and about the demo's models, with the numbers that matter."""

from __future__ import annotations

from pathlib import Path

from slim.compare import read_references
from slim.config import find_config, load_config
from slim.pipeline.demo import JOBS

NEEDED = {"original_accuracy", "arm_accuracy", "arm_drop", "arm_nb_bytes", "inference_bytes", "flops"}


def test_references_of_the_demo(checkout: Path) -> None:
    references = read_references(checkout / "tests" / "refs" / "demo.yml")
    assert set(references.models) == {load_config(find_config(job.config)).name for job in JOBS}
    for model, metrics in references.models.items():
        assert set(metrics) >= NEEDED
        # A set on which everything is right, or nothing, measures nothing.
        assert 80.0 <= metrics["original_accuracy"].value <= 98.0, model

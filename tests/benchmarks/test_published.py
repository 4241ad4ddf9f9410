"""Every published row through the whole road, and the sizes that docs/MODELS.md shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.published import Walked, markdown, too_large, walk
from slim.progress import Silent
from slim.stage import Check
from slim.zoo.table import PUBLISHED

FLOATS = [name for name, row in PUBLISHED.items() if row.original is None]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "ch_ppocr_mobile_v2.0_cls" else pytest.mark.slow)
        for name in FLOATS
    ],
)
def test_a_row_is_pruned_quantized_exported_and_checked(name: str, tmp_path: Path, checkout: Path) -> None:
    found = walk(PUBLISHED[name], tmp_path / "a row", Silent())
    assert found.failed == []
    names = {check.name for check in found.checks}
    # The checks of each stage are there, the shipped file's among them.
    assert "masked net against pruned net" in names and "quantized layers" in names
    assert "model.arm.nb: quantized layers left in float" in names
    assert "model.arm.nb: change of the answer to A in A, B, A" in names
    assert too_large({name: found}) == []
    docs = (checkout / "docs" / "MODELS.md").read_text(encoding="utf-8")
    for line in markdown([found]).splitlines():
        assert line in docs, "run: python -m benchmarks.published, and put it into docs/MODELS.md"


def test_a_file_above_the_published_size_and_a_failed_check_are_told() -> None:
    found = Walked("ch_ppocr_mobile_v2.0_cls", {"int8 folder": 2_202_009, "int8 arm": 2_202_010})
    # 2.1 * 2**20 is 2,202,009.6 bytes.
    assert too_large({found.name: found}) == [
        "ch_ppocr_mobile_slim_v2.0_cls: int8 arm has 2,202,010 bytes, published are 2.1M"
    ]
    found.checks = [Check("drop", 2.0, 1.0, "points"), Check("drop", 0.5, 1.0, "points")]
    assert found.failed == ["drop 2 <= 1 points: FAIL"]

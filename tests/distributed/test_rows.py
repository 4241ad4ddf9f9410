"""A process makes the rows of a batch that are its own, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from slim.data.dataset import Line
from slim.data.images import UnreadableImage
from slim.data.labels import Entry
from slim.data.loader import TrainBatches
from slim.data.stepwise import fill_gaps, filled
from slim.data.tolerance import Tolerance
from slim.distributed import World
from slim.errors import InputError, UsageError
from slim.spec import InputSpec, ModelSpec
from slim.training.parallel import require_rows

CLS = ModelSpec("angle", "cls", {}, ("0", "180"), InputSpec(48, 64))


class Lines:
    """Twenty lines of noise, one of them unreadable; remembers which were decoded."""

    def __init__(self, unreadable: int | None = None) -> None:
        self.unreadable, self.decoded = unreadable, []  # type: tuple[int | None, list[int]]

    def __len__(self) -> int:
        return 20

    def __getitem__(self, number: int) -> Line:
        self.decoded.append(number)
        if number == self.unreadable:
            raise UnreadableImage("is no image", where=f"{number}.png")
        image = np.random.default_rng(number).integers(0, 256, (32, 40 + number, 3), np.uint8)
        return Line(f"{number}.png", image, self.entry(number).text)

    def entry(self, number: int) -> Entry:
        return Entry(f"{number}.png", "0" if number % 2 else "180")

    def where(self, number: int) -> str:
        return f"labels.txt:{number + 1}"


def _batches(lines: Lines, share: World | None) -> TrainBatches:
    source = TrainBatches(lines, CLS, 5, 3, tolerance=Tolerance(limit=1.0))  # type: ignore[arg-type]
    if share is not None:
        source.rows_of(share)
    return source


@pytest.mark.parametrize("unreadable", [None, 4])
def test_the_rows_of_all_processes_are_the_batch(unreadable: int | None) -> None:
    for step in range(4):  # all twenty lines
        whole = _batches(Lines(unreadable), None).batch_at(step)
        for rank in (0, 1):
            part = _batches(Lines(unreadable), World(rank, 2)).batch_at(step)
            np.testing.assert_array_equal(part.image, whole.image[rank::2])
            np.testing.assert_array_equal(part.labels, whole.labels[rank::2])
            assert part.refs == whole.refs[rank::2]


def test_only_its_own_rows_are_decoded() -> None:
    lines = Lines()
    _batches(lines, World(1, 2)).batch_at(0)
    assert len(lines.decoded) == 2


def test_gaps_are_filled_as_in_the_whole_row() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        row = [None if rng.random() < 0.5 else k for k in range(rng.integers(1, 7))]
        whole = fill_gaps(row)
        for size in (1, 2, 3):
            for rank in range(min(size, len(row))):
                found = filled(row.__getitem__, len(row), range(rank, len(row), size))
                assert found == (None if whole is None else whole[rank::size])


def test_bad_lines_of_all_processes_count_together() -> None:
    one, other = Tolerance(limit=0.1, total=20), Tolerance(limit=0.1, total=20)
    for k in (1, 2):
        one.count_unreadable(k, InputError("is no image"))
    other.count_outside(2, "x", "labels.txt:3")
    one.join(other.told())  # the same line
    assert one.summary() == {"unreadable": 2, "outside_dictionary": 1, "too_long": 0}
    other.count_outside(7, "x", "labels.txt:8")
    with pytest.raises(InputError, match="3 of 20 training lines cannot be used"):
        one.join(other.told())


def test_more_processes_than_rows_are_refused() -> None:
    require_rows(2, World(0, 2))
    with pytest.raises(UsageError, match="batches of 2 cannot be shared by 3 processes"):
        require_rows(2, World(0, 3))

"""Parts of pages: the labels move with the pixels, and a batch is a function of (seed, step)."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from slim.data.dataset import open_dataset
from slim.data.labels import Box
from slim.data.page_augment import PageCrop
from slim.data.page_batches import PageBatches
from slim.data.page_maps import SHRINK
from slim.data.tolerance import Tolerance
from slim.errors import InputError, UnsupportedModel
from slim.ocr.polygons import inside, polygon, sides
from slim.spec import InputSpec, ModelSpec

SPEC = ModelSpec("d", "det", {}, (), InputSpec(64, 64, dynamic_width=True, dynamic_height=True))
BAR = Box(((30, 40), (90, 40), (90, 60), (30, 60)), "HI")


def _page() -> np.ndarray:
    """120 x 160, black with a white bar where `BAR` is."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:61, 30:91] = 255
    return image


@pytest.mark.parametrize("change", [False, True])
def test_what_is_changed(change: bool) -> None:
    scales, slopes, mirrored = set(), set(), 0
    for seed in range(30):
        part, boxes = PageCrop(96, change)(_page(), [BAR], np.random.default_rng(seed))
        assert part.shape == (96, 96, 3)
        if not boxes:
            continue
        corners = polygon(boxes[0].points)
        scales.add(round(sides(corners)[0] / 60, 3))
        slopes.add(round(float((corners[1] - corners[0])[1]), 3))
        mirrored += corners[1, 0] < corners[0, 0]
    assert (scales == {1.0} and slopes == {0.0} and mirrored == 0) != change
    if change:
        assert min(scales) >= 0.6 and max(scales) <= 1.7 and len(scales) > 10 and 5 < mirrored < 25


@pytest.mark.parametrize("change", [False, True])
def test_regions_move_with_their_pixels(change: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the changes of colour, which may turn black to white."""
    monkeypatch.setattr("slim.data.page_augment.COLOURS", ())
    seen = 0
    for seed in range(40):
        part, boxes = PageCrop(96, change)(_page(), [BAR], np.random.default_rng(seed))
        if boxes:
            corners = polygon(boxes[0].points)
            mask, middle = inside(corners, 96, 96), corners.mean(axis=0)
            inner = inside(middle + 0.8 * (corners - middle), 96, 96)
            outer = inside(middle + 1.3 * (corners - middle), 96, 96)
            bright = part[..., 0] > 127
            assert bright[inner].all() and not bright[~outer].any()
            seen += bool(mask.any())
    assert seen > 30


def test_most_parts_show_a_region_and_those_outside_are_dropped() -> None:
    far = Box(((600, 600), (660, 600), (660, 620), (600, 620)), "FAR")
    page = np.zeros((800, 800, 3), np.uint8)
    counts = [len(PageCrop(96)(page, [BAR, far], np.random.default_rng(seed))[1]) for seed in range(60)]
    assert max(counts) == 1 and counts.count(1) > 45
    ignored = Box(BAR.points, "###")
    chosen = [PageCrop(96)(page, [ignored, far], np.random.default_rng(seed))[1] for seed in range(60)]
    assert sum(any(box.text == "FAR" for box in boxes) for boxes in chosen) > 45


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    rows = []
    for number in range(6):
        image = np.roll(_page(), 3 * number, axis=1)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        points = [[x + 3 * number, y] for x, y in BAR.points]
        label = json.dumps([{"transcription": f"HI{number}", "points": points}])
        rows.append(f"{number}.png\t{label}\n")
    (tmp_path / "labels.txt").write_text("".join(rows))
    return tmp_path / "labels.txt"


def _batches(labels: Path, seed: int = 5, side: int = 64, **more: object) -> PageBatches:
    data = open_dataset([labels], labels.parent, "det")
    return PageBatches(data, SPEC, 4, seed, PageCrop(side), **more)  # type: ignore[arg-type]


def test_a_batch_depends_on_seed_and_step_alone(pages: Path) -> None:
    first, again = _batches(pages), _batches(pages)
    assert first.steps_per_epoch == 2
    in_order = list(first.iterate(0, 5))
    for batch in reversed(in_order):
        same = again.batch_at(batch.step)
        assert same.refs == batch.refs
        np.testing.assert_array_equal(same.image, batch.image)
        np.testing.assert_array_equal(same.labels, batch.labels)
    assert in_order[0].image.shape == (4, 3, 64, 64) and in_order[0].image.dtype == np.float32
    assert in_order[0].labels.shape == (4, 4, 64, 64) and in_order[0].labels.dtype == np.float32
    assert [ref for batch in in_order[:3] for ref in batch.refs][:6] != [f"{k}.png" for k in range(6)]
    shown = [ref for batch in in_order[:3] for ref in batch.refs]
    assert sorted(shown[:6]) == sorted(shown[6:]) == [f"{k}.png" for k in range(6)]
    assert not np.array_equal(_batches(pages, seed=6).batch_at(0).image, in_order[0].image)
    assert sum(batch.labels[:, SHRINK].any() for batch in in_order) == 5
    assert (np.concatenate([batch.lengths for batch in in_order]) <= 1).all()


def test_a_page_shows_another_part_in_each_step_and_place(pages: Path) -> None:
    one = pages.with_name("one.txt")
    one.write_text(pages.read_text().splitlines(keepends=True)[0])
    parts = [part.tobytes() for step in range(3) for part in _batches(one).batch_at(step).image]
    assert len(set(parts)) == len(parts) == 12


def test_values_are_normalised_as_in_scoring(pages: Path) -> None:
    data = open_dataset([pages], pages.parent, "det")
    spec = ModelSpec(
        "d", "det", {}, (), InputSpec(64, 64, mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.4), dynamic_height=True)
    )
    image = PageBatches(data, spec, 1, 0, PageCrop(64, change=False)).batch_at(0).image[0]
    for values, white, black in zip(image, (8, 3, 1), (-2, -2, -1.5), strict=True):
        assert values.max() == pytest.approx(white, abs=1e-5)
        assert values.min() == pytest.approx(black, abs=1e-5)


def test_pages_that_cannot_be_read_are_replaced_and_counted(pages: Path) -> None:
    (pages.parent / "3.png").write_bytes(b"no image")
    batches = _batches(pages, tolerance=Tolerance(limit=0.5))
    refs = [ref for step in range(3) for ref in batches.batch_at(step).refs]
    assert "3.png" not in refs and len(refs) == 12
    assert batches.tolerance.summary()["unreadable"] == 1
    with pytest.raises(InputError, match="1 of 6 training lines cannot be used, limit 0.1%"):
        [_batches(pages).batch_at(step) for step in range(2)]


@pytest.mark.parametrize("side", [0, 16, 100])
def test_a_side_that_the_net_cannot_read(pages: Path, side: int) -> None:
    with pytest.raises(InputError, match=f"training side is {side} pixels, must be a multiple of 32"):
        _batches(pages, side=side)


def test_other_kinds_are_refused(pages: Path) -> None:
    data = open_dataset([pages], pages.parent, "det")
    with pytest.raises(UnsupportedModel, match="r: kind rec is not trained on pages"):
        PageBatches(data, ModelSpec("r", "rec", {}, ("", "a"), InputSpec(32, 64)), 4, 0, PageCrop(64))

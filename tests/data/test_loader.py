"""Training batches: a function of (seed, step), and what happens to lines that cannot be used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from slim.data.dataset import LabelledImages, open_dataset
from slim.data.loader import Batch, TrainBatches
from slim.data.tolerance import Tolerance
from slim.errors import InputError, UnsupportedModel
from slim.ocr.preprocess import to_tensor
from slim.spec import InputSpec, ModelSpec

Writer = Callable[..., Path]
REC = ModelSpec("line", "rec", {}, ("", *"abcdefghij"), InputSpec(32, 320))
CLS = ModelSpec("angle", "cls", {}, ("0", "180"), InputSpec(48, 192))
TEXTS = ["abc", "aab", "j", "deadbeef", "hi", "cab", "feed", "g", "bb", "ace"]
WIDTHS = [60, 70, 20, 250, 40, 90, 110, 30, 45, 310]


def _open(path: Path, kind: str = "rec") -> LabelledImages:
    return open_dataset([path], path.parent, kind)


def _same(left: Batch, right: Batch) -> bool:
    return left.refs == right.refs and all(
        np.array_equal(getattr(left, name), getattr(right, name)) for name in ("image", "labels", "lengths")
    )


def _noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.integers(0, 20, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("width", [None, "auto"])
def test_a_batch_depends_only_on_seed_and_step(write_set: Writer, width: object) -> None:
    path = write_set(TEXTS, WIDTHS)
    first = TrainBatches(_open(path), REC, 3, seed=5, augment=_noisy, width=width)  # type: ignore[arg-type]
    forward = [first.batch_at(step) for step in range(40)]
    second = TrainBatches(_open(path), REC, 3, seed=5, augment=_noisy, width=width)  # type: ignore[arg-type]
    for step in (39, 0, 17, 16, 3):
        assert _same(second.batch_at(step), forward[step])
    other = TrainBatches(_open(path), REC, 3, seed=6, augment=_noisy, width=width)  # type: ignore[arg-type]
    assert not all(_same(other.batch_at(step), forward[step]) for step in range(5))


def test_each_epoch_shows_each_line_once_in_another_order(write_set: Writer) -> None:
    batches = TrainBatches(_open(write_set(TEXTS)), REC, 5, seed=1)
    assert batches.steps_per_epoch == 2
    epochs = [batches.batch_at(2 * k).refs + batches.batch_at(2 * k + 1).refs for k in range(3)]
    assert all(sorted(refs) == sorted(f"{k}.png" for k in range(10)) for refs in epochs)
    assert len(set(epochs)) == 3


def test_labels_lengths_and_tensors(write_set: Writer) -> None:
    data = _open(write_set(TEXTS, WIDTHS))
    batch = TrainBatches(data, REC, 4, seed=3).batch_at(1)
    assert batch.image.shape == (4, 3, 32, 320)
    assert (batch.image.dtype, batch.labels.dtype, batch.lengths.dtype) == (np.float32, np.int64, np.int64)
    for row, ref in enumerate(batch.refs):
        number = int(ref.split(".")[0])
        text = "".join(REC.labels[k] for k in batch.labels[row, : batch.lengths[row]])
        assert text == TEXTS[number]
        assert not batch.labels[row, batch.lengths[row] :].any()
        np.testing.assert_array_equal(batch.image[row], to_tensor(data[number].image, REC.input))
    assert batch.labels.shape[1] == batch.lengths.max()


def test_cls_labels_are_one_number_each(write_set: Writer) -> None:
    texts = ["0", "180", "180", "0", "180"]
    batch = TrainBatches(_open(write_set(texts), "cls"), CLS, 5, seed=0).batch_at(0)
    assert batch.image.shape == (5, 3, 48, 192)
    assert batch.labels.tolist() == [["0", "180"].index(texts[int(ref[0])]) for ref in batch.refs]
    assert batch.lengths.tolist() == [1] * 5


def test_auto_width_holds_the_line_and_its_time_steps(write_set: Writer) -> None:
    """A 20 pixel wide image of 14 characters with 3 doubles needs 17 steps, so 68 pixels, so 96."""
    path = write_set(["abccdeefghhija", "a"], [20, 33])
    widths = {
        batch.refs[0]: batch.image.shape[3]
        for batch in (TrainBatches(_open(path), REC, 1, 0, width="auto").batch_at(k) for k in range(16))
    }
    assert widths == {"0.png": 96, "1.png": 64}


def test_auto_width_pads_less_than_unsorted_batches_would(write_set: Writer) -> None:
    """Unit: pixels of mean batch width. Sorted batches need about 200, batches in file order 260."""
    lines = np.random.default_rng(2).integers(20, 320, 64)
    batches = TrainBatches(_open(write_set(["a"] * 64, lines.tolist())), REC, 4, 0, width="auto")
    widths = [batches.batch_at(step).image.shape[3] for step in range(16)]
    assert all(width % 32 == 0 and width <= 320 for width in widths)
    assert np.mean(widths) < 220
    assert (np.ceil(lines.reshape(16, 4).max(axis=1) / 32) * 32).mean() > 220


def test_texts_that_do_not_fit_the_width_are_left_out_and_counted(write_set: Writer) -> None:
    """Width 32 gives 8 time steps: "aabbc" needs 7, "aabbcc" needs 9."""
    tolerance = Tolerance()
    path = write_set(["aabbc", "aabbcc", "", "abcdefgh"])
    batches = TrainBatches(_open(path), REC, 2, 0, width=32, tolerance=tolerance)
    refs = {ref for step in range(20) for ref in batches.batch_at(step).refs}
    assert refs == {"0.png", "3.png"}
    assert tolerance.summary() == {"unreadable": 0, "outside_dictionary": 0, "too_long": 2}


def test_no_text_fits(write_set: Writer) -> None:
    batches = TrainBatches(_open(write_set(["abcdefghij"])), REC, 2, 0, width=32)
    with pytest.raises(
        InputError, match="none of 32 training lines .* texts must fit 8 time steps of width 32"
    ):
        batches.batch_at(0)


def _big_set(tmp_path: Path, count: int, bad_text: int = 0, bad_image: int = 0) -> LabelledImages:
    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((32, 40, 3), np.uint8))
    lines = ["good.png\tabc"] * (count - bad_text - bad_image)
    lines += [f"good.png\tab{chr(0x4E00 + k)}" for k in range(bad_text)]
    lines += [f"bad{k}.png\tabc" for k in range(bad_image)]
    (tmp_path / "labels.txt").write_text("\n".join(lines), encoding="utf-8")
    return _open(tmp_path / "labels.txt")


@pytest.mark.parametrize("width", [None, "auto"])
def test_up_to_one_in_a_thousand_may_be_bad(tmp_path: Path, width: object) -> None:
    tolerance = Tolerance()
    batches = TrainBatches(
        _big_set(tmp_path, 2000, 1, 1),
        REC,
        100,
        0,
        width=width,
        tolerance=tolerance,  # type: ignore[arg-type]
    )
    for step in range(48):  # more than one epoch: a bad line met twice counts once
        assert batches.batch_at(step).image.shape[0] == 100
    assert tolerance.summary() == {"unreadable": 1, "outside_dictionary": 1, "too_long": 0}
    assert tolerance.characters == {"\u4e00"}


@pytest.mark.parametrize(("text", "image"), [(3, 0), (0, 3), (2, 1)])
def test_more_than_one_in_a_thousand_is_fatal(tmp_path: Path, text: int, image: int) -> None:
    batches = TrainBatches(_big_set(tmp_path, 2000, text, image), REC, 100, 0)
    with pytest.raises(InputError, match=r"3 of 2000 training lines cannot be used, limit 0.1%"):
        for step in range(20):
            batches.batch_at(step)


def test_strict_stops_at_the_first(tmp_path: Path) -> None:
    batches = TrainBatches(_big_set(tmp_path, 2000, 1), REC, 100, 0, tolerance=Tolerance(strict=True))
    with pytest.raises(InputError, match=r"labels.txt:2000: characters outside .*'一' \(strict\)"):
        for step in range(20):
            batches.batch_at(step)


@pytest.mark.parametrize("width", [None, "auto"])
def test_iterating_ahead_gives_the_same_batches(write_set: Writer, width: object) -> None:
    batches = TrainBatches(_open(write_set(TEXTS, WIDTHS)), REC, 3, 5, _noisy, width)  # type: ignore[arg-type]
    ahead = list(batches.iterate(4, 11))
    assert [batch.step for batch in ahead] == list(range(4, 11))
    assert all(_same(batch, batches.batch_at(batch.step)) for batch in ahead)
    assert list(batches.iterate(4, 4)) == []


def test_the_thread_ends_when_the_loop_is_left_and_hands_errors_over(write_set: Writer) -> None:
    path = write_set(TEXTS)
    iterator = TrainBatches(_open(path), REC, 2, 0).iterate(0, 1000)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    (path.parent / "3.png").unlink()
    with pytest.raises(InputError, match="1 of 10 training lines cannot be used"):
        list(TrainBatches(_open(path), REC, 2, 0).iterate(0, 6))


def test_bad_requests(write_set: Writer) -> None:
    data = _open(write_set(["a"]))
    with pytest.raises(InputError, match="batches of 0 from 1 lines"):
        TrainBatches(data, REC, 0, 0)
    with pytest.raises(InputError, match="training width is 16 pixels"):
        TrainBatches(data, REC, 1, 0, width=16)
    with pytest.raises(InputError, match="step is -1"):
        TrainBatches(data, REC, 1, 0).batch_at(-1)
    with pytest.raises(UnsupportedModel, match="kind det has no training batches"):
        TrainBatches(data, ModelSpec("boxes", "det", {}, (), InputSpec(640, 640)), 1, 0)

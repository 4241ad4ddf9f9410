"""Scoring: order, limit, batching, and what stops it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim.data.dataset import Line
from slim.data.labels import parse_boxes
from slim.errors import InputError, StageFailed
from slim.evaluate import PredictionRow, evaluate, read_predictions, shown_answer, write_predictions
from slim.spec import InputSpec, ModelSpec

CLS = ModelSpec("angle", "cls", {}, ("0", "180"), InputSpec(48, 192))
REC = ModelSpec("line", "rec", {}, ("", "a", "b", " "), InputSpec(32, 64))


class _Lines:
    """Images of one grey value each; the value is the answer that `_by_grey` gives."""

    def __init__(self, greys: Sequence[int], texts: Sequence[str]) -> None:
        self.greys, self.texts = greys, texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, number: int) -> Line:
        image = np.full((48, 192, 3), self.greys[number], np.uint8)
        return Line(f"{number}.png", image, self.texts[number])

    def describe(self) -> dict[str, Any]:
        return {}


def _by_grey(x: np.ndarray) -> np.ndarray:
    """Bright images are "180"."""
    bright = x[:, 0, 0, 0] > 0
    return np.stack([~bright, bright], axis=1).astype(np.float32)


def test_rows_come_in_order_and_limit_takes_the_first() -> None:
    data = _Lines([0, 255, 255, 0], ["0", "180", "0", "0"])
    result = evaluate(_by_grey, data, CLS)
    assert [(row.ref, row.expected, row.text, row.score, row.correct) for row in result.predictions] == [
        ("0.png", "0", "0", 1.0, True),
        ("1.png", "180", "180", 1.0, True),
        ("2.png", "0", "180", 1.0, False),
        ("3.png", "0", "0", 1.0, True),
    ]
    assert result.metrics == {"acc": 0.75}
    assert result.correct == [True, True, False, True]
    assert result.seconds >= 0
    assert evaluate(_by_grey, data, CLS, limit=2).metrics == {"acc": 1.0}
    assert evaluate(_by_grey, data, CLS, limit=99).images == 4


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_batch_size_changes_shapes_not_rows(batch_size: int) -> None:
    data = _Lines([0, 255, 9, 250, 3], ["0", "180", "180", "0", "0"])
    shapes: list[tuple[int, ...]] = []

    def run(x: np.ndarray) -> np.ndarray:
        shapes.append(x.shape)
        return _by_grey(x)

    rows = evaluate(run, data, CLS, batch_size=batch_size).predictions
    assert rows == evaluate(_by_grey, data, CLS).predictions
    assert sum(shape[0] for shape in shapes) == 5
    assert {shape[1:] for shape in shapes} == {(3, 48, 192)}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_output_that_is_not_finite_names_the_image(value: float) -> None:
    def run(x: np.ndarray) -> np.ndarray:
        outputs = _by_grey(x)
        outputs[x[:, 0, 0, 0] == 1, 0] = value
        return outputs

    with pytest.raises(StageFailed, match="2.png: output has 1 values that are NaN or infinite"):
        evaluate(run, _Lines([0, 0, 255, 0], ["0"] * 4), CLS, batch_size=3)


def test_output_of_another_batch_size() -> None:
    with pytest.raises(StageFailed, match=r"0.png: output has shape \(1, 2\) for 2 images"):
        evaluate(lambda x: _by_grey(x)[:1], _Lines([0, 0], ["0", "0"]), CLS, batch_size=2)


def _spell_ab(x: np.ndarray) -> np.ndarray:
    return np.repeat(np.eye(4, dtype=np.float32)[[[1, 0, 2]]], len(x), axis=0)


def test_rec_ignores_spaces_and_gives_both_metrics() -> None:
    result = evaluate(_spell_ab, _Lines([0, 0], ["a b", "b"]), REC)
    assert result.metrics == {"acc": 0.5, "norm_edit_dis": 0.75}


class _Pages:
    """Pages of two sizes with one bright bar each; `_bright` finds what is bright."""

    sizes = ((60, 100), (120, 100))
    label = '[{"transcription": "HI", "points": [[20, 20], [60, 20], [60, 32], [20, 32]]}]'

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> Line:
        image = np.zeros((*self.sizes[number], 3), np.uint8)
        image[22:31, 22:59] = 255
        return Line(f"{number}.png", image, self.label)

    def describe(self) -> dict[str, Any]:
        return {}


def test_pages_of_several_sizes_are_scored_one_by_one() -> None:
    page = InputSpec(64, 96, dynamic_width=True, dynamic_height=True)
    post = {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 0.5}
    shapes = []

    def bright(x: np.ndarray) -> np.ndarray:
        shapes.append(x.shape)
        return (x[:, :1] > 0).astype(np.float32)

    result = evaluate(bright, _Pages(), ModelSpec("d", "det", {}, (), page, post), batch_size=2)
    assert shapes == [(1, 3, 64, 96), (1, 3, 128, 96)]
    assert result.metrics == {"precision": 1.0, "recall": 1.0, "hmean": 1.0}
    assert result.correct == [True, True]
    assert parse_boxes(result.predictions[0].text, "")[0].points[0] == pytest.approx((20, 20), abs=2)
    far = evaluate(lambda x: bright(x[..., ::-1]), _Pages(), ModelSpec("d", "det", {}, (), page, post))
    assert far.metrics == {"precision": 0.0, "recall": 0.0, "hmean": 0.0}


def test_text_outside_the_dictionary_is_an_error() -> None:
    with pytest.raises(InputError, match="1.png: text 'axb' has characters outside the dictionary: 'x'"):
        evaluate(_spell_ab, _Lines([0, 0], ["ab", "axb"]), REC)
    with pytest.raises(InputError, match="0.png: text is empty"):
        evaluate(_spell_ab, _Lines([0], [""]), REC)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"limit": 0}, "limit is 0"), ({"limit": -3}, "limit is -3"), ({"batch_size": 0}, "batch size is 0")],
)
def test_bad_counts(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(_by_grey, _Lines([0], ["0"]), CLS, **options)  # type: ignore[arg-type]


def test_nothing_to_score() -> None:
    with pytest.raises(InputError, match="no image to score"):
        evaluate(_by_grey, _Lines([], []), CLS)


def test_predictions_are_read_back(tmp_path: Path) -> None:
    rows = [PredictionRow("a.png", "x\u2028y", "é\n", 0.1, False), PredictionRow("b.png", "", "", 1.0, True)]
    path = tmp_path / "predictions.jsonl"
    write_predictions(rows, path)
    assert read_predictions(path) == rows
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.jsonl"]
    write_predictions([], path)
    assert read_predictions(path) == []


def _line(**changes: object) -> str:
    row = {"ref": "a", "expected": "", "text": "", "score": 1.0, "correct": True}
    return json.dumps(row | changes)


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[1]",
        "x",
        "",
        "[" * 100_000,
        _line()[:-3],
        _line(score="1"),
        _line(score=True),
        _line(score=float("nan")),
        _line(score=int("9" * 400)),
        _line(correct=1),
        _line(text=None),
        _line(ref=["a"]),
        _line(expected=0),
        _line(text="\ud800"),
    ],
    ids=lambda line: line[:70],
)
def test_damaged_predictions_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "predictions.jsonl"
    write_predictions([PredictionRow("a.png", "", "", 1.0, True)], path)
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match="predictions.jsonl:2: not a prediction row"):
        read_predictions(path)


@pytest.mark.parametrize("change", [{"image": "a"}, {"ref": None}], ids=["one more", "one less"])
def test_the_keys_of_a_prediction_are_named(tmp_path: Path, change: dict[str, str | None]) -> None:
    data = {key: value for key, value in {**json.loads(_line()), **change}.items() if value is not None}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"row \(its keys must be ref, expected, text, score, correct\)"):
        read_predictions(tmp_path / "predictions.jsonl")


def test_a_whole_number_is_a_score_and_a_last_line_needs_no_end(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(f"{_line(score=1)}\n{_line(ref='b')}")
    rows = read_predictions(path)
    assert rows == [PredictionRow("a", "", "", 1.0, True), PredictionRow("b", "", "", 1.0, True)]
    assert isinstance(rows[0].score, float)
    path.write_text(f"{_line()}\n{_line()[:20]}")
    with pytest.raises(InputError, match="predictions.jsonl:2: not a prediction row"):
        read_predictions(path)


@pytest.mark.parametrize(("kind", "shown"), [("det", "0 regions"), ("rec", "[]")])
def test_an_answer_for_a_reader(kind: str, shown: str) -> None:
    assert shown_answer(kind, "[]") == shown


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write predictions"):
        write_predictions([], tmp_path / "none" / "predictions.jsonl")

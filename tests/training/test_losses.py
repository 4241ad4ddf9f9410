"""Losses against values computed by hand or by brute force, and the labels they must refuse."""

from __future__ import annotations

import itertools
import math

import numpy as np
import paddle
import pytest

from slim.errors import InputError, UnsupportedModel
from slim.training.losses import TrainingLoss, distance_to_teacher, loss_of


def batch(kit, labels, lengths=None):
    labels = np.array(labels, np.int64)
    count = len(labels)
    lengths = np.ones(count, np.int64) if lengths is None else np.array(lengths, np.int64)
    return kit.Batch(
        np.zeros((count, 3, 8, 8), np.float32), labels, lengths, tuple(f"line{k}.png" for k in range(count))
    )


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def brute_force_ctc(logits, label) -> float:
    """-log of the summed probability of every path that collapses to ``label``."""
    steps, classes = logits.shape
    p = softmax(logits.astype(np.float64))
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        merged = [k for k, _ in itertools.groupby(path)]
        if [k for k in merged if k != 0] == list(label):
            total += math.prod(p[t, k] for t, k in enumerate(path))
    return -math.log(total)


def test_ctc_is_the_mean_of_the_negative_log_likelihoods(kit):
    logits = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    labels, lengths = [[1, 2, 0], [3, 3, 0], [2, 0, 0]], [2, 2, 1]
    expected = np.mean(
        [brute_force_ctc(x, row[:n]) for x, row, n in zip(logits, labels, lengths, strict=True)]
    )
    found = float(loss_of("rec")(paddle.to_tensor(logits), batch(kit, labels, lengths)))
    assert found == pytest.approx(expected, abs=1e-5)  # nats; float32 sums of 15 logarithms


def test_ctc_takes_labels_without_padding_and_exactly_as_long_as_the_output(kit):
    logits = np.random.default_rng(1).normal(size=(1, 3, 4)).astype(np.float32)
    found = float(loss_of("rec")(paddle.to_tensor(logits), batch(kit, [[1, 2, 3]], [3])))
    assert found == pytest.approx(brute_force_ctc(logits[0], [1, 2, 3]), abs=1e-5)  # nats, float32


@pytest.mark.parametrize(
    ("labels", "lengths", "message"),
    [
        ([[1, 2]], [0], r"line0.png: label \[\] must hold classes from 1 to 3"),
        (np.zeros((1, 0)), [0], "must hold classes"),
        ([[1, 4]], [2], r"label \[1, 4\] must hold classes from 1 to 3"),
        ([[1, 0]], [2], "must hold classes"),
        ([[1, 2]], [3], "must hold classes"),
        ([[1, 1, 2, 2]], [4], "needs 6 time steps, the net gives 5"),
    ],
)
def test_ctc_refuses_labels_that_crash_or_vanish_in_the_c_code(kit, labels, lengths, message):
    with pytest.raises(InputError, match=message):
        loss_of("rec")(paddle.zeros([1, 5, 4]), batch(kit, labels, lengths))


def test_cross_entropy_by_hand(kit):
    logits = np.array([[0.0, math.log(3.0)], [0.0, 0.0]], np.float32)
    found = float(loss_of("cls")(paddle.to_tensor(logits), batch(kit, [1, 0])))
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert found == pytest.approx(expected, abs=1e-6)  # nats, float32


def test_cross_entropy_refuses_a_class_the_net_does_not_have(kit):
    with pytest.raises(InputError, match="run to 2, the net has 2 classes"):
        loss_of("cls")(paddle.zeros([2, 2]), batch(kit, [0, 2]))


def test_an_unknown_kind_has_no_loss():
    with pytest.raises(UnsupportedModel, match="kind 'e2e'; train rec, cls or det models"):
        loss_of("e2e")


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 4)])
def test_distance_to_teacher_against_numpy(temperature, shape):
    rng = np.random.default_rng(2)
    student, teacher = rng.normal(size=(2, *shape)) * 2
    wanted, found = softmax(teacher / temperature), softmax(student / temperature)
    expected = temperature**2 * (wanted * (np.log(wanted) - np.log(found))).sum(-1).mean()
    value = distance_to_teacher(
        paddle.to_tensor(student.astype(np.float32)),
        paddle.to_tensor(softmax(teacher).astype(np.float32)),
        temperature,
    )
    assert float(value) == pytest.approx(expected, rel=1e-5)  # nats, float32


def test_distance_is_zero_for_equal_outputs_and_for_a_certain_teacher():
    logits = paddle.to_tensor(np.array([[50.0, 0.0, 0.0]], np.float32))
    sure = paddle.to_tensor(np.array([[1.0, 0.0, 0.0]], np.float32))
    assert (
        abs(float(distance_to_teacher(logits, sure, 1.0))) < 1e-5
    )  # nats; the teacher's zeros are clipped to 1e-8


def test_teacher_of_other_classes_is_refused():
    with pytest.raises(UnsupportedModel, match=r"teacher's outputs are \[1, 4\], the student's \[1, 3\]"):
        distance_to_teacher(paddle.zeros([1, 3]), paddle.full([1, 4], 0.25), 1.0)


def test_distillation_mixes_task_and_teacher_and_runs_the_teacher_in_eval_mode(kit):
    class Teacher(paddle.nn.Layer):
        def forward(self, x):
            assert not self.training
            return paddle.to_tensor(np.array([[0.9, 0.1]], np.float32))

    logits, image = paddle.to_tensor(np.array([[0.3, -0.2]], np.float32)), paddle.zeros([1, 3, 8, 8])
    one = batch(kit, [1])
    teacher = Teacher()
    task = float(TrainingLoss("cls", teacher, 0.0, 1.0)(logits, image, one))
    distance = float(TrainingLoss("cls", teacher, 1.0, 1.0)(logits, image, one))
    mixed = float(TrainingLoss("cls", teacher, 0.25, 1.0)(logits, image, one))
    assert task != pytest.approx(distance)
    assert mixed == pytest.approx(0.75 * task + 0.25 * distance, rel=1e-6)  # float32

"""The loss of a detector beside figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from slim.errors import InputError
from slim.training.db_loss import balanced_bce, db, dice, masked_l1
from slim.training.losses import TrainingLoss, loss_of


def _t(*values: float) -> paddle.Tensor:
    return paddle.to_tensor(values, dtype="float32")


def test_ground_counts_three_times_as_often_as_text_the_worst_first() -> None:
    """One text pixel at 0.5; of five ground pixels the three at 0.5, 0.4 and 0.2; over four."""
    found = balanced_bce(_t(0.5, 0.1, 0.4, 0.1, 0.5, 0.2), _t(1, 0, 0, 0, 0, 0), paddle.ones([6]))
    wanted = -(2 * math.log(0.5) + math.log(0.6) + math.log(0.8)) / 4
    assert float(found) == pytest.approx(wanted, abs=1e-5)


def test_pixels_that_do_not_count() -> None:
    counts = _t(1, 1, 0, 1, 0, 1)  # without the ground pixels at 0.4 and 0.5
    found = balanced_bce(_t(0.5, 0.1, 0.4, 0.1, 0.5, 0.2), _t(1, 0, 0, 0, 0, 0), counts)
    wanted = -(math.log(0.5) + 2 * math.log(0.9) + math.log(0.8)) / 4
    assert float(found) == pytest.approx(wanted, abs=1e-5)
    none = balanced_bce(_t(0.5, 0.1), _t(0, 0), paddle.ones([2]))
    assert float(none) == 0.0  # without text there is nothing to balance
    assert float(masked_l1(_t(0.5, 0.9), _t(0.3, 0.3), _t(1, 0))) == pytest.approx(0.2, abs=1e-5)
    assert float(masked_l1(_t(0.5), _t(0.3), _t(0))) == 0.0


def test_dice() -> None:
    """Shared 0.8, found 0.8 + 0.4, wanted 1: 1 - 1.6 / 2.2."""
    assert float(dice(_t(0.8, 0.4, 1.0), _t(1, 0, 0), _t(1, 1, 0))) == pytest.approx(1 - 1.6 / 2.2, abs=1e-5)
    assert float(dice(_t(1, 0), _t(1, 0), _t(1, 1))) == pytest.approx(0, abs=1e-5)
    assert float(dice(_t(1, 0), _t(0, 1), _t(1, 1))) == 1.0


def _one(kit, maps: np.ndarray):
    return kit.Batch(np.zeros((1, 3, 2, 2), np.float32), maps, np.ones(1, np.int64), ("a.png",))


# 2 x 2 pixels: shrink map, where it counts, threshold map, where it counts.
LABELS = np.array(
    [[[[1, 0], [0, 0]], [[1, 1], [1, 1]], [[0.7, 0.5], [0.3, 0.3]], [[1, 1], [0, 0]]]], np.float32
)
MAPS = np.array([[[[0.8, 0.4], [0.1, 0.2]], [[0.6, 0.7], [0.9, 0.9]], [[1, 0], [0, 0.5]]]], np.float32)


@pytest.mark.parametrize(
    ("kind", "shrink"),
    [
        ("bce", -(math.log(0.8) + math.log(0.6) + math.log(0.9) + math.log(0.8)) / 4),
        ("dice", 1 - 2 * 0.8 / (1.5 + 1)),
    ],
)
def test_the_three_parts_and_their_weights(kit, kind: str, shrink: float):
    found = float(db(paddle.to_tensor(MAPS), _one(kit, LABELS), kind))
    threshold, binary = (0.1 + 0.2) / 2, 1 - 2 * 1 / (1.5 + 1)
    assert found == pytest.approx(5 * shrink + 10 * threshold + binary, abs=1e-4)
    assert float(loss_of("det", kind)(paddle.to_tensor(MAPS), _one(kit, LABELS))) == found


def test_the_default_is_cross_entropy(kit):
    maps, batch = paddle.to_tensor(MAPS), _one(kit, LABELS)
    assert (
        float(loss_of("det")(maps, batch)) == float(db(maps, batch, "bce")) != float(db(maps, batch, "dice"))
    )


def test_gradients_reach_every_map_where_it_counts(kit):
    maps = paddle.to_tensor(MAPS, stop_gradient=False)
    db(maps, _one(kit, LABELS)).backward()
    moved = maps.grad.numpy()[0] != 0
    assert moved[0].all()  # one text pixel and its three of ground
    assert moved[1].tolist() == [[True, True], [False, False]]
    assert moved[2].all()


def test_labels_of_another_size(kit):
    with pytest.raises(
        InputError, match=r"a.png: maps of \[1, 3, 2, 2\] and labels of \[1, 4, 1, 2\] do not"
    ):
        db(paddle.to_tensor(MAPS), _one(kit, LABELS[:, :, :1]))


def test_a_teacher_of_pages(kit):
    """KL of two choices: with p = 0.5 for the teacher and q for us, -ln(2 sqrt(q (1 - q))) a pixel."""

    class Teacher(paddle.nn.Layer):
        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            return paddle.full([1, 1, 2, 2], 0.5)

    image = paddle.zeros([1, 3, 2, 2])
    loss = TrainingLoss("det", Teacher(), 1.0, 1.0)(paddle.to_tensor(MAPS), image, _one(kit, LABELS))
    wanted = np.mean([-math.log(2 * math.sqrt(q * (1 - q))) for q in MAPS[0, 0].ravel()])
    assert float(loss) == pytest.approx(wanted, abs=1e-5)

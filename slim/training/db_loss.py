"""The loss of a DB detector (Liao et al. 2020, section 3.4), with PaddleOCR's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddle.nn import functional as F

from slim.data.page_maps import SHRINK, SHRINK_MASK, THRESHOLD, THRESHOLD_MASK
from slim.errors import InputError

if TYPE_CHECKING:
    from slim.training.hooks import TrainingBatch

SHRINK_WEIGHT = 5.0
"""alpha in PaddleOCR's files; the paper weighs the shrink map with 1."""
THRESHOLD_WEIGHT = 10.0
"""beta in PaddleOCR's files, and in the paper."""
NEGATIVES = 3
"""Ground pixels that count for each text pixel, the worst ones (online hard example mining)."""
_EPS = 1e-6


def db(maps: paddle.Tensor, batch: TrainingBatch, shrink_loss: str = "bce") -> paddle.Tensor:
    """5 x loss of the shrink map + 10 x L1 of the threshold map + dice of the binary map; 0-D float32.

    Args:
        maps: N x 3 x H x W in 0..1: shrink, threshold and binary map (`slim.arch.heads.DBHead` in training).
        batch: its labels are N x 4 x H x W, see `slim.data.page_maps`.
        shrink_loss: "bce", the paper's, or "dice", which PaddleOCR's files call DiceLoss.
    Raises:
        InputError: the labels have another size than the net's maps.
    """
    if list(batch.labels.shape) != [maps.shape[0], 4, *maps.shape[2:]]:
        raise InputError(
            f"maps of {maps.shape} and labels of {list(batch.labels.shape)} do not fit", where=batch.refs[0]
        )
    wanted = paddle.to_tensor(batch.labels)
    target, counts = wanted[:, SHRINK], wanted[:, SHRINK_MASK]
    shrink = _SHRINK[shrink_loss](maps[:, 0], target, counts)
    threshold = masked_l1(maps[:, 1], wanted[:, THRESHOLD], wanted[:, THRESHOLD_MASK])
    return SHRINK_WEIGHT * shrink + THRESHOLD_WEIGHT * threshold + dice(maps[:, 2], target, counts)


def balanced_bce(found: paddle.Tensor, target: paddle.Tensor, counts: paddle.Tensor) -> paddle.Tensor:
    """Mean cross entropy over the text pixels and, three times as many, the ground pixels with the largest.

    Args:
        found: probabilities; target: 0 or 1; counts: 0 or 1, all of one shape.

    >>> p = paddle.to_tensor([0.5, 0.1, 0.1, 0.1, 0.5])
    >>> text, all_count = paddle.to_tensor([1.0, 0, 0, 0, 0]), paddle.ones([5])
    >>> round(float(balanced_bce(p, text, all_count)), 4)  # ln 2 twice and -ln 0.9 twice, over four
    0.3993
    """
    entropy = F.binary_cross_entropy(found, target, reduction="none")
    text, ground = target * counts, (1 - target) * counts
    number = int(float(text.sum()))
    negative = (entropy * ground).flatten()
    worst = min(int(float(ground.sum())), NEGATIVES * number)
    total = (entropy * text).sum()
    if worst:
        hardest = np.argpartition(negative.detach().numpy(), -worst)[-worst:]
        total = total + paddle.gather(negative, paddle.to_tensor(np.sort(hardest))).sum()
    return total / (number + worst + _EPS)


def masked_l1(found: paddle.Tensor, target: paddle.Tensor, counts: paddle.Tensor) -> paddle.Tensor:
    """Mean distance where ``counts`` is 1."""
    return ((found - target).abs() * counts).sum() / (counts.sum() + _EPS)


def dice(found: paddle.Tensor, target: paddle.Tensor, counts: paddle.Tensor) -> paddle.Tensor:
    """1 - 2 x shared / (found + wanted), where ``counts`` is 1; 0 for equal maps, 1 for disjoint ones."""
    shared = (found * target * counts).sum()
    return 1 - 2 * shared / ((found * counts).sum() + (target * counts).sum() + _EPS)


_SHRINK = {"bce": balanced_bce, "dice": dice}

"""Criteria: by hand on small filters, and equal to PaddleSlim's masks on the shipped models' groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paddle import nn

from prune import paddleslim_masks
from prune.criteria import CRITERIA, criterion
from prune.filters import check_kept, drop_lowest, filters, kept_count
from prune.groups import Group, by_name
from slim.errors import StageFailed, UnsupportedModel, UsageError

Make = Callable[[str], nn.Layer]
Groups = Callable[[str], tuple[Group, ...]]


def test_fpgm_drops_what_lies_in_the_middle_and_norms_what_is_small() -> None:
    w = np.array([[10.0, 0.0], [10.1, 0.0], [-9.0, 1.0], [0.1, 0.2], [30.0, 2.0]], "float32")
    assert drop_lowest(CRITERIA["fpgm"](w), 1) == [1, 2, 3, 4]
    assert drop_lowest(CRITERIA["l1"](w), 1) == [0, 1, 2, 4]
    assert drop_lowest(CRITERIA["l2"](w), 4) == [4]
    np.testing.assert_allclose(CRITERIA["l2"](w)[0], 10.0, rtol=0, atol=0)  # exact: sqrt(100)


@pytest.mark.parametrize("name", ["cls", "rec"])
@pytest.mark.parametrize("kind", ["fpgm", "l1", "l2"])
def test_paddleslim_keeps_the_channels_our_scores_rank_highest(
    nets: Make, groups_of: Groups, name: str, kind: str
) -> None:
    net = nets(name)
    for group in groups_of(name):
        if group.prunable:
            w = filters(net, group)
            for ratio in (0.125, 0.5):
                count = kept_count(group.size, ratio)
                ours = drop_lowest(CRITERIA[kind](w), group.size - count)
                assert paddleslim_masks.keep(kind, w, count) == ours, group.name


def test_a_residual_sum_is_judged_by_all_its_filters(nets: Make, groups_of: Groups) -> None:
    group = by_name(groups_of("cls"), "backbone.blocks.3.linear_conv.conv")
    net = nets("cls")
    layers = dict(net.named_sublayers())
    per_filter = [int(np.prod(layers[m.path].weight.shape[1:])) for m in group.producers]
    assert len(per_filter) == 5 and filters(net, group).shape == (group.size, sum(per_filter))


@given(size=st.integers(1, 40), data=st.data())
def test_masks_keep_exactly_what_was_asked(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, size))
    w = np.random.default_rng(size).normal(size=(size, 3)).astype("float32")
    kept = paddleslim_masks.keep("l1", w, count)
    assert len(kept) == count and kept == sorted(set(kept))


@given(size=st.integers(1, 600), ratio=st.floats(0.0, 0.9), align=st.integers(1, 16))
def test_kept_count_is_aligned_or_whole_and_never_empty(size: int, ratio: float, align: int) -> None:
    kept = kept_count(size, ratio, align)
    assert 1 <= kept <= size and (kept % align == 0 or kept == size)
    assert kept >= size - round(size * ratio)


class _Wrong:
    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    def cal_mask(self, ratio: float, collection: object) -> np.ndarray:
        return self.mask


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros(4, "int32"),
        np.ones(4, "int32"),
        np.array([1, 1, 0, 0, 0], "int32"),
        np.array([1.0, 1.0, 0.0, 0.0]),
        np.array([2, 0, 0, 0], "int32"),
    ],
)
def test_a_mask_that_is_not_one_is_refused(monkeypatch: pytest.MonkeyPatch, mask: np.ndarray) -> None:
    pruner = type("Bad", (_Wrong,), {"__init__": lambda self: None, "mask": mask})
    monkeypatch.setattr(paddleslim_masks, "_pruner", lambda kind: pruner)
    with pytest.raises(StageFailed, match="asked for 2 of 4"):
        paddleslim_masks.keep("l1", np.ones((4, 2), "float32"), 2)


def test_why_paddleslims_own_collections_are_not_used(nets: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """They stop at the LSTM: the CRNN's last conv, its dearest to prune, belongs to no collection."""
    from paddleslim.dygraph import FPGMFilterPruner

    net = nets("rec")
    found = {c.master_name for c in FPGMFilterPruner(net, [1, 3, 32, 96]).collections}
    assert net.backbone.conv1.conv.weight.name in found
    assert net.backbone.conv2.conv.weight.name not in found


def test_unknown_criterion_and_wrong_counts_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="'taylor' is not known; use one of fpgm, l1, l2"):
        criterion("taylor")
    with pytest.raises(UsageError, match="cannot keep 0 of 3"):
        paddleslim_masks.keep("l1", np.ones((3, 2), "float32"), 0)
    with pytest.raises(UnsupportedModel, match="not channels of g"):
        check_kept([0, 9], Group("g", 4, (), ()))

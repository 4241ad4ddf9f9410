"""Nets a user may bring: every criterion cuts what it says, and a wrong group is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from prune.costs import CostModel
from prune.criteria import CRITERIA
from prune.filters import drop_lowest, group_data, has_norm, kept_count
from prune.gradients import gradients
from prune.groups import Group, cuts_for, find_groups
from prune.verify import BOUND, difference, random_input
from slim.arch.cost import count
from slim.arch.cuts import apply_cuts
from slim.errors import StageFailed

SHAPE = (3, 16, 16)


@dataclass
class Batch:
    image: np.ndarray


def conv(a: int, b: int, k: int = 3, **kw: object) -> nn.Conv2D:
    return nn.Conv2D(a, b, k, padding=k // 2, **kw)


def plain() -> nn.Layer:
    """A Sequential with pooling, a flatten and two linear layers."""
    return nn.Sequential(
        conv(3, 8), nn.BatchNorm2D(8), nn.Hardswish(), nn.MaxPool2D(2), conv(8, 12, bias_attr=False),
        nn.BatchNorm2D(12), nn.Sigmoid(), nn.MaxPool2D(4), nn.Flatten(), nn.Linear(48, 10), nn.ReLU(),
        nn.Linear(10, 4),
    )  # fmt: skip


class ResNet(nn.Layer):
    """Two residual stages, the second with a projected shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = conv(3, 8), nn.BatchNorm2D(8)
        self.a1, self.n1, self.a2, self.n2 = conv(8, 10), nn.BatchNorm2D(10), conv(10, 8), nn.BatchNorm2D(8)
        self.b1, self.m1 = conv(8, 14, stride=2), nn.BatchNorm2D(14)
        self.b2, self.m2 = conv(14, 16), nn.BatchNorm2D(16)
        self.short = nn.Conv2D(8, 16, 1, stride=2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(x + self.n2(self.a2(F.relu(self.n1(self.a1(x))))))
        x = F.relu(self.short(x) + self.m2(self.b2(F.relu(self.m1(self.b1(x))))))
        return self.fc(x.mean(axis=[2, 3]))


class Everything(nn.Layer):
    """Depthwise, squeeze-excite, concat, upsample-add, then an LSTM: the whole list in one net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand, self.bn1 = conv(3, 6), conv(6, 12, 1), nn.BatchNorm2D(12)
        self.depth, self.bn2 = conv(12, 12, groups=12), nn.BatchNorm2D(12)
        self.down, self.up = conv(12, 4, 1), conv(12, 4, 1)
        self.squeeze, self.excite = nn.Conv2D(12, 5, 1), nn.Conv2D(5, 12, 1)
        self.mix = conv(8, 7)
        self.lstm, self.fc = nn.LSTM(7, 6, num_layers=2, direction="bidirectional"), nn.Linear(12, 3)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = F.relu(self.bn1(self.expand(self.stem(x))))
        x = F.hardswish(self.bn2(self.depth(x)))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        x = x * gate
        small = F.interpolate(self.down(F.avg_pool2d(x, 2)), scale_factor=2, mode="nearest")
        x = paddle.concat([small + self.up(x), small], axis=1)
        x = F.max_pool2d(self.mix(x), [16, 1]).squeeze(2).transpose([0, 2, 1])
        return self.fc(self.lstm(x)[0])


NETS: dict[str, Callable[[], nn.Layer]] = {"plain": plain, "resnet": ResNet, "everything": Everything}


def make(name: str) -> nn.Layer:
    """Seeded weights, BatchNorm scales that differ and statistics of real activations."""
    paddle.seed(11)
    net = NETS[name]()
    rng = np.random.default_rng(5)
    for layer in net.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer.weight.set_value(rng.uniform(0.3, 1.5, layer.weight.shape).astype("float32"))
            layer.bias.set_value(rng.uniform(-0.5, 0.5, layer.bias.shape).astype("float32"))
            layer._mean.set_value(rng.uniform(-0.3, 0.3, layer._mean.shape).astype("float32"))
    net.eval()
    return net


def chosen(net: nn.Layer, groups: tuple[Group, ...], kind: str) -> dict[str, list[int]]:
    slopes = None
    if kind == "taylor":
        batches = [Batch(random_input(SHAPE, seed)) for seed in (1, 2)]
        slopes = gradients(net, lambda out, batch: (out * out).mean(), batches)
    judged = [g for g in groups if g.prunable and (kind != "bn_scale" or has_norm(net, g))]
    return {
        g.name: drop_lowest(CRITERIA[kind](group_data(net, g, slopes)), g.size - kept_count(g.size, 0.4))
        for g in judged
    }


@pytest.mark.parametrize("kind", sorted(CRITERIA))
@pytest.mark.parametrize("name", sorted(NETS))
def test_pruned_equals_masked(name: str, kind: str) -> None:
    net, pruned = make(name), make(name)
    groups = find_groups(net, SHAPE)
    kept = chosen(net, groups, kind)
    assert kept and all(0 < len(kept[g.name]) < g.size for g in groups if g.name in kept)
    apply_cuts(pruned, cuts_for(groups, kept))
    counts = {group: len(channels) for group, channels in kept.items()}
    costs, measured = CostModel(net, groups, SHAPE), count(pruned, SHAPE)
    assert (costs.flops(counts), costs.params(counts)) == (measured.flops, measured.params)
    assert difference(net, pruned, groups, kept, random_input(SHAPE, 3)) <= BOUND


def test_the_issues_list_of_ties_is_found() -> None:
    groups = {g.name: g for g in find_groups(make("everything"), SHAPE)}
    sides = {name: {f"{m.path}:{m.side}" for m in g.members} for name, g in groups.items()}
    assert sides["expand"] == {
        "expand:out", "bn1:out", "depth:out", "bn2:out", "squeeze:in", "excite:out", "down:in", "up:in",
    }  # fmt: skip
    assert sides["squeeze"] == {"squeeze:out", "excite:in"}
    assert sides["down"] == {"down:out", "up:out", "mix:in"}  # upsample-add, then concat
    assert sorted(m.offset for m in groups["down"].consumers) == [0, 4]
    assert sides["mix"] == {"mix:out", "lstm:in"}
    assert sides["lstm"] == {"lstm:hidden", "fc:in"}
    assert all(groups[name].prunable for name in sides if name not in ("(input)", "fc"))


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_wrong_index_is_seen(name: str) -> None:
    """The sabotage twin, for each layer side of each group: one kept channel is taken for its neighbour."""
    net = make(name)
    groups = find_groups(net, SHAPE)
    for group in [g for g in groups if g.prunable]:
        kept = {group.name: list(range(0, group.size, 2))}
        right = cuts_for(groups, kept)
        for path, cut in right.items():
            for side, indices in cut.items():
                wrong = {p: {s: list(i) for s, i in c.items()} for p, c in right.items()}
                free = [k for k, i in enumerate(indices) if i + 1 not in indices]
                spot = next(k for k in free if indices[k] + 1 < _width(net, path, side))
                wrong[path][side][spot] += 1
                bad = make(name)
                apply_cuts(bad, wrong)
                off = difference(make(name), bad, groups, kept, random_input(SHAPE, 4))
                assert off > 10 * BOUND, (group.name, path, side)


def _width(net: nn.Layer, path: str, side: str) -> int:
    layer = dict(net.named_sublayers())[path]
    if isinstance(layer, nn.LSTM):
        return int(layer.hidden_size if side == "hidden" else layer.input_size)
    if isinstance(layer, nn.BatchNorm2D):
        return int(layer._num_features)
    axis = (0 if side == "out" else 1) if isinstance(layer, nn.Conv2D) else (1 if side == "out" else 0)
    return int(layer.weight.shape[axis])


def test_a_lost_layer_does_not_run() -> None:
    net, pruned = make("resnet"), make("resnet")
    groups = find_groups(net, SHAPE)
    cuts = cuts_for(groups, {"short": [0, 1, 2]})
    del cuts["b2"]
    apply_cuts(pruned, cuts)
    with pytest.raises(StageFailed, match="does not run"):
        difference(net, pruned, groups, {"short": [0, 1, 2]}, random_input(SHAPE, 4))

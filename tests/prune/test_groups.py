"""Which channels are tied, in the published nets and in nets a user may bring."""

from __future__ import annotations

from collections.abc import Callable

import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from prune.groups import INPUT, Group, by_name, cuts_for, excluded, find_groups
from prune.trace import trace
from slim.errors import UnsupportedModel, UsageError

Make = Callable[[str], nn.Layer]
Groups = Callable[[str], tuple[Group, ...]]
SHAPE = (3, 16, 16)


def sides(group: Group) -> set[str]:
    return {f"{m.path}:{m.side}" for m in group.members}


def names(groups: tuple[Group, ...]) -> dict[str, bool]:
    return {g.name: g.prunable for g in groups if g.name != INPUT}


def test_classifier_groups(groups_of: Groups) -> None:
    groups = groups_of("cls")
    block = by_name(groups, "backbone.blocks.4.expand_conv.conv")
    assert sides(block) == {
        "backbone.blocks.4.expand_conv.conv:out",
        "backbone.blocks.4.expand_conv.bn:out",
        "backbone.blocks.4.bottleneck_conv.conv:out",
        "backbone.blocks.4.bottleneck_conv.bn:out",
        "backbone.blocks.4.mid_se.conv1:in",
        "backbone.blocks.4.mid_se.conv2:out",
        "backbone.blocks.4.linear_conv.conv:in",
    }
    squeezed = by_name(groups, "backbone.blocks.4.mid_se.conv1")
    assert sides(squeezed) == {"backbone.blocks.4.mid_se.conv1:out", "backbone.blocks.4.mid_se.conv2:in"}
    stream = by_name(groups, "backbone.blocks.3.linear_conv.conv")
    made_by = {m.path for m in stream.producers}
    assert made_by == {f"backbone.blocks.{i}.linear_conv.conv" for i in (3, 4, 5, 6, 7)}
    assert by_name(groups, "backbone.conv2.conv").consumers[0].path == "head.fc"
    head = by_name(groups, "head.fc")
    assert not head.prunable and "network output" in head.reasons


def test_the_road_into_the_lstm(groups_of: Groups) -> None:
    groups = groups_of("rec")
    last = by_name(groups, "backbone.conv2.conv")
    assert last.prunable and [(m.path, m.side) for m in last.consumers] == [("neck.encoder.lstm", "in")]


def test_hidden_units_are_one_group_through_weight_hh_the_next_layer_and_the_head(groups_of: Groups) -> None:
    hidden = by_name(groups_of("rec"), "neck.encoder.lstm")
    assert hidden.prunable and hidden.size == 48
    assert {(m.path, m.side, m.role, m.offset) for m in hidden.members} == {
        ("neck.encoder.lstm", "hidden", "recurrent", 0),
        ("head.fc", "in", "consumer", 0),
        ("head.fc", "in", "consumer", 48),
    }
    cuts = cuts_for(groups_of("rec"), {hidden.name: [0, 47]})
    assert cuts == {"neck.encoder.lstm": {"hidden": [0, 47]}, "head.fc": {"in": [0, 47, 48, 95]}}
    assert excluded(hidden, ["neck.*"]) and not excluded(hidden, ["head.*"])


@pytest.mark.parametrize("name", ["det_mv3", "det_res18"])
def test_detector_pyramid_and_the_training_only_branch(groups_of: Groups, name: str) -> None:
    groups = groups_of(name)
    lateral = by_name(groups, "neck.in5_conv")
    assert {m.path for m in lateral.producers} == {f"neck.in{i}_conv" for i in (2, 3, 4, 5)}
    for offset, level in zip((0, 8, 16, 24), (5, 4, 3, 2), strict=True):
        smooth = by_name(groups, f"neck.p{level}_conv")
        readers = {(m.path, m.offset) for m in smooth.consumers}
        assert readers == {("head.binarize.conv1", offset), ("head.thresh.conv1", offset)}
    assert names(groups)["head.binarize.conv1"] and names(groups)["head.binarize.conv2"]
    for branch in ("head.thresh.conv1", "head.thresh.conv2"):
        assert by_name(groups, branch).reasons == (
            "only training runs it, so a cut of it makes no file smaller",
        )
    assert not names(groups)["head.binarize.conv3"]


def test_the_layers_of_inference_are_all_but_the_training_branch(nets: Make) -> None:
    net = nets("det_mv3")
    owners = {path for path, layer in net.named_sublayers() if layer.parameters(include_sublayers=False)}
    assert trace(net, (3, 64, 64)).inference_layers() == {
        p for p in owners if not p.startswith("head.thresh")
    }


def test_order_and_names_are_the_same_every_time(nets: Make, groups_of: Groups) -> None:
    assert find_groups(nets("rec"), (3, 32, 96)) == groups_of("rec")


def test_tracing_changes_nothing(nets: Make) -> None:
    net = nets("det_mv3")
    net.backbone.train()
    before = {name: t.numpy() for name, t in net.state_dict().items()}
    modes = [layer.training for layer in net.sublayers(include_self=True)]
    trace(net, (3, 64, 64))
    assert [layer.training for layer in net.sublayers(include_self=True)] == modes
    assert all((before[name] == t.numpy()).all() for name, t in net.state_dict().items())
    # paddle's tracer leaves rewritten methods on every layer: later training would run those.
    assert not any("forward" in layer.__dict__ for layer in net.sublayers(include_self=True))


def conv(a: int, b: int, k: int = 1, **kw: object) -> nn.Conv2D:
    return nn.Conv2D(a, b, k, padding=k // 2, **kw)


class Residual(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 8, 3), conv(8, 12, 3), conv(12, 8, 3)
        self.norm = nn.BatchNorm2D(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = F.relu(self.stem(x))
        x = x + self.norm(self.b(F.sigmoid(self.a(x))))
        return self.fc(x.mean(axis=[2, 3]))


class Flattened(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 4), conv(3, 6)
        self.fc = nn.Linear(10 * 256, 5)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc(paddle.concat([self.a(x), self.b(x)], axis=1).flatten(1))


class Gate(nn.Layer):
    """A map of one channel that weights all others: it ties nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate, self.out = conv(3, 6), conv(6, 1), conv(6, 2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.a(x)
        return self.out(x * F.sigmoid(self.gate(x)))


class Scaled(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.out = conv(3, 6), conv(6, 2)
        self.scale = self.create_parameter([1, 6, 1, 1])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.out(self.a(x) * self.scale)


class Twice(nn.Layer):
    """A layer called twice reads and makes the same channels both times."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.shared, self.out = conv(3, 6), conv(3, 6), conv(6, 4), conv(8, 2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.out(paddle.concat([self.shared(self.a(x)), self.shared(self.b(x))], axis=1))


def test_residual_sum_with_mean_and_linear() -> None:
    groups = find_groups(Residual(), SHAPE)
    assert names(groups) == {"stem": True, "a": True, "fc": False}
    assert sides(by_name(groups, "stem")) == {"stem:out", "b:out", "norm:out", "a:in", "fc:in"}


def test_flatten_repeats_and_concat_offsets() -> None:
    groups = find_groups(Flattened(), SHAPE)
    (reader,) = by_name(groups, "b").consumers
    assert (reader.path, reader.offset, reader.repeat) == ("fc", 4 * 256, 256)
    cuts = cuts_for(groups, {"b": [1]})
    assert cuts["b"] == {"out": [1]}
    assert cuts["fc"]["in"] == [*range(4 * 256), *range(5 * 256, 6 * 256)]


def test_a_one_channel_gate_ties_nothing() -> None:
    groups = find_groups(Gate(), SHAPE)
    assert by_name(groups, "a").prunable
    assert by_name(groups, "gate").reasons == ("it has one channel",)


def test_a_free_parameter_pins_what_it_scales() -> None:
    group = by_name(find_groups(Scaled(), SHAPE), "a")
    assert not group.prunable and "cannot be cut" in group.reasons[0]


def test_a_layer_called_twice_ties_both_inputs() -> None:
    groups = find_groups(Twice(), SHAPE)
    assert sides(by_name(groups, "a")) == {"a:out", "b:out", "shared:in"}
    assert [m.offset for m in by_name(groups, "shared").consumers] == [0, 4]


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([conv(3, 8), conv(8, 8, groups=2), conv(8, 2)], "grouped convolution"),
        ([conv(3, 8), nn.GroupNorm(2, 8), conv(8, 2)], "not followed"),
        ([conv(3, 8), nn.PReLU(8), conv(8, 2)], "not followed"),
        ([conv(3, 8), nn.Softmax(axis=1), conv(8, 2)], "softmax over the channels"),
        ([conv(3, 8), nn.PixelShuffle(2), conv(2, 2)], "not followed"),
    ],
)
def test_what_cannot_be_followed_stays_and_says_why(layers: list[nn.Layer], reason: str) -> None:
    group = by_name(find_groups(nn.Sequential(*layers), SHAPE), "0")
    assert not group.prunable and any(reason in r for r in group.reasons), group.reasons


class Recurrent(nn.Layer):
    """An LSTM read by a sum and by its last state; another starts from that state."""

    def __init__(self, state: bool = False, kind: type[nn.Layer] = nn.LSTM) -> None:
        super().__init__()
        self.rnn, self.second = kind(3, 6), nn.LSTM(6, 4)
        self.fc, self.state = nn.Linear(4, 2), state

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x, last = self.rnn(x.squeeze(2).transpose([0, 2, 1]))
        if self.state:
            return self.fc(self.second(x)[0]).sum(1) + last[0].sum(axis=2).transpose([1, 0])
        return self.fc(self.second(x)[0])


def test_lstms_in_a_row_and_what_a_last_state_pins() -> None:
    groups = find_groups(Recurrent(), (3, 1, 7))
    assert names(groups) == {"rnn": True, "second": True, "fc": False}
    assert sides(by_name(groups, "rnn")) == {"rnn:hidden", "second:in"}
    pinned = by_name(find_groups(Recurrent(state=True), (3, 1, 7)), "rnn")
    assert not pinned.prunable and "reduce_sum" in pinned.reasons[0]
    gru = by_name(find_groups(Recurrent(kind=nn.GRU), (3, 1, 7)), "rnn")
    assert not gru.prunable and "GRU" in gru.reasons[0]


def test_exclude_by_glob() -> None:
    groups = find_groups(Residual(), SHAPE)
    assert excluded(by_name(groups, "stem"), ["norm"])
    assert not excluded(by_name(groups, "a"), ["st*"])


def test_unknown_group_and_untraceable_net_are_named() -> None:
    with pytest.raises(UsageError, match=r"no group is named 'nope'.*--show-groups"):
        by_name(find_groups(Residual(), SHAPE), "nope")

    class Broken(nn.Layer):
        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            raise KeyError("lost")

    with pytest.raises(UnsupportedModel, match=r"Broken\.forward"):
        find_groups(Broken(), SHAPE)

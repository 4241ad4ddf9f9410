"""How channels pass through each op: one small rule per op type, chosen by table.

A variable's flow is the axis its channels lie on and the runs of spaces on that axis. An op no rule
knows pins what it reads: its channels stay, with the op named as the reason, and nothing breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from prune.spaces import Block, Spaces
from prune.trace import Graph, Op

CUTTABLE = frozenset({"Conv2D", "Conv2DTranspose", "BatchNorm2D", "Linear", "LSTM"})
"""Layer kinds that `slim.arch.cuts` can slice."""

# One input, one output, each channel by itself.
_CHANNELWISE = (
    *("relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid", "swish", "silu", "tanh", "leaky_relu"),
    *("gelu", "elu", "selu", "mish", "softplus", "scale", "dropout", "pool2d", "max_pool2d_with_index"),
    *("nearest_interp_v2", "bilinear_interp_v2", "bicubic_interp_v2", "pad3d", "cast", "assign", "clip"),
    *("exp", "log", "sqrt", "rsqrt", "square", "pow", "abs", "floor"),
)
_ELEMENTWISE = tuple(f"elementwise_{kind}" for kind in ("add", "sub", "mul", "div", "max", "min", "pow"))
_REDUCE = tuple(f"reduce_{kind}" for kind in ("mean", "sum", "max", "min", "prod"))
# They read a shape, not channels.
_SHAPE_ONLY = ("shape", "fill_any_like", "fill_constant_batch_size_like")


@dataclass(frozen=True)
class Flow:
    """Channels of a variable: the axis and the runs of spaces along it."""

    axis: int
    blocks: tuple[Block, ...]


class Follower:
    """Walks a graph once and fills `Spaces`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.spaces = Spaces()
        self.flows: dict[str, Flow] = {}
        self._from_parameter: dict[str, str] = {}
        self._made: dict[tuple[str, str], Flow] = {}

    def run(self) -> Spaces:
        """Follow every op; afterwards the spaces know their members and pins."""
        for name in self.graph.inputs:
            flow = self._fresh(name, 1)
            self.spaces.pin(flow.blocks, "network input")
        for op in self.graph.ops:
            RULES.get(op.type, _unknown)(self, op)
        for name in self.graph.outputs:
            if name in self.flows:
                self.spaces.pin(self.flows[name].blocks, "network output")
        return self.spaces

    # What the rules below are written in.

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph.shapes[name]

    def owner(self, name: str | None) -> str | None:
        """Layer path of a parameter, also through the reshape paddle puts around a bias."""
        if name is None:
            return None
        return self.graph.owners.get(name, self._from_parameter.get(name))

    def carry(self, op: Op, slot: str, flow: Flow) -> None:
        for name in op.outputs.get(slot, ()):
            self.flows[name] = flow

    def pin_inputs(self, op: Op, reason: str) -> None:
        for name in op.all_inputs():
            if name in self.flows:
                self.spaces.pin(self.flows[name].blocks, reason)

    def derive(self, op: Op, source: str) -> bool:
        """A view of a parameter stays that parameter's."""
        path = self.owner(source)
        if path is not None:
            self._from_parameter.update(dict.fromkeys(op.all_outputs(), path))
        return path is not None

    def _fresh(self, name: str, axis: int) -> Flow:
        size = self.shape(name)[axis]
        self.flows[name] = Flow(axis, (Block(self.spaces.new(size), size),))
        return self.flows[name]

    def produce(self, op: Op, slot: str, path: str, axis: int) -> Flow:
        """New channels, made by a layer; a layer that runs twice makes the same ones."""
        name = op.outputs[slot][0]
        made = self._made.get((path, "out"))
        if made is not None and made.axis == axis:
            self.flows[name] = made
            return made
        flow = self._fresh(name, axis)
        self._made[path, "out"] = flow
        self.join(flow.blocks, path, "out", "producer")
        return flow

    def join(self, blocks: tuple[Block, ...], path: str, side: str, role: str) -> None:
        """Make a layer's side a member; a second call of the layer ties the channels of both."""
        kind = self.graph.kinds.get(path, "")
        if kind not in CUTTABLE:
            self.spaces.pin(blocks, f"{path or 'the net itself'} is a {kind}, which cannot be cut")
        before = self._made.get((path, f"{role}:{side}"))
        if before is not None:
            self.spaces.tie_blocks(before.blocks, blocks, f"{path}, called twice,")
            return
        self._made[path, f"{role}:{side}"] = Flow(0, blocks)
        self.spaces.add(blocks, path, side, role)

    def hidden(self, path: str, size: int, directions: int) -> Flow:
        """Units of a recurrent layer, ``size`` for each direction; the same at every call of it."""
        made = self._made.get((path, "hidden"))
        if made is None:
            made = Flow(2, (Block(self.spaces.new(size), size),) * directions)
            self._made[path, "hidden"] = made
            self.join(made.blocks[:1], path, "hidden", "recurrent")
        return made

    def consume(self, op: Op, slot: str, path: str, axis: int) -> bool:
        """Let a layer read channels on ``axis``; False (and pinned) when they lie elsewhere."""
        name = op.first(slot)
        flow = self.flows.get(name) if name else None
        if flow is None:
            return False
        if flow.axis != axis:
            self.spaces.pin(flow.blocks, f"{path} does not read them along axis {axis}")
            return False
        self.join(flow.blocks, path, "in", "consumer")
        return True


def _unknown(net: Follower, op: Op) -> None:
    net.pin_inputs(op, f"read by op {op.type!r}, which is not followed")


def _ignore(net: Follower, op: Op) -> None:
    """Its outputs carry no channels."""


def _channelwise(net: Follower, op: Op) -> None:
    flow = net.flows.get(op.first("X") or "")
    if flow is None:
        net.derive(op, op.first("X") or "")
        return
    others = [name for slot, names in op.inputs.items() if slot != "X" for name in names]
    if any(net.owner(name) for name in others):
        net.spaces.pin(flow.blocks, f"op {op.type!r} has parameters that cannot be cut")
    net.carry(op, "Out", flow)


def _conv(net: Follower, op: Op) -> None:
    path = net.owner(op.first("Filter"))
    if path is None:
        return _unknown(net, op)
    groups, source = int(op.attrs.get("groups", 1)), net.flows.get(op.first("Input") or "")
    made = net.shape(op.outputs["Output"][0])[1]
    if groups == 1:
        net.consume(op, "Input", path, 1)
        net.produce(op, "Output", path, 1)
    elif source is not None and groups == made == net.shape(op.first("Input") or "")[1]:
        net.join(source.blocks, path, "out", "follower")
        net.carry(op, "Output", source)
    else:
        reason = f"{path} is a grouped convolution ({groups} groups), which cannot be cut"
        net.pin_inputs(op, reason)
        net.spaces.pin(net.produce(op, "Output", path, 1).blocks, reason)
    return None


def _batch_norm(net: Follower, op: Op) -> None:
    path, flow = net.owner(op.first("Mean")), net.flows.get(op.first("X") or "")
    if path is None or flow is None or flow.axis != 1:
        return _unknown(net, op)
    net.join(flow.blocks, path, "out", "follower")
    net.carry(op, "Y", flow)
    return None


def _matmul(net: Follower, op: Op) -> None:
    path, out = net.owner(op.first("Y")), op.outputs["Out"][0]
    plain = not (op.attrs.get("trans_x") or op.attrs.get("trans_y"))
    if path is None or not plain or len(net.shape(op.first("Y") or "")) != 2:
        return _unknown(net, op)
    net.consume(op, "X", path, len(net.shape(op.first("X") or "")) - 1)
    net.produce(op, "Out", path, len(net.shape(out)) - 1)
    return None


def _rnn(net: Follower, op: Op) -> None:
    """Hidden units: one space for all layers and directions, laid side by side along the output."""
    path = net.owner(op.first("WeightList"))
    if path is None:
        return _unknown(net, op)
    net.consume(op, "Input", path, 2)
    size, out = int(op.attrs["hidden_size"]), op.outputs["Out"][0]
    flow = net.hidden(path, size, net.shape(out)[2] // size)
    net.carry(op, "Out", flow)
    net.carry(op, "State", Flow(2, flow.blocks[:1]))
    if any(name in net.flows or net.owner(name) for name in op.inputs.get("PreState", ())):
        net.spaces.pin(flow.blocks, f"{path} starts from a state that another layer makes")
    return None


def _elementwise(net: Follower, op: Op) -> None:
    x, y, out = op.first("X") or "", op.first("Y") or "", op.outputs["Out"][0]
    if x not in net.flows and y not in net.flows:
        return None
    rank = len(net.shape(out))
    flows = [_aligned(net, op, name, rank) for name in (x, y)]
    main = next((flow for flow in flows if flow is not None and _spans(flow, net.shape(out))), None)
    if main is None:
        return _unknown(net, op)
    for name, flow in zip((x, y), flows, strict=True):
        if flow is None:
            _meet_untracked(net, op, name, main, rank)
        elif flow is not main and flow.axis == main.axis and _spans(flow, net.shape(out)):
            net.spaces.tie_blocks(main.blocks, flow.blocks, op.type)
        elif flow is not main and flow.axis != main.axis:
            net.spaces.pin((*main.blocks, *flow.blocks), f"{op.type} joins channels of different axes")
    net.carry(op, "Out", main)
    return None


def _aligned(net: Follower, op: Op, name: str, rank: int) -> Flow | None:
    """The operand's flow in the axes of the result (trailing axes match, unless attr axis says else)."""
    flow = net.flows.get(name)
    return None if flow is None else Flow(flow.axis + _shift(net, op, name, rank), flow.blocks)


def _shift(net: Follower, op: Op, name: str, rank: int) -> int:
    missing, axis = rank - len(net.shape(name)), int(op.attrs.get("axis", -1))
    return axis if missing and axis >= 0 else missing


def _spans(flow: Flow, shape: tuple[int, ...]) -> bool:
    return sum(block.width for block in flow.blocks) == shape[flow.axis]


def _meet_untracked(net: Follower, op: Op, name: str, main: Flow, rank: int) -> None:
    """A bias of the layer that made the channels goes with them; anything else that spans them pins."""
    own = main.axis - _shift(net, op, name, rank)
    if own < 0 or not net.shape(name) or net.shape(name)[own] == 1:
        return
    path = net.owner(name)
    if path is not None and net.spaces.has(main.blocks, path, "out"):
        return
    source = f"a parameter of {path or 'the net itself'}" if path is not None else "a constant"
    net.spaces.pin(main.blocks, f"{op.type} with {source}, which cannot be cut")


def _concat(net: Follower, op: Op) -> None:
    names = op.inputs["X"]
    rank = len(net.shape(op.outputs["Out"][0]))
    axis = int(op.attrs.get("axis", 0)) % rank
    flows = [net.flows.get(name) for name in names]
    known = [flow for flow in flows if flow is not None]
    if len(known) < len(flows) or len({flow.axis for flow in known}) != 1:
        return _unknown(net, op)
    if known[0].axis == axis:
        return net.carry(op, "Out", Flow(axis, tuple(block for flow in known for block in flow.blocks)))
    for flow in known[1:]:
        net.spaces.tie_blocks(known[0].blocks, flow.blocks, op.type)
    return net.carry(op, "Out", known[0])


def _transpose(net: Follower, op: Op) -> None:
    flow = net.flows.get(op.first("X") or "")
    if flow is not None:
        axes = [int(a) for a in op.attrs["axis"]]
        net.carry(op, "Out", Flow(axes.index(flow.axis), flow.blocks))


def _reshape(net: Follower, op: Op) -> None:
    """reshape, flatten, squeeze, unsqueeze: where the channel axis went, by counting elements."""
    name, out = op.first("X") or "", op.outputs["Out"][0]
    flow = net.flows.get(name)
    if flow is None:
        net.derive(op, name)
        return
    before, after = net.shape(name), net.shape(out)
    axis = _new_axis(before, after, flow.axis)
    if axis is None:
        net.spaces.pin(flow.blocks, f"op {op.type!r} splits or mixes them")
        return
    repeat = after[axis] // before[flow.axis]
    blocks = tuple(Block(b.space, b.size, b.repeat * repeat) for b in flow.blocks)
    net.carry(op, "Out", Flow(axis, blocks))


def _new_axis(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """The axis of ``after`` that holds axis ``axis`` of ``before``, alone or with what lies behind it.

    >>> _new_axis((2, 8, 1, 5), (2, 8, 5), 1), _new_axis((2, 8, 3, 5), (2, 120), 1)
    (1, 1)
    >>> _new_axis((2, 8, 3, 5), (2, 4, 2, 15), 1) is None
    True
    """
    size, ahead = before[axis], prod(before[:axis])
    for candidate, side in enumerate(after):
        if prod(after[:candidate]) == ahead and side % size == 0 and side >= size:
            return candidate
    return None


def _reduce(net: Follower, op: Op) -> None:
    flow = net.flows.get(op.first("X") or "")
    if flow is None:
        return
    rank = len(net.shape(op.first("X") or ""))
    dims = sorted(int(d) % rank for d in op.attrs.get("dim", ()))
    if op.attrs.get("reduce_all") or not dims or flow.axis in dims:
        return _unknown(net, op)
    gone = 0 if op.attrs.get("keep_dim") else sum(1 for d in dims if d < flow.axis)
    net.carry(op, "Out", Flow(flow.axis - gone, flow.blocks))


def _softmax(net: Follower, op: Op) -> None:
    flow = net.flows.get(op.first("X") or "")
    if flow is None:
        return
    if int(op.attrs.get("axis", -1)) % len(net.shape(op.first("X") or "")) == flow.axis:
        net.spaces.pin(flow.blocks, "softmax over the channels")
    net.carry(op, "Out", flow)


RULES: dict[str, Callable[[Follower, Op], None]] = {
    **dict.fromkeys(_CHANNELWISE, _channelwise),
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_REDUCE, _reduce),
    **dict.fromkeys(_SHAPE_ONLY, _ignore),
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv2d_transpose"), _conv),
    **dict.fromkeys(("reshape2", "squeeze2", "unsqueeze2", "flatten_contiguous_range"), _reshape),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    "batch_norm": _batch_norm,
    "matmul_v2": _matmul,
    "rnn": _rnn,
    "concat": _concat,
    "transpose2": _transpose,
}
"""Op type -> rule; a new op is a line here."""

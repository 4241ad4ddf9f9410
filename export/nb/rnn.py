"""The LSTM: op ``rnn`` with mode LSTM, any number of layers, one or two directions.

Sources: ``lite/kernels/arm/rnn_compute.cc`` (order of the weights, input product before the loop),
``lite/backends/arm/math/lstm.h`` (gate order i, f, c, o; which activation each gets).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.nb.device_math import TANH_LIMIT, Math
from export.nb.ops import Env, Site, Step, handles

Array = np.ndarray
_ONE = np.float32(1)


@dataclass(frozen=True)
class Layer:
    """Names of one layer's arrays, one per direction: w_ih 4H x I, w_hh 4H x H, b_ih and b_hh 4H."""

    w_ih: tuple[str, ...]
    w_hh: tuple[str, ...]
    b_ih: tuple[str, ...]
    b_hh: tuple[str, ...]


def layers_of(names: tuple[str, ...], layers: int, directions: int) -> list[Layer]:
    """Cuts the WeightList: all (w_ih, w_hh) by layer and direction, then all (b_ih, b_hh) in the same order.

    >>> layers_of(("wi", "wh", "bi", "bh"), 1, 1)
    [Layer(w_ih=('wi',), w_hh=('wh',), b_ih=('bi',), b_hh=('bh',))]
    """
    half = 2 * layers * directions
    found = []
    for layer in range(layers):
        at = [2 * (layer * directions + d) for d in range(directions)]
        found.append(
            Layer(
                tuple(names[a] for a in at),
                tuple(names[a + 1] for a in at),
                tuple(names[half + a] for a in at),
                tuple(names[half + a + 1] for a in at),
            )  # fmt: skip
        )
    return found


@handles("rnn")
def rnn(site: Site) -> Step:
    """Input T x N x I, PreState h and c (layers*directions x N x H) -> Out T x N x directions*H.

    State, Reserve and DropoutState are not written (their names may be those of live tensors).
    """
    mode = site.text("mode", "LSTM")
    directions = 2 if site.op.attr("is_bidirec", False) else 1
    count, hidden = site.integer("num_layers", 1), site.integer("hidden_size")
    names = site.inputs("WeightList")
    if mode != "LSTM" or site.inputs("SequenceLength"):
        raise site.unsupported(f"mode {mode!r} or a sequence length is not known, only LSTM over whole lines")
    if not 0 < count < 64 or len(names) != 4 * count * directions or len(site.inputs("PreState")) != 2:
        raise site.unsupported(f"{len(names)} weights for {count} layers and {directions} directions")
    layers = layers_of(names, count, directions)
    source, target = site.input("Input"), site.output("Out")
    first_h, first_c = site.inputs("PreState")

    def step(env: Env) -> None:
        x = env[source]
        states = (count * directions, x.shape[1], hidden)
        h0, c0 = (_state(site, env[name], states) for name in (first_h, first_c))
        for index, layer in enumerate(layers):
            rows = slice(index * directions, (index + 1) * directions)
            x = _run_layer(x, layer, env, (h0[rows], c0[rows]), site.math)
        env[target] = x

    return step


def _state(site: Site, state: Array, shape: tuple[int, int, int]) -> Array:
    """The initial state; one made for a single line serves each line of a batch."""
    if state.shape != shape and state.shape != (shape[0], 1, shape[2]):
        raise site.unsupported(
            f"the LSTM's initial state has shape {list(state.shape)}, {list(shape)} is needed"
        )
    return np.broadcast_to(state, shape)


def _run_layer(x: Array, layer: Layer, env: Env, state: tuple[Array, Array], math: Math) -> Array:
    """One layer, both directions in one loop: T x N x I -> T x N x directions*H."""
    steps, batch, _ = x.shape
    h0, c0 = state
    directions, hidden = len(layer.w_ih), h0.shape[-1]
    flat = x.reshape(steps * batch, -1)
    gates = np.empty((steps, directions, batch, 4 * hidden), np.float32)
    for d in range(directions):
        product = flat @ env[layer.w_ih[d]].T
        product += env[layer.b_ih[d]]
        product += env[layer.b_hh[d]]
        product = product.reshape(steps, batch, 4 * hidden)
        gates[:, d] = product[::-1] if d else product
    recurrent = np.stack([env[name].T for name in layer.w_hh])
    out = np.empty((steps, directions, batch, hidden), np.float32)
    h, c = h0, np.ascontiguousarray(c0)
    cell = Cell(math, directions, batch, hidden)
    for t in range(steps):
        gate = np.matmul(h, recurrent)
        gate += gates[t]
        h, c = cell(gate, c)
        out[t] = h
    parts = [out[:, d] if d == 0 else out[::-1, d] for d in range(directions)]
    return np.concatenate(parts, axis=2)


class Cell:
    """One time step for all directions: gates (d x N x 4H, order i f c o) and state c -> h, c."""

    def __init__(self, math: Math, directions: int, batch: int, hidden: int) -> None:
        self.math = math
        self.hidden = hidden
        # -i, -f, -o for the sigmoids, then +c and -c for the tanh: one call of exp for all.
        self.arguments = np.empty((5, directions, batch, hidden), np.float32)
        self.pair = np.empty((2, directions, batch, hidden), np.float32)
        self.top = np.ones((4, directions, batch, hidden), np.float32)
        self.bottom = np.empty((4, directions, batch, hidden), np.float32)

    def __call__(self, gate: Array, c: Array) -> tuple[Array, Array]:
        n, a, top, bottom = self.hidden, self.arguments, self.top, self.bottom
        np.negative(gate[..., :n], out=a[0])
        np.negative(gate[..., n : 2 * n], out=a[1])
        np.negative(gate[..., 3 * n :], out=a[2])
        self._both(gate[..., 2 * n : 3 * n], a[3:])
        e = self.math.exp(a)
        np.add(e[:3], _ONE, out=bottom[:3])
        np.add(e[3], e[4], out=bottom[3])
        np.subtract(e[3], e[4], out=top[3])
        i, f, o, candidate = top * self.math.reciprocal(bottom)
        c = candidate * i + c * f
        self._both(c, self.pair)
        plus, minus = self.math.exp(self.pair)
        return o * ((plus - minus) * self.math.reciprocal(plus + minus)), c

    @staticmethod
    def _both(x: Array, out: Array) -> None:
        np.minimum(x, TANH_LIMIT, out=out[0])
        np.maximum(out[0], -TANH_LIMIT, out=out[0])
        np.negative(out[0], out=out[1])

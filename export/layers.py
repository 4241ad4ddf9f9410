"""Which layer lost it: every layer of a shipped ARM file against the same layer of the float net.

Two questions are asked of each layer:

- *its own loss* (``snr_db``, ``cosine``, ``max_abs``): the ARM operator gets the tensor that the float layer
  got, rounded on the scale it arrives with where it is int8, and answers beside the float layer. Only this
  layer's weights, scales and rounding count: a damaged layer stands out, the sound ones behind it do not;
- *what arrived* (``arrived_snr_db``): the file runs as on a device, with every loss in front of the layer.

Pairs are made by weight names and op order, never by names of activations; see `export.layers_pairs`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export import proto
from export.layers_pairs import Pair, pair
from export.nb import device_math
from export.nb.executor import NbRuntime, output_scale
from export.nb.format import NbModel
from export.nb.model import Op
from export.nb.ops import BUILDERS, Env, Site, Step
from export.taps import Taps
from slim.errors import ArtifactError, UnsupportedModel
from slim.progress import Reporter, Silent

# Bounds of an SNR in dB, so that it stays a number: equal bits, and an error where the float layer is all 0.
LIMIT_DB = 200.0


@dataclass(frozen=True)
class LayerLoss:
    """One layer.

    Attributes:
        index: of its operator in the ARM file; ``op`` its type.
        precision: "int8", "float", or "float, int8 weights" (an LSTM behind ``calib_once``).
        snr_db: 10 log10(sum of squares of the float output / of the difference), within +-200 dB.
        cosine: of both outputs as vectors; None where one is not finite.
        max_abs: largest difference, in units of the layer's output; None where one is not finite.
        arrived_snr_db: the same ratio with the losses of all layers in front of it.
        merged: layers that opt merged into this one.
    """

    layer: str
    op: str
    precision: str
    snr_db: float
    cosine: float | None
    max_abs: float | None
    arrived_snr_db: float
    index: int
    merged: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.__dict__, "merged": list(self.merged)}


@dataclass
class _Sums:
    """Sums over images, from which SNR, cosine and the largest difference follow."""

    signal: float = 0.0
    noise: float = 0.0
    found: float = 0.0
    product: float = 0.0
    largest: float = 0.0

    def add(self, expected: np.ndarray, got: np.ndarray) -> None:
        a, b = expected.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        difference = a - b
        self.signal += float(a @ a)
        self.found += float(b @ b)
        self.product += float(a @ b)
        self.noise += float(difference @ difference)
        self.largest = float(np.maximum(self.largest, np.abs(difference).max(initial=0.0)))  # NaN stays

    @property
    def finite(self) -> bool:
        return math.isfinite(self.noise) and math.isfinite(self.signal)

    @property
    def snr_db(self) -> float:
        return snr_db(self.signal, self.noise)

    @property
    def cosine(self) -> float:
        norm = math.sqrt(self.signal) * math.sqrt(self.found)
        return self.product / norm if norm else float(self.signal == self.found)


def snr_db(signal: float, noise: float) -> float:
    """Signal to noise in dB from two sums of squares, within +-``LIMIT_DB``; the worst if one is not finite.

    >>> snr_db(100.0, 1.0), snr_db(1.0, 0.0), snr_db(0.0, 1.0)
    (20.0, 200.0, -200.0)
    """
    if not (math.isfinite(signal) and math.isfinite(noise)):
        return -LIMIT_DB
    if noise == 0.0:
        return LIMIT_DB
    return max(-LIMIT_DB, min(LIMIT_DB, 10.0 * math.log10(signal / noise))) if signal else -LIMIT_DB


def compare_layers(
    model: NbModel, prefix: Path, images: Sequence[np.ndarray], *, progress: Reporter | None = None
) -> tuple[list[LayerLoss], list[str]]:
    """Every layer of an ARM file against a float program with the same layers.

    Args:
        model: the file, int8 or float.
        prefix: of the float program.
        images: float32, 1 x C x H x W each; their widths may differ.
    Returns:
        The layers, smallest ``snr_db`` first, and the names of those without a counterpart.
    Raises:
        ArtifactError: a layer's tensors have other sizes: the program is of another (unpruned?) net.
    """
    pairs, alone = pair(model, proto.read_program(proto.model_path(prefix)))
    run = _Stepper(model, pairs)
    own, arrived = ({p.index: _Sums() for p in pairs} for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="layers-") as work:
        taps = Taps(prefix, [n for p in pairs for n in (p.float_input, p.float_output)], Path(work))
        with (progress or Silent()).task("layers", len(images)) as task:
            for x in images:
                inner = taps.run(x)
                _add(own, pairs, inner, run(x, {p.index: inner[p.float_input] for p in pairs}))
                _add(arrived, pairs, inner, run(x, {}))
                task.advance()
    losses = [_loss(model, p, own[p.index], arrived[p.index]) for p in pairs]
    return sorted(losses, key=lambda loss: (loss.snr_db, loss.index)), alone


def _add(
    sums: dict[int, _Sums],
    pairs: Sequence[Pair],
    inner: Mapping[str, np.ndarray],
    found: Mapping[int, np.ndarray],
) -> None:
    for p in pairs:
        expected, got = inner[p.float_output], found[p.index]
        _require_size(p, expected, got)
        sums[p.index].add(expected, got)


def _loss(model: NbModel, p: Pair, own: _Sums, arrived: _Sums) -> LayerLoss:
    op = model.ops[p.index]
    return LayerLoss(
        layer=p.layer,
        op=op.type,
        precision=_precision(op, model),
        snr_db=own.snr_db,
        cosine=own.cosine if own.finite else None,
        max_abs=own.largest if own.finite else None,
        arrived_snr_db=arrived.snr_db,
        index=p.index,
        merged=p.merged,
    )


def _precision(op: Op, model: NbModel) -> str:
    precision = op.kernel.precision if op.kernel is not None else "any"
    weights = op.inputs.get("WeightList", ())
    return "float, int8 weights" if any(name not in model.params for name in weights) else precision


class _Stepper:
    """The file's operators one by one; a layer may be given another input than the one that arrives.

    The rules are the executor's (`export.nb.ops.BUILDERS`); int8 results are multiplied by their scale.
    """

    def __init__(self, model: NbModel, pairs: Sequence[Pair]) -> None:
        NbRuntime(model)  # says by name what it does not know, before anything is run
        self._params = model.params
        self._pairs = {p.index: p for p in pairs}
        self._scales = {
            p.index: _arriving_scale(model.ops, p.index, p.reads) if _reads_int8(model.ops[p.index]) else None
            for p in pairs
        }
        self._feed = next(op.outputs["Out"][0] for op in model.ops if op.type == "feed")
        self._steps: list[tuple[int, Op, Step]] = [
            (i, op, BUILDERS[op.type](Site(i, op, model.params)))
            for i, op in enumerate(model.ops)
            if op.type not in ("feed", "fetch")
        ]

    def __call__(self, x: np.ndarray, given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Operator number -> what the layer wrote, as the float values meant.

        Args:
            x: float32, 1 x C x H x W.
            given: operator number -> float input to use in place of the file's own.
        """
        env: Env = dict(self._params)
        env[self._feed] = np.ascontiguousarray(x)
        found: dict[int, np.ndarray] = {}
        with np.errstate(all="ignore"):
            for index, op, step in self._steps:
                p = self._pairs.get(index)
                if p is not None and index in given:
                    _require_size(p, given[index], env[p.reads])
                    env[p.reads] = self._as_input(index, given[index]).reshape(env[p.reads].shape)
                step(env)
                if p is not None:
                    scale = output_scale(op)
                    found[index] = env[p.writes].copy() if scale is None else env[p.writes] * scale
        return found

    def _as_input(self, index: int, x: np.ndarray) -> np.ndarray:
        """A float tensor as the operator reads it: for int8, integers on the scale they arrive with."""
        scale = self._scales[index]
        return x.copy() if scale is None else device_math.to_int8(x * (np.float32(1) / scale))


def _reads_int8(op: Op) -> bool:
    return op.kernel is not None and op.kernel.precision == "int8"


def _arriving_scale(ops: Sequence[Op], index: int, name: str) -> np.float32:
    """The scale of the int8 tensor ``name`` in front of an operator: that of the operator which rounded it.

    It is looked up there, not at the reader (``Input0_scale``): the two must agree, and a file in which they
    do not has to show it.
    """
    for op in reversed(ops[:index]):
        if name in {n for names in op.outputs.values() for n in names}:
            scale = output_scale(op)
            if scale is not None:
                return scale
            # An operator that moves int8 values (a reshape) keeps their scale.
            name = next((op.inputs[slot][0] for slot in ("X", "Input") if op.inputs.get(slot)), name)
    raise UnsupportedModel(f"nothing says the scale of {name!r}", where=f"op {index} {ops[index].type}")


def _require_size(p: Pair, a: np.ndarray, b: np.ndarray) -> None:
    if a.size != b.size:
        raise ArtifactError(
            f"{p.layer} has shape {list(b.shape)} in the ARM file and {list(a.shape)} in the float net",
            remedy="compare with the net this file was made from",
        )

"""Float ops of a rewritten program: each result is a variable of its own, constants are parameters."""

from __future__ import annotations

import numpy as np

from export.nb.model import KERNEL_ATTR, Attr, AttrType, Op, Var, VarKind

_SPLIT = np.float32(2**12 + 1)


class Emitter:
    """Collects ops for the x86 float kernels of Paddle-Lite, with their variables and parameters.

    Every method gives the name of the variable that holds its result; ``target`` is the name it stands for.
    """

    def __init__(self) -> None:
        self.params: dict[str, np.ndarray] = {}
        self.ops: list[Op] = []
        self.vars: dict[str, Var] = {}

    def param(self, name: str, array: np.ndarray) -> str:
        if name not in self.params:
            self.params[name] = array
            kind = VarKind.FP32 if array.dtype == np.float32 else VarKind.INT64
            self.vars[name] = Var(name, VarKind.LOD_TENSOR, kind, tuple(array.shape), persistable=True)
        return name

    def fresh(self, name: str) -> str:
        fresh = f"{name}#{len(self.vars)}"
        self.vars[fresh] = Var(fresh, VarKind.LOD_TENSOR, VarKind.FP32, ())
        return fresh

    def emit(self, kernel: str, inputs: dict[str, str], out: str, slot: str = "Out", **attrs: Attr) -> str:
        op_type = kernel.split("/")[0]
        marks = {KERNEL_ATTR: Attr(AttrType.STRING, kernel), **attrs}
        self.ops.append(Op(op_type, {k: (v,) for k, v in inputs.items()}, {slot: (out,)}, marks))
        return out

    def constant(self, target: str) -> str:
        return f"{target}#constant{len(self.params)}"

    def scaled(self, x: str, factor: np.float32, target: str) -> str:
        after = Attr(AttrType.BOOLEAN, True)
        out = self.fresh(target)
        return self.emit(
            "scale/def/2/1/1", {"X": x}, out, scale=number(factor), bias=number(0.0), bias_after_scale=after
        )  # fmt: skip

    def rounded(self, x: str, target: str) -> str:
        x = self.emit("round/fp32/1/4/1", {"X": x}, self.fresh(target))
        return self.emit(
            "clip/def/2/1/1", {"X": x}, self.fresh(target), min=number(-127.0), max=number(127.0)
        )

    def fused_add(
        self, x: str, factor: np.ndarray, product: str, bias: np.ndarray, axis: int, target: str
    ) -> str:
        """x * factor + bias as the device's fused multiply-add gives it, from single float32 operations.

        What the product lost is got back exactly from halves of its factors (Dekker 1971, the split of
        Veltkamp by 2**12 + 1), what the sum lost by TwoSum (Knuth, TAOCP vol. 2, 4.2.2); both are added at
        the end. Without this one value in some 10,000 falls on the other side of a rounding to int8.
        """

        def do(kind: str, a: str, b: str | np.ndarray) -> str:
            return self.binary(kind, a, b, axis, target)

        high, low = _halves(factor)
        wide = self.scaled(x, _SPLIT, target)
        x_high = do("sub", wide, do("sub", wide, x))
        x_low = do("sub", x, x_high)
        lost = do("add", do("sub", do("mul", x_high, high), product), do("mul", x_high, low))
        lost = do("add", do("add", lost, do("mul", x_low, high)), do("mul", x_low, low))
        total = do("add", product, bias)
        part = do("sub", total, product)
        rest = do("sub", product, do("sub", total, part))
        rest = do("add", rest, do("add", self.scaled(part, np.float32(-1), target), bias))
        return do("add", total, do("add", rest, lost))

    def binary(self, kind: str, a: str, b: str | np.ndarray, axis: int, target: str) -> str:
        """An elementwise op; an array is a constant per channel, or one number for all."""
        if isinstance(b, np.ndarray):
            b = self.param(self.constant(target), np.ascontiguousarray(b, np.float32))
        else:
            axis = -1
        kernel, at = f"elementwise_{kind}/def/2/1/1", Attr(AttrType.INT, axis)
        return self.emit(kernel, {"X": a, "Y": b}, self.fresh(target), axis=at)


def _halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 numbers as sums of two of at most 12 bits each."""
    with np.errstate(over="ignore", invalid="ignore"):  # huge weights of a damaged file
        wide = values * _SPLIT
        high = wide - (wide - values)
    return high, values - high


def number(value: float | np.float32) -> Attr:
    return Attr(AttrType.FLOAT, float(value))

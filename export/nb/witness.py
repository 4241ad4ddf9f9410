"""A second witness for an ARM file: its arithmetic in float kernels of the real Paddle-Lite x86 runtime.

The wheel's x86 int8 kernels are wrong for PP-OCR nets and its ARM kernels do nothing, so an int8 ARM file
cannot be run there. Rewritten to float kernels it can: int8 tensors become integers in float tensors, whose
sums are exact while they stay below 2**24 (larger weights are cut into two digits, see ``_sums``); scale,
bias, activation and rounding become ops of their own
(``lite/kernels/host/round_compute.cc`` rounds halves away from zero, as the device does).

Executor and witness share the reader and the rules of docs/NB_FORMAT.md, but no arithmetic: convs, products,
LSTM and activations are Paddle-Lite's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.nb.model import KERNEL_ATTR, Attr, AttrType, AttrValue, Kernel, NbModel, Op, Var, VarKind
from export.nb.reader import read_nb
from export.nb.witness_ops import Emitter, number
from export.nb.writer import write_nb
from slim.errors import UnsupportedModel

if TYPE_CHECKING:
    from export.runtimes.lite_x86 import LiteX86Runtime

# Float ARM kernels whose counterpart is not "same alias, target x86, float, NCHW".
_COUNTERPARTS = {
    "hard_sigmoid": "hard_sigmoid/def/1/1/1",
    "slice": "slice/int32/2/1/1",
}
_EXACT = 1 << 24


def rewrite(model: NbModel) -> NbModel:
    """The same computation for x86 float kernels.

    Args:
        model: a file for the target arm, float or int8.

    Raises:
        UnsupportedModel: an op or kernel has no counterpart; the line names it.
    """
    return _Rewriter(model).run()


class NbWitness:
    """See :func:`load`; ``run`` maps float32 N x C x H x W to the file's output."""

    name = "nb-witness"

    def __init__(self, path: str | Path) -> None:
        from export.runtimes import lite_x86

        self._folder = tempfile.TemporaryDirectory(prefix="nb-witness-")
        rewritten = Path(self._folder.name) / "model.x86.nb"
        write_nb(rewrite(read_nb(path)), rewritten)
        self._runtime: LiteX86Runtime = lite_x86.load(rewritten)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Run the rewritten file in a worker process of the real runtime."""
        return self._runtime.run(x)

    def close(self) -> None:
        """End the worker and remove the rewritten file."""
        self._runtime.close()
        self._folder.cleanup()


def load(path: str | Path) -> NbWitness:
    """Rewrite an ARM file and start the real x86 runtime with it.

    Raises:
        InputError, NbFormatError: the file cannot be read.
        UnsupportedModel: it holds an op or kernel without a counterpart.
        StageFailed, ToolMissing: the runtime died, or is not installed.
    """
    return NbWitness(path)


class _Rewriter(Emitter):
    """Builds the new program; each write of a variable gets a name of its own, so that nothing is shared."""

    def __init__(self, model: NbModel) -> None:
        if len(model.program.blocks) != 1:
            raise UnsupportedModel(f"{len(model.program.blocks)} blocks, control flow is not known")
        self.model = model
        super().__init__()
        self.current: dict[str, str] = {}
        self._rules: dict[str, Callable[[Op], None]] = {
            "conv2d": self._conv, "depthwise_conv2d": self._conv, "fc": self._fc,
            "calib": self._calib, "calib_once": self._calib, "feed": self._keep, "fetch": self._keep,
        }  # fmt: skip

    def run(self) -> NbModel:
        for op in self.model.ops:
            kernel = op.kernel
            if kernel is None or kernel.target not in ("arm", "host", "any"):
                raise UnsupportedModel(
                    f"kernel {op.attr(KERNEL_ATTR)!r} is not one of an ARM file", where=op.type
                )
            try:
                self._rules.get(op.type, self._float)(op)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise UnsupportedModel(f"cannot be rewritten: {error}", where=op.type) from error
        program = self.model.program.copy()
        block = program.blocks[0]
        ends = [v for v in block.vars if v.kind is not VarKind.LOD_TENSOR]
        block.vars = ends + list(self.vars.values())
        block.ops = self.ops
        return NbModel(self.model.opt_version, program, self.params)

    # names ----------------------------------------------------------------------------------------------

    def _read(self, name: str) -> str:
        """The name that holds a variable now; a float parameter is taken over as it is."""
        if name in self.current:
            return self.current[name]
        if name in self.model.params:
            return self.param(name, self.model.params[name])
        return name

    def _write(self, name: str) -> str:
        self.current[name] = self.fresh(name)
        return self.current[name]

    # ops as they are ------------------------------------------------------------------------------------

    def _keep(self, op: Op) -> None:
        """feed and fetch: the tensors of the outside keep their names."""
        for names in op.outputs.values():
            for name in names:
                if op.type == "feed":
                    found = [v for v in self.model.program.blocks[0].vars if v.name == name]
                    self.vars[name] = found[0] if found else Var(name, data_type=VarKind.FP32, dims=())
                    self.current[name] = name
        inputs = {
            k: tuple(self._read(n) if op.type == "fetch" else n for n in v) for k, v in op.inputs.items()
        }
        self.ops.append(Op(op.type, inputs, dict(op.outputs), dict(op.attrs)))

    def _float(self, op: Op) -> None:
        """A float op on the counterpart of its kernel."""
        kernel = op.kernel
        assert kernel is not None
        if kernel.precision == "int8":
            raise UnsupportedModel(f"kernel {kernel.text!r} has no float counterpart here", where=op.type)
        text = kernel.text
        if kernel.target == "arm":
            text = _COUNTERPARTS.get(op.type, f"{op.type}/{kernel.alias}/2/1/1")
        inputs = {slot: tuple(self._read(name) for name in names) for slot, names in op.inputs.items()}
        outputs = {
            slot: tuple(self._written(slot, name) for name in names) for slot, names in op.outputs.items()
        }
        attrs = {**op.attrs, KERNEL_ATTR: Attr(AttrType.STRING, text)}
        self.ops.append(Op(op.type, inputs, outputs, attrs))

    def _written(self, slot: str, name: str) -> str:
        """A fresh name; only the real result takes over the old one, not XShape, State and their like."""
        return self._write(name) if slot in ("Out", "Output", "Y") else self.fresh(name)

    # int8 ops -------------------------------------------------------------------------------------------

    def _calib(self, op: Op) -> None:
        kernel, source, target = _kernel(op), op.inputs["Input"][0], op.outputs["Out"][0]
        scale = np.float32(_number(op, "scale"))
        if kernel.alias == "fp32_to_int8":
            x = self.scaled(self._read(source), np.float32(1) / scale, target)
            self.current[target] = self.rounded(x, target)
        elif kernel.alias == "int8_to_fp32" and source in self.model.params:
            floats = self.model.params[source].astype(np.float32) * scale
            self.current[target] = self.param(f"{target}#float", floats)
        elif kernel.alias == "int8_to_fp32":
            self.current[target] = self.scaled(self._read(source), scale, target)
        else:
            raise UnsupportedModel(f"kernel {kernel.text!r} is not known", where=op.type)

    def _conv(self, op: Op) -> None:
        kernel = _kernel(op)
        if kernel.precision != "int8":
            self._float(op)
            return
        target = op.outputs["Output"][0]
        dropped = ("with_act", "act_type", "enable_int8", "Input0_scale", "Filter0_scale", "Output0_scale")
        attrs = {n: a for n, a in op.attrs.items() if n not in dropped and n != KERNEL_ATTR}
        source = self._read(op.inputs["Input"][0])

        def product(weight: str) -> str:
            inputs = {"Input": source, "Filter": weight}
            return self.emit(f"{op.type}/def/2/1/1", inputs, self.fresh(target), "Output", **attrs)

        sums = self._sums(op.inputs["Filter"][0], 0, product, target)
        out_scale = self._out_scale(op, "Output0_scale", "int8_out")
        y = self._affine(op, sums, "Filter0_scale", out_scale, 1, target)
        if op.attr("with_act", False):
            y = self._activation(op, str(op.attr("act_type")), y, out_scale, target)
        self.current[target] = y if out_scale is None else self.rounded(y, target)

    def _fc(self, op: Op) -> None:
        kernel, target = _kernel(op), op.outputs["Out"][0]
        if op.attr("op_type") not in ("matmul", "matmul_v2"):
            raise UnsupportedModel("an fc that does not come from matmul is not known", where=op.type)
        int8 = kernel.precision == "int8"
        source, name, no = self._read(op.inputs["Input"][0]), op.inputs["W"][0], Attr(AttrType.BOOLEAN, False)

        def product(weight: str) -> str:
            inputs, out = {"X": source, "Y": weight}, self.fresh(target)
            return self.emit("matmul_v2/def/2/1/1", inputs, out, trans_x=no, trans_y=no, alpha=number(1.0))

        y = self._sums(name, 1, product, target) if int8 else product(self._read(name))
        out_scale = self._out_scale(op, "Out0_scale", "int8out") if int8 else None
        y = self._affine(op, y, "W0_scale" if int8 else None, out_scale, -1, target)
        if op.attr("activation_type", ""):
            y = self._activation(op, str(op.attr("activation_type")), y, out_scale, target)
        self.current[target] = y if out_scale is None else self.rounded(y, target)

    def _sums(self, name: str, axis: int, product: Callable[[str], str], target: str) -> str:
        """Integer sums of int8 weights, as float32 holds them.

        Where a sum may pass 2**24 the weight is cut into digits, w = 16 * high + low with both in -8..8: the
        sums of each digit are exact for up to 16,512 products, and one float addition of the two exact
        numbers rounds once, to the nearest, like the device's conversion of its int32 (``vcvtq_f32_s32``).

        Args:
            axis: of the output channels in the weight.
            product: variable of a weight -> variable of its sums.
        """
        weight = self.model.params[name].astype(np.int32)
        rest = tuple(a for a in range(weight.ndim) if a != axis)
        if _largest_sum(weight, rest) < _EXACT:
            return product(self.param(f"{name}#float", weight.astype(np.float32)))
        high = (weight + 8) >> 4
        digits = {"high": high, "low": weight - (high << 4)}
        if max(_largest_sum(digit, rest) for digit in digits.values()) >= _EXACT:
            raise UnsupportedModel(f"sums of {name!r} may pass 2**28 and would not be exact in float32")
        sums = {
            key: product(self.param(f"{name}#{key}", digit.astype(np.float32)))
            for key, digit in digits.items()
        }
        return self.binary("add", self.scaled(sums["high"], np.float32(16), target), sums["low"], -1, target)

    @staticmethod
    def _out_scale(op: Op, name: str, int8_alias: str) -> np.float32 | None:
        return np.float32(_number(op, name)) if _kernel(op).alias == int8_alias else None

    def _affine(
        self, op: Op, x: str, scales: str | None, out_scale: np.float32 | None, axis: int, target: str
    ) -> str:
        """sums * (w_scale*in_scale[/out_scale]) + bias[/out_scale], per channel, rounded once."""
        bias = None
        if op.inputs.get("Bias"):
            bias = self.model.params[op.inputs["Bias"][0]].reshape(-1)
            bias = bias if out_scale is None else bias / out_scale
        if scales is None:
            return x if bias is None else self.binary("add", x, bias, axis, target)
        factor = np.atleast_1d(np.asarray(op.attr(scales), np.float32)) * np.float32(
            _number(op, "Input0_scale")
        )
        factor = factor if out_scale is None else factor / out_scale
        product = self.binary("mul", x, factor, axis, target)
        return product if bias is None else self.fused_add(x, factor, product, bias, axis, target)

    def _activation(self, op: Op, name: str, x: str, out_scale: np.float32 | None, target: str) -> str:
        s = np.float32(1) if out_scale is None else out_scale
        if name == "relu":
            return self.emit("relu/def/2/1/1", {"X": x}, self.fresh(target))
        if name == "hard_swish":
            constants = {
                key: number(np.float32(_number(op, f"hard_swish_{key}")) / s)
                for key in ("threshold", "scale", "offset")
            }
            return self.emit("hard_swish/def/2/1/1", {"X": x}, self.fresh(target), "Out", **constants)
        raise UnsupportedModel(f"activation {name!r} behind an int8 op is not known", where=op.type)


def _largest_sum(weight: np.ndarray, axes: tuple[int, ...]) -> int:
    """The largest absolute sum of products with int8 inputs, any output channel."""
    return int(np.abs(weight).sum(axis=axes).max(initial=0)) * 127


def _kernel(op: Op) -> Kernel:
    kernel = op.kernel
    assert kernel is not None
    return kernel


def _number(op: Op, name: str) -> float:
    value: AttrValue | None = op.attr(name)
    if isinstance(value, tuple):
        value = value[0] if value else None
    if not isinstance(value, (int, float)):
        raise UnsupportedModel(f"attribute {name} is missing", where=op.type)
    return float(value)

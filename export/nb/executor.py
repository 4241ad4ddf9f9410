"""Runs an ARM ``.nb`` file in numpy, by the semantics of Paddle-Lite's ARM kernels.

Real ARM kernels were dumped for comparison: int8 arithmetic is equal bit by bit, float results within the
order of sums. See docs/NB_FORMAT.md for the rules, and ``ops*.py`` for the source file behind each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from export.nb import activations, ops_conv, ops_float, ops_matmul, ops_shape, rnn  # noqa: F401  (they register ops)
from export.nb.device_math import ARM, Math
from export.nb.model import NbModel, Op
from export.nb.ops import BUILDERS, Env, Site, Step
from export.nb.reader import read_nb
from export.nb.weight_only import dequantized, is_weight_only
from slim.errors import InputError, SlimError, UnsupportedModel

_TARGETS = ("arm", "host", "any")
_ENDS = ("feed", "fetch")
# What numpy raises where a damaged file asks for something senseless.
_NUMPY_ERRORS = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError, MemoryError, StopIteration,
)  # fmt: skip
Shapes = dict[str, tuple[int, ...]]
Watch = Callable[[Op, Env, Shapes], None]
# Images computed at once: more do not fit the cache and are slower.
_BATCH = 8


class NbRuntime:
    """An ARM nb file, ready to run.

    Attributes:
        name: "nb".
        model: the file as read; weights that only the file holds as integers are floats.
        batch: the batch the file was made for; None where any batch runs.

    Example::

        run = load("model.arm.nb").run
        probabilities = run(np.zeros((2, 3, 48, 192), np.float32))
    """

    name = "nb"

    def __init__(
        self, model: NbModel, math: Math = ARM, *, any_target: bool = False, path: str | Path = ""
    ) -> None:
        self._path = path  # for messages
        self.model = model = dequantized(model) if is_weight_only(model) else model
        if len(model.program.blocks) != 1:
            raise UnsupportedModel(f"{len(model.program.blocks)} blocks, control flow is not known")
        self._feed, self._fetch = _ends(model)
        sites = [Site(i, op, model.params, math) for i, op in enumerate(model.ops) if op.type not in _ENDS]
        self._steps = [(site.op, _build(site, any_target)) for site in sites]
        self.batch = _fixed_batch(model, self._feed)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Execute the file.

        Args:
            x: float32, N x C x H x W. A batch is run image by image where the file's batch is fixed.

        Returns:
            What the file's fetch holds, joined along the first axis.

        Raises:
            InputError: ``x`` is not a float32 array of four axes, or has no image.
            UnsupportedModel: the file asks for something that is not known, or does not fit ``x``.
        """
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim != 4 or 0 in x.shape:
            raise InputError("the input must be float32 N x C x H x W with at least one image")
        if self.batch is not None and x.shape[0] % self.batch:
            raise InputError(f"{x.shape[0]} images do not divide into the file's batch of {self.batch}")
        size = self.batch or _BATCH
        parts = [self._once(x[at : at + size]) for at in range(0, x.shape[0], size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def trace(self, x: np.ndarray) -> list[tuple[Op, dict[str, np.ndarray]]]:
        """Each op in order with copies of what it wrote; int8 tensors hold integers in float32.

        Args:
            x: float32, 1 x C x H x W.
        """
        seen: list[tuple[Op, dict[str, np.ndarray]]] = []

        def watch(op: Op, env: Env, before: Shapes) -> None:
            seen.append((op, {name: env[name].copy() for name in _outputs(op) if name in env}))

        self._once(x, watch)
        return seen

    def shapes(self, x: np.ndarray) -> list[tuple[Op, Shapes, Shapes]]:
        """Each op in order with the shapes of what it read and of what it wrote."""
        seen: list[tuple[Op, Shapes, Shapes]] = []

        def watch(op: Op, env: Env, before: Shapes) -> None:
            seen.append((op, before, {name: env[name].shape for name in _outputs(op) if name in env}))

        self._once(x, watch)
        return seen

    def profile(self, x: np.ndarray) -> list[tuple[Op, float]]:
        """Each op in order with the seconds it took; ``x`` is float32, at most the images of one pass."""
        env: Env = {**self.model.params, self._feed: np.ascontiguousarray(x)}
        spent = []
        for op, step in self._steps:
            start = time.perf_counter()
            self._do(op, step, env)
            spent.append((op, time.perf_counter() - start))
        return spent

    def _do(self, op: Op, step: Step, env: Env) -> None:
        try:
            with np.errstate(all="ignore"):
                step(env)
        except SlimError as error:
            raise _of_file(error, self._path) from error
        except _NUMPY_ERRORS as error:
            found = UnsupportedModel(f"cannot run: {error}", where=_place(self.model, op))
            raise _of_file(found, self._path) from error

    def _once(self, x: np.ndarray, watch: Watch | None = None) -> np.ndarray:
        env: Env = dict(self.model.params)
        env[self._feed] = np.ascontiguousarray(x)
        for op, step in self._steps:
            before = _shapes_read(op, env) if watch else {}
            self._do(op, step, env)
            if watch is not None:
                watch(op, env, before)
        if self._fetch not in env:
            raise UnsupportedModel(f"nothing writes the output {self._fetch!r}")
        return np.array(env[self._fetch])


def _of_file(error: SlimError, path: str | Path) -> SlimError:
    """An operator's error, which knows the operator, with the file where that is known."""
    where = ", ".join(str(place) for place in (path, error.where) if place)
    return type(error)(error.what, where=where or None, remedy=error.remedy)


def _place(model: NbModel, op: Op) -> str:
    return f"op {next(i for i, other in enumerate(model.ops) if other is op)} {op.type}"


def _outputs(op: Op) -> list[str]:
    return [name for names in op.outputs.values() for name in names]


def _shapes_read(op: Op, env: Env) -> Shapes:
    return {name: env[name].shape for names in op.inputs.values() for name in names if name in env}


def load(path: str | Path, *, math: Math = ARM) -> NbRuntime:
    """Read a file and prepare it.

    Args:
        math: ``device_math.ARM`` computes exp and division as the device does; ``device_math.LIBM`` exactly,
            for comparison with the x86 witness.

    Raises:
        InputError, NbFormatError: the file cannot be read.
        UnsupportedModel: an op, kernel or attribute is not known; the line names it.
    """
    model = read_nb(path)
    try:
        return NbRuntime(model, math, path=path)
    except UnsupportedModel as error:
        raise _of_file(error, path) from error


def output_scale(op: Op) -> np.float32 | None:
    """The scale of what an op writes, where that is int8: traced integers times it are the values meant.

    None for ops that write floats.
    """
    kernel = op.kernel
    if kernel is None or kernel.precision != "int8":
        return None
    name = {"int8_out": "Output0_scale", "int8out": "Out0_scale", "fp32_to_int8": "scale"}.get(kernel.alias)
    value = op.attr(name) if name is not None else None
    if isinstance(value, tuple):
        value = value[0] if value else None
    return np.float32(value) if isinstance(value, (int, float)) else None


def _ends(model: NbModel) -> tuple[str, str]:
    """The variables behind the one feed and the one fetch."""
    feeds = [name for op in model.ops if op.type == "feed" for name in op.outputs.get("Out", ())]
    fetches = [name for op in model.ops if op.type == "fetch" for name in op.inputs.get("X", ())]
    if len(feeds) != 1 or len(fetches) != 1:
        raise UnsupportedModel(f"{len(feeds)} inputs and {len(fetches)} outputs, one of each is known")
    return feeds[0], fetches[0]


def _build(site: Site, any_target: bool) -> Step:
    op = site.op
    if op.type not in BUILDERS:
        raise UnsupportedModel(f"operator {op.type!r} is not known", where=site.where)
    kernel = site.kernel
    if kernel.target not in _TARGETS and not any_target:
        raise UnsupportedModel(
            f"is for {kernel.target} ({op.type}: kernel {kernel.text!r}), only ARM files are executed",
            where=site.where, remedy="export with --target arm",
        )  # fmt: skip
    if kernel.precision not in ("float", "int8", "any", "int32", "int64"):
        raise UnsupportedModel(f"kernel {kernel.text!r} has precision {kernel.precision}", where=site.where)
    try:
        with np.errstate(all="ignore"):
            return BUILDERS[op.type](site)
    except _NUMPY_ERRORS as error:
        raise UnsupportedModel(f"cannot prepare: {error}", where=site.where) from error


def _fixed_batch(model: NbModel, feed: str) -> int | None:
    """The batch the file was made for, or None.

    A file whose input names a batch may still run any batch, when no op repeats that number; the initial
    state of an LSTM is broadcast. Reshapes of activations that start with a positive extent fix the batch.
    """
    constants = set(model.params)
    declared = next((v.dims[0] for v in model.program.blocks[0].vars if v.name == feed and v.dims), -1)
    for op in model.ops:
        reads = [name for names in op.inputs.values() for name in names]
        fixed = op.attr("shape", ())
        from_tensor = op.inputs.get("ShapeTensor") or op.inputs.get("Shape")
        moves = op.type in ("reshape2", "reshape") and not from_tensor and reads and reads[0] not in constants
        if moves and isinstance(fixed, tuple) and fixed and fixed[0] > 0:  # type: ignore[operator]
            return max(int(declared), 1)
    return None

"""Operators that move or make data: reshape, transpose, slice, concat, constants, and the ends of the
program.

XShape and similar second outputs are never written: the memory optimiser of ``opt`` lets them share names
with live tensors (``lite/core/optimizer/mir/memory_optimize_pass.cc``).
"""

from __future__ import annotations

import numpy as np

from export.nb.model import DTYPES, VarKind
from export.nb.ops import Env, Site, Step, handles

Array = np.ndarray
# Initial states of an LSTM have a few hundred values; a file cannot ask for memory by a constant.
_MAX_CONSTANT = 1 << 22


@handles("reshape2", "reshape")
def reshape(site: Site) -> Step:
    """X in a new shape: 0 keeps the extent of X, -1 is inferred; ``lite/operators/reshape_op.cc``.

    The shape comes from ShapeTensor (one scalar each), else Shape (a vector), else the attribute.
    """
    source, target = site.input("X"), site.output("Out")
    scalars, vector = site.inputs("ShapeTensor"), site.optional("Shape")
    fixed = site.integers("shape", ())

    def step(env: Env) -> None:
        x = env[source]
        if scalars:
            shape = [int(env[name].reshape(-1)[0]) for name in scalars]
        elif vector is not None:
            shape = [int(v) for v in env[vector].reshape(-1)]
        else:
            shape = list(fixed)
        if any(extent == 0 and axis >= x.ndim for axis, extent in enumerate(shape)):
            raise site.unsupported(f"shape {shape} keeps an axis that an input of {x.ndim} axes has not")
        env[target] = x.reshape([x.shape[a] if extent == 0 else extent for a, extent in enumerate(shape)])

    return step


@handles("flatten", "flatten2", "flatten_contiguous_range")
def flatten(site: Site) -> Step:
    """Axes start..stop as one, or two axes split at ``axis``; ``lite/operators/flatten_op.cc``."""
    source, target = site.input("X"), site.output("Out")
    ranged = site.op.type == "flatten_contiguous_range"
    start = site.integer("start_axis", 1) if ranged else 0
    stop = site.integer("stop_axis", 1) if ranged else 0
    axis = site.integer("axis", 1)

    def step(env: Env) -> None:
        x = env[source]
        if ranged:
            first, last = start % x.ndim, stop % x.ndim
            env[target] = x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])
        else:
            env[target] = x.reshape(int(np.prod(x.shape[:axis])), -1)

    return step


@handles("squeeze2", "squeeze", "unsqueeze2", "unsqueeze")
def squeeze(site: Site) -> Step:
    """Drops or adds axes of extent 1; ``lite/operators/squeeze_op.cc``, ``unsqueeze_op.cc``."""
    source, target, axes = site.input("X"), site.output("Out"), site.integers("axes", ())
    adds = site.op.type.startswith("un")
    if site.inputs("AxesTensor") or site.inputs("AxesTensorList"):
        raise site.unsupported("axes read from a tensor are not known")

    def step(env: Env) -> None:
        x = env[source]
        if adds:
            for axis in axes:
                x = np.expand_dims(x, axis)
            env[target] = x
            return
        chosen = [a % x.ndim for a in axes] or list(range(x.ndim))
        env[target] = x.reshape([e for a, e in enumerate(x.shape) if a not in chosen or e != 1])

    return step


@handles("transpose2", "transpose")
def transpose(site: Site) -> Step:
    """Axes in a new order; ``lite/kernels/arm/transpose_compute.cc``."""
    source, target, axes = site.input("X"), site.output("Out"), site.integers("axis")

    def step(env: Env) -> None:
        env[target] = np.ascontiguousarray(env[source].transpose(axes))

    return step


@handles("concat")
def concat(site: Site) -> Step:
    """Arrays joined along ``axis``; ``lite/kernels/arm/concat_compute.cc``."""
    sources, target, axis = site.inputs("X"), site.output("Out"), site.integer("axis")
    if site.inputs("AxisTensor"):
        raise site.unsupported("an axis read from a tensor is not known")

    def step(env: Env) -> None:
        env[target] = np.concatenate([env[name] for name in sources], axis=axis)

    return step


@handles("shape")
def shape(site: Site) -> Step:
    """The extents of the input as int32; ``lite/kernels/host/shape_compute.cc``."""
    source, target = site.input("Input"), site.output("Out")

    def step(env: Env) -> None:
        env[target] = np.array(env[source].shape, np.int32)

    return step


@handles("slice")
def slice_op(site: Site) -> Step:
    """Ranges along axes, then axes of extent 1 dropped; ``lite/operators/slice_op.cc``."""
    for name in ("StartsTensor", "StartsTensorList", "EndsTensor", "EndsTensorList"):
        if site.inputs(name):
            raise site.unsupported("bounds read from a tensor are not known")
    axes, starts, ends = site.integers("axes"), site.integers("starts"), site.integers("ends")
    dropped = site.integers("decrease_axis", ())
    source, target = site.input("Input"), site.output("Out")

    def step(env: Env) -> None:
        x = env[source]
        cut = [slice(None)] * x.ndim
        for axis, start, end in zip(axes, starts, ends, strict=True):
            cut[axis] = slice(start, end)
        out = x[tuple(cut)]
        kept = [e for a, e in enumerate(out.shape) if a not in dropped]
        env[target] = np.ascontiguousarray(out).reshape(kept if kept or not dropped else [1])

    return step


@handles("fill_constant")
def fill_constant(site: Site) -> Step:
    """A constant of a shape given as attribute or by tensors; ``kernels/host/fill_constant_compute.cc``."""
    if site.inputs("ValueTensor"):
        raise site.unsupported("a value read from a tensor is not known")
    scalars, vector = site.inputs("ShapeTensorList"), site.optional("ShapeTensor")
    fixed, value, target = site.integers("shape", ()), site.number("value"), site.output("Out")
    kind = site.integer("dtype")
    if kind not in set(DTYPES):
        raise site.unsupported(f"data type {kind} is not known")
    dtype = DTYPES[VarKind(kind)]

    def step(env: Env) -> None:
        if scalars:
            extents = [int(env[name].reshape(-1)[0]) for name in scalars]
        elif vector is not None:
            extents = [int(v) for v in env[vector].reshape(-1)]
        else:
            extents = list(fixed)
        site.check_size(extents)
        if int(np.prod(extents)) > _MAX_CONSTANT:
            raise site.unsupported(f"a constant of shape {extents} has more than {_MAX_CONSTANT} elements")
        env[target] = np.full(extents, value, dtype)

    return step


@handles("cast")
def cast(site: Site) -> Step:
    """Another data type; ``lite/kernels/host/cast_compute.cc``."""
    kind, source, target = site.integer("out_dtype"), site.input("X"), site.output("Out")
    if kind not in set(DTYPES):
        raise site.unsupported(f"data type {kind} is not known")
    dtype = DTYPES[VarKind(kind)]

    def step(env: Env) -> None:
        env[target] = env[source].astype(dtype)

    return step


@handles("dropout", "assign", "io_copy", "io_copy_once", "layout_once")
def identity(site: Site) -> Step:
    """The input itself: dropout of a model trained with upscale_in_train, and copies between memories."""
    if site.op.type == "dropout" and site.text("dropout_implementation", "") != "upscale_in_train":
        raise site.unsupported("dropout that scales at inference is not known")
    source = site.optional("X") or site.input("Input")
    target = site.output("Out")

    def step(env: Env) -> None:
        env[target] = env[source]

    return step

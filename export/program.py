"""The inference program: a net through ``paddle.jit.save``, run again and compared with the net."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export import proto
from slim.errors import StageFailed, UnsupportedModel
from slim.numerics import max_abs
from slim.spec import InputSpec, ModelSpec
from slim.stage import Check

if TYPE_CHECKING:
    from slim.bundle import Bundle

    SaveQuantized = Callable[[Bundle, Path, list[int | None]], None]

INPUT = "x"
_NOT_SAVED = "__non_persistable"
# Paddle's Predictor fuses conv + BN, which reorders float32 sums: 7e-7 (cls), 3e-6 (rec), 1e-7 (det, random
# weights) were measured; trained outputs near 0 and 1 differ more than those of random nets.
FLOAT_BOUND = {"cls": 1e-5, "rec": 2e-5, "det": 1e-4}
# One borderline activation rounded the other way moves an output by far more than float noise.
QUANTIZED_BOUND = 5e-2


def input_shape(spec: InputSpec, *, dynamic_batch: bool = True) -> list[int | None]:
    """Shape the program is traced with; None where dynamic.

    >>> input_shape(InputSpec(32, 320, dynamic_width=True))
    [None, 3, 32, None]
    """
    return [
        None if dynamic_batch else 1,
        spec.channels,
        None if spec.dynamic_height else spec.height,
        None if spec.dynamic_width else spec.width,
    ]


def save_program(
    bundle: Bundle, prefix: Path, *, dynamic_batch: bool = True, save_quantized: SaveQuantized | None = None
) -> None:
    """Write ``prefix.pdmodel`` and ``prefix.pdiparams``.

    Parameters carry the layer's path as their name (``backbone.conv1.conv.weight``), whatever was built
    before in this process, so the same model gives the same bytes.

    Args:
        save_quantized: freezes and writes a quantized bundle: (bundle, prefix, input shape).
    Raises:
        UnsupportedModel: a quantized bundle without ``save_quantized``.
        StageFailed: nothing was written.
    """
    import paddle

    shape = input_shape(bundle.spec.input, dynamic_batch=dynamic_batch)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    if bundle.scheme is not None:
        if save_quantized is None:
            raise UnsupportedModel("a quantized model cannot be exported here", where=bundle.source)
        save_quantized(bundle, prefix, shape)
    else:
        with paddle.utils.unique_name.guard():
            net = bundle.clone().net  # a copy: to_static replaces the net's forward for good
            _name_by_path(net)
            _trace(net, prefix, shape)
    for path in (proto.model_path(prefix), proto.params_path(prefix)):
        if not path.is_file():
            raise StageFailed("paddle.jit.save wrote no file", where=path)
    program = proto.read_program(proto.model_path(prefix))
    _drop_call_stacks(program)
    proto.write_program(program, proto.model_path(prefix))


def _drop_call_stacks(program: Any) -> None:
    """Ops carry the Python lines they were traced from: two thirds of the file, and this machine's paths."""
    for op in proto.ops(program):
        for number in reversed([i for i, a in enumerate(op.attrs) if a.name == "op_callstack"]):
            del op.attrs[number]


def _trace(net: Any, prefix: Path, shape: list[int | None]) -> None:
    import paddle

    spec = [paddle.static.InputSpec(shape, "float32", name=INPUT)]
    # full_graph: the default (SOT) falls back to eager pieces, which jit.save cannot write.
    paddle.jit.save(paddle.jit.to_static(net, input_spec=spec, full_graph=True), str(prefix))


def _name_by_path(net: Any) -> None:
    """Parameters and buffers named by their path in the net."""
    for path, tensor in [*net.named_parameters(), *net.named_buffers()]:
        # A buffer that is not saved (the LSTM's dropout state) is recognised by the end of its name.
        tensor.name = path + _NOT_SAVED if tensor.name.endswith(_NOT_SAVED) else path


def probe_shapes(
    spec: ModelSpec, widths: Sequence[int] = (), *, dynamic_batch: bool = True
) -> list[tuple[int, ...]]:
    """Input shapes a program is tried with: nominal, a batch of 3 (where dynamic), other widths and sizes.

    >>> probe_shapes(ModelSpec("m", "cls", {}, ("0", "180"), InputSpec(48, 192)))
    [(1, 3, 48, 192), (3, 3, 48, 192)]
    """
    inp, batch = spec.input, 3 if dynamic_batch else 1
    height, width = (64, 96) if inp.dynamic_height else (inp.height, inp.width)
    shapes: list[tuple[int, ...]] = [(1, inp.channels, height, width)]
    if dynamic_batch:
        shapes.append((batch, inp.channels, height, width))
    if inp.dynamic_height:
        shapes += [(1, inp.channels, height * 2, width), (1, inp.channels, height, width * 2)]
    elif inp.dynamic_width:
        shapes += [(batch, inp.channels, height, w) for w in widths or (width // 2, width * 2)]
    return shapes


def random_input(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Float32 noise in -1..1, the range of normalised pixels; a pure function of shape and seed."""
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(np.float32)


def verify_program(
    bundle: Bundle, prefix: Path, *, widths: Sequence[int] = (), dynamic_batch: bool = True, seed: int = 0
) -> list[Check]:
    """Run the written program in Paddle's Predictor and compare it with the net, over several shapes.

    Returns:
        One check per shape: largest absolute difference of the outputs.
    """
    from export.runtimes import paddle as predictor

    runtime = predictor.load(prefix)
    bound = FLOAT_BOUND[bundle.spec.kind] if bundle.scheme is None else QUANTIZED_BOUND
    checks = []
    for shape in probe_shapes(bundle.spec, widths, dynamic_batch=dynamic_batch):
        x = random_input(shape, seed)
        expected, found = bundle.run(x), runtime.run(x)
        value = max_abs(expected, found) if expected.shape == found.shape else float("nan")
        name = f"inference program against the net, {'x'.join(map(str, shape))}"
        checks.append(Check(name, value, bound, "abs"))
    return checks

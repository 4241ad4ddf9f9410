"""The inner tensors of a float inference program, by the names the program gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import proto
from slim.errors import StageFailed


class Taps:
    """A program that also answers with some of its inner tensors, run by Paddle's Predictor.

    Each name becomes one more output (a ``fetch`` op). Graph optimisation and memory reuse are off, so that
    every tensor is there under its own name and holds what the unfused net computes.

    Args:
        prefix: of a float inference program.
        names: variables to give; the program's input may be among them.
        work: an existing folder for the changed program.
    """

    def __init__(self, prefix: Path, names: Sequence[str], work: Path) -> None:
        from paddle import inference

        program = proto.read_program(proto.model_path(prefix))
        self._feed = proto.feed_name(program)
        self._names = [name for name in dict.fromkeys(names) if name != self._feed]
        _fetch(program, self._names)
        changed = work / "taps"
        proto.write_program(program, proto.model_path(changed))
        config = inference.Config(str(proto.model_path(changed)), str(proto.params_path(prefix)))
        config.disable_gpu()
        config.disable_glog_info()
        config.disable_mkldnn()
        config.switch_ir_optim(False)
        config.set_cpu_math_library_num_threads(1)
        self._predictor: Any = inference.create_predictor(config)
        self._where = str(prefix)

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> float32 array, for an input of float32 N x C x H x W.

        Raises:
            StageFailed: Paddle rejects the input.
        """
        handle = self._predictor.get_input_handle(self._feed)
        try:
            handle.reshape(list(x.shape))
            handle.copy_from_cpu(np.ascontiguousarray(x))
            self._predictor.run()
            found = {n: self._predictor.get_output_handle(n).copy_to_cpu() for n in self._names}
        except (RuntimeError, ValueError, SystemError) as error:
            reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise StageFailed(
                f"Paddle could not run input {x.shape} ({reason[0]})", where=self._where
            ) from error
        return found | {self._feed: x}


def _fetch(program: Any, names: Sequence[str]) -> None:
    """The fetch ops of a program replaced by one for each name."""
    block = program.blocks[0]
    model = type(block.ops[0])()
    model.CopyFrom(next(op for op in block.ops if op.type == "fetch"))
    kept = []
    for op in block.ops:
        if op.type != "fetch":
            copy = type(op)()
            copy.CopyFrom(op)
            kept.append(copy)
    del block.ops[:]
    block.ops.extend(kept)
    for column, name in enumerate(names):
        op = block.ops.add()
        op.CopyFrom(model)
        next(slot for slot in op.inputs if slot.parameter == "X").arguments[:] = [name]
        next(attr for attr in op.attrs if attr.name == "col").i = column

"""Paddle's own Predictor on an inference program: the reference every Lite file is compared with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from export import proto
from export.params import read_params
from slim.errors import StageFailed


class PaddleRuntime:
    """See `load`."""

    name = "paddle"

    def __init__(self, predictor: Any, where: str) -> None:
        self._predictor = predictor
        self._where = where
        self.last_seconds = 0.0
        self._input = predictor.get_input_handle(predictor.get_input_names()[0])

    def run(self, x: np.ndarray) -> np.ndarray:
        """Float32 N x C x H x W in, the program's one output as float32.

        Raises:
            StageFailed: Paddle rejects the input.
        """
        if self._predictor is None:
            raise StageFailed("the predictor was closed", where=self._where)
        x = np.ascontiguousarray(x, np.float32)
        start = time.perf_counter()
        try:
            self._input.reshape(list(x.shape))
            self._input.copy_from_cpu(x)
            self._predictor.run()
            out = self._predictor.get_output_handle(self._predictor.get_output_names()[0]).copy_to_cpu()
        except (RuntimeError, ValueError, SystemError) as error:
            raise StageFailed(
                f"Paddle could not run input {x.shape} ({_reason(error)})", where=self._where
            ) from error
        self.last_seconds = time.perf_counter() - start
        return np.asarray(out, np.float32)

    def close(self) -> None:
        """Drop the predictor."""
        self._predictor = self._input = None


def load(path: Path, *, threads: int = 1, optimize: bool = True) -> PaddleRuntime:
    """A Predictor on CPU: graph optimisation on, oneDNN off (it changes the rounding), one thread by default.

    Args:
        path: folder of an inference program, its ``.pdmodel``, or its prefix.
    Raises:
        InputError: the files are missing or damaged: they are parsed here before Paddle's C library sees
            them, which a damaged file would kill together with this process.
    """
    from paddle import inference

    prefix = proto.inference_prefix(path)
    program = proto.read_program(proto.model_path(prefix))
    read_params(proto.params_path(prefix), [v.name for v in proto.parameters(program)])
    config = inference.Config(str(proto.model_path(prefix)), str(proto.params_path(prefix)))
    config.disable_gpu()
    config.disable_glog_info()
    config.disable_mkldnn()
    config.switch_ir_optim(optimize)
    config.enable_memory_optim()
    config.set_cpu_math_library_num_threads(threads)
    return PaddleRuntime(inference.create_predictor(config), str(prefix))


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["no reason given"])[-1]

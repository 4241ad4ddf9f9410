"""One unit of a net as a paddle inference program: the arithmetic of the net at several times its speed.

Dygraph runs depthwise convolutions with a slow kernel (31 ms a line for the bundled CRNN on one core,
5 ms through oneDNN), and they are where sensitivity spends its time. A unit is saved once; a masked
variant is the same program with the bytes of its weights replaced, so no tracing is repeated.
"""

from __future__ import annotations

import os
import struct
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from prune.trace import untouched
from slim.errors import StageFailed

Array = npt.NDArray[np.float32]
Call = Callable[[Array], Array]

# A tensor in .pdiparams: u32 version, u64 lod levels (0), u32 version, i32 length of a protobuf
# description, the description, the data; tensors follow each other sorted by name.
_HEADER = struct.Struct("<IQIi")


class CompiledUnit:
    """A layer in eval mode, float32 in and out, as an inference predictor."""

    def __init__(self, layer: nn.Layer, example: Array) -> None:
        """Save ``layer`` for inputs of ``example``'s shape with any batch size.

        Raises:
            StageFailed: the saved weights are not those of the layer, so masking them would be blind.
        """
        self._layer = layer
        with tempfile.TemporaryDirectory(prefix="slim-prune-") as folder:
            self._program, self._weights = _save(layer, example, Path(folder) / "unit")
        self._places = _places(self._weights, layer)
        self._run = _predictor(self._program, self._weights)

    def __call__(self, x: Array) -> Array:
        return self._run(x)

    def with_current_weights(self) -> Call:
        """The same program with the weights the layer has now."""
        changed = bytearray(self._weights)
        for tensor, offset in self._places:
            data = np.ascontiguousarray(tensor.numpy()).tobytes()
            changed[offset : offset + len(data)] = data
        return _predictor(self._program, bytes(changed))


def _save(layer: nn.Layer, example: Array, prefix: Path) -> tuple[bytes, bytes]:
    spec = paddle.static.InputSpec([None, *example.shape[1:]], "float32")
    with untouched(layer), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paddle.jit.save(layer, str(prefix), input_spec=[spec])
    weights = prefix.with_suffix(".pdiparams")
    return prefix.with_suffix(".pdmodel").read_bytes(), weights.read_bytes() if weights.is_file() else b""


def _places(weights: bytes, layer: nn.Layer) -> list[tuple[Any, int]]:
    """Each float32 tensor of the layer that the file holds, with the byte its data begins at."""
    own = {t.name: t for t in layer.state_dict().values() if t.dtype == paddle.float32}
    names, offset = iter(sorted(own)), 0
    places = []
    while offset < len(weights):
        if offset + _HEADER.size > len(weights):
            raise _not_saved(layer)
        *_, described = _HEADER.unpack_from(weights, offset)
        start = offset + _HEADER.size + described
        tensor = next((own[n] for n in names if _stands_at(own[n], weights, start)), None)
        if tensor is None:
            raise _not_saved(layer)
        places.append((tensor, start))
        offset = start + tensor.numel().item() * 4
    return places


def _not_saved(layer: nn.Layer) -> StageFailed:
    # Paddle's writer says nothing when the disk is full.
    return StageFailed(
        f"the saved weights of {type(layer).__name__} are not those of the layer",
        where=tempfile.gettempdir(),
        remedy="free some space there, or set TMPDIR to another folder",
    )


def _stands_at(tensor: Any, weights: bytes, start: int) -> bool:
    data = np.ascontiguousarray(tensor.numpy()).tobytes()
    return weights[start : start + len(data)] == data


def threads() -> int:
    """Threads of one predictor: OMP_NUM_THREADS where it is set, else the cores this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))


def _predictor(program: bytes, weights: bytes) -> Call:
    from paddle import inference

    config = inference.Config()
    config.set_model_buffer(program, len(program), weights, len(weights))
    config.disable_gpu()
    config.enable_mkldnn()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads())
    predictor = inference.create_predictor(config)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    target = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(x: Array) -> Array:
        source.copy_from_cpu(np.ascontiguousarray(x))
        predictor.run()
        out: Array = target.copy_to_cpu()
        return out

    return run

"""ONNX files: read with bounds, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slim.errors import InputError, StageFailed, ToolMissing

MAX_BYTES = 512 << 20
Array = npt.NDArray[np.float32]


def read_onnx(path: Path) -> Any:
    """Parse an ``.onnx`` file of at most 512 MiB that holds its own weights.

    Raises:
        ToolMissing: the onnx package is not installed.
        InputError: the file cannot be read, is no ONNX model, or keeps weights in other files.
    """
    try:
        import onnx
    except ImportError as error:
        raise _missing() from error
    from google.protobuf.message import DecodeError

    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"is larger than {MAX_BYTES} bytes", where=path)
        model = onnx.ModelProto()
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read ({error.strerror})", where=path) from error
    except DecodeError as error:
        raise InputError("is not an ONNX model", where=path, remedy="export it again") from error
    if not model.graph.node:
        raise InputError("is not an ONNX model (no operators)", where=path, remedy="export it again")
    outside = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise InputError(
            f"keeps {len(outside)} weights in other files", where=path, remedy="save it as one file"
        )
    return model


def _missing() -> ToolMissing:
    return ToolMissing(
        "ONNX files need the packages onnx and onnxruntime",
        remedy="pip install 'paddleocr-slim[onnx]', or import the inference model (.pdmodel)",
    )


class OnnxSource:
    """A parsed model in ONNX Runtime, on the CPU, one thread."""

    def __init__(self, model: Any, where: str) -> None:
        self._model, self._where = model, where
        self._session = self._open(model)

    def _open(self, model: Any) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise _missing() from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no class of their own
            raise self._failed(error) from error

    def run(self, x: Array) -> Array:
        """See Source."""
        return self._answer(self._session, x)[0]

    def taps(self, names: Sequence[str], x: Array) -> Mapping[str, Array]:
        """See Source."""
        import onnx

        known = {name for op in self._model.graph.node for name in op.output}
        wanted = [name for name in dict.fromkeys(names) if name in known]
        tapped = onnx.ModelProto()
        tapped.CopyFrom(self._model)
        del tapped.graph.output[:]
        tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        return dict(zip(wanted, self._answer(self._open(tapped), x), strict=True))

    def _answer(self, session: Any, x: Array) -> list[Array]:
        try:
            return [np.asarray(out) for out in session.run(None, {session.get_inputs()[0].name: x})]
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StageFailed:
        reason = " ".join(str(error).split())[:200]
        return StageFailed(f"ONNX Runtime cannot run it ({reason})", where=self._where)

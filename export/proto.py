"""The inference program (`.pdmodel`) as a protobuf message: read with bounds, searched, written aside.

A damaged .pdmodel kills the process inside Paddle's C library, so it is parsed here first. The message is
``paddle/fluid/framework/framework.proto``; Paddle-Lite reads the same one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slim.errors import InputError, StageFailed, UnsupportedModel

MODEL = ".pdmodel"
PARAMS = ".pdiparams"
MAX_BYTES = 64 << 20
# AttrType numbers of framework.proto.
INT, FLOAT, INTS, LONGS = 0, 1, 3, 11
_FEED_FETCH = ("feed", "fetch")


def model_path(prefix: Path) -> Path:
    """``inference`` -> ``inference.pdmodel`` (a prefix may hold dots, so no ``with_suffix``)."""
    return prefix.with_name(prefix.name + MODEL)


def params_path(prefix: Path) -> Path:
    """``inference`` -> ``inference.pdiparams``."""
    return prefix.with_name(prefix.name + PARAMS)


def inference_prefix(path: Path) -> Path:
    """The prefix of the inference program in a folder, or of a ``.pdmodel`` file or prefix given itself.

    Raises:
        InputError: no program there, or several, or the parameters are missing.
    """
    if path.is_dir():
        found = sorted(path.glob("*" + MODEL))
        if len(found) != 1:
            raise InputError(
                f"holds {len(found)} {MODEL} files, exactly 1 is needed", where=path,
                remedy="give the folder that slim export wrote",
            )  # fmt: skip
        path = found[0]
    elif not path.name.endswith(MODEL) and not model_path(path).is_file():
        raise InputError(
            f"is no {MODEL} file" if path.is_file() else "no such model", where=path,
            remedy=f"give a folder with {MODEL} and {PARAMS}, or the {MODEL} file",
        )  # fmt: skip
    prefix = path.with_name(path.name[: -len(MODEL)]) if path.name.endswith(MODEL) else path
    for file in (model_path(prefix), params_path(prefix)):
        if not file.is_file():
            raise InputError("no such file", where=file, remedy=f"give a folder with {MODEL} and {PARAMS}")
    return prefix


def read_program(path: Path) -> Any:
    """Parse a ``.pdmodel`` of at most 64 MiB into a ProgramDesc message.

    Raises:
        InputError: the file cannot be read or is no program.
        UnsupportedModel: the program has control flow (more than one block).
    """
    from google.protobuf.message import DecodeError
    from paddle.base.proto import framework_pb2

    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"is larger than {MAX_BYTES} bytes", where=path, remedy="is this a .pdmodel?")
        program = framework_pb2.ProgramDesc()
        program.ParseFromString(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read ({error.strerror})", where=path) from error
    except DecodeError as error:
        raise InputError(
            f"is not a Paddle program ({error})", where=path, remedy="export the model again"
        ) from error
    if not program.IsInitialized() or not program.blocks or not program.blocks[0].ops:
        raise InputError("is not a Paddle program (no operators)", where=path, remedy="export it again")
    if len(program.blocks) > 1:
        raise UnsupportedModel(
            f"the program has {len(program.blocks)} blocks (control flow), 1 is supported", where=path
        )
    return program


def write_program(program: Any, path: Path) -> None:
    """Write a ProgramDesc aside and rename it, the same bytes for the same program."""
    aside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        aside.write_bytes(program.SerializeToString(deterministic=True))
        os.replace(aside, path)
    except OSError as error:
        raise StageFailed(f"cannot write ({error.strerror})", where=path) from error
    finally:
        aside.unlink(missing_ok=True)


def ops(program: Any) -> Any:
    """Operators of the one block, in order."""
    return program.blocks[0].ops


def var(program: Any, name: str) -> Any | None:
    """The variable of that name, or None."""
    return next((v for v in program.blocks[0].vars if v.name == name), None)


def dims(variable: Any) -> tuple[int, ...]:
    """Shape of a tensor variable, -1 where dynamic."""
    return tuple(variable.type.lod_tensor.tensor.dims)


def inputs(op: Any, parameter: str) -> list[str]:
    """Variable names behind one input parameter of an op; [] where it has none."""
    return [name for slot in op.inputs if slot.parameter == parameter for name in slot.arguments]


def outputs(op: Any, parameter: str) -> list[str]:
    """Variable names behind one output parameter of an op."""
    return [name for slot in op.outputs if slot.parameter == parameter for name in slot.arguments]


def attr(op: Any, name: str) -> Any | None:
    """The attribute message of that name, or None."""
    return next((a for a in op.attrs if a.name == name), None)


def readers(program: Any, name: str) -> list[tuple[Any, str]]:
    """Every (op, input parameter) that reads a variable."""
    return [(op, slot.parameter) for op in ops(program) for slot in op.inputs if name in slot.arguments]


def parameters(program: Any) -> list[Any]:
    """Persistable tensor variables, sorted by name: the order of the combined parameter file."""
    found = [v for v in program.blocks[0].vars if v.persistable and v.name not in _FEED_FETCH]
    return sorted(found, key=lambda v: v.name)


def feed_name(program: Any) -> str:
    """The name of the one input.

    Raises:
        UnsupportedModel: the program has another number of inputs.
    """
    return _only(program, "feed", lambda op: outputs(op, "Out"))


def fetch_name(program: Any) -> str:
    """The name of the one output.

    Raises:
        UnsupportedModel: the program has another number of outputs.
    """
    return _only(program, "fetch", lambda op: inputs(op, "X"))


def _only(program: Any, kind: str, names: Any) -> str:
    found = [name for op in ops(program) if op.type == kind for name in names(op)]
    if len(found) != 1:
        raise UnsupportedModel(f"the program has {len(found)} {kind} operators, exactly 1 is supported")
    return str(found[0])


def layer_of(op: Any) -> str:
    """What a user can find an op by: its weights, else its output.

    >>> layer_of(op)  # doctest: +SKIP
    "conv2d of 'backbone.conv1.conv.weight'"
    """
    for parameter in ("Filter", "Y", "Weight", "Scale", "WeightList"):
        for name in inputs(op, parameter):
            return f"{op.type} of {name!r}"
    names = list(_all_outputs(op))
    return f"{op.type} writing {names[0]!r}" if names else str(op.type)


def _all_outputs(op: Any) -> Iterator[str]:
    for slot in op.outputs:
        yield from slot.arguments

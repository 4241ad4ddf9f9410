"""Paddle-Lite's ``opt``: a program to an ``.nb`` file, in a child process, because it fails by dying."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from export import child, proto
from export.opt_child import MODES, NOT_IMPORTABLE, PLAIN
from slim.errors import InputError, OptFailed, ToolMissing

TARGETS = ("arm", "x86")
DEFAULT_TIMEOUT = 120.0
SCRIPT = Path(__file__).with_name("opt_child.py")
# Bytes 2..17 of an nb hold the version, cut at NUL; opt leaves what follows the NUL uninitialised.
_VERSION = slice(2, 18)
_TAIL = 400

# What opt says (stderr), and what a user can do about it.
ADVICE: tuple[tuple[str, str], ...] = (
    (r"No attributes called beta", "swish lacks its attribute beta: export through slim, which adds it"),
    (r"no valid out_shape", "fill_constant has shape []: export through slim, which gives it shape [1]"),
    (r"This model is not supported|ops are not supported|[Uu]nsupported op",
     "the program holds an operator Paddle-Lite lacks: run the pre-flight, replace the layer"),
    (r"[Nn]o kernel|kernels? .*not found", "no kernel for an operator on this target: try another target"),
    (r"LoadCombinedParams|Failed to read \d+ bytes|version of tensor .* not supported|bad_alloc",
     "parameters and program do not belong together, or are truncated: export the model again"),
    (r"Failed to open|[Cc]annot open|No such file", "a file is missing or unreadable"),
    (r"Permission denied|Read-only file system|No space left",
     "opt cannot write its temporary file: check TMPDIR"),
    (r"[Nn]o valid places|[Ii]nvalid place|target is not supported", "use target arm or x86"),
)  # fmt: skip


def opt_version() -> str:
    """Version of the installed ``paddlelite`` wheel.

    Raises:
        ToolMissing: it is not installed.
    """
    from importlib import metadata

    try:
        return metadata.version("paddlelite")
    except metadata.PackageNotFoundError as error:
        raise _missing("it is not installed") from error


def run_opt(
    prefix: Path, target: str, out: Path, *, timeout: float = DEFAULT_TIMEOUT, mode: str = PLAIN
) -> Path:
    """Convert ``prefix.pdmodel`` / ``.pdiparams`` for ``target`` and write ``out``.

    Success means: exit code 0 and a fresh, whole file. It is written in a temporary folder and moved, so an
    older ``out`` is replaced only by a good one. The bytes behind the version's NUL are zeroed: the same
    program gives the same file.

    Args:
        target: "arm" or "x86".
        timeout: seconds.
        mode: one of MODES: as the program says, opt's own weight-only quantization (integers in the file,
            floats at run time), or kernels in half precision (weights in the file stay float32).
    Raises:
        InputError: unknown target or mode, missing program, or ``out`` cannot be written.
        ToolMissing: paddlelite is not installed or cannot be loaded.
        OptFailed: opt crashed, ran out of time, or wrote nothing.
    """
    if target not in TARGETS:
        raise InputError(f"target is {target!r}", remedy=f"use {' or '.join(TARGETS)}")
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}", remedy=f"use {' or '.join(MODES)}")
    prefix = proto.inference_prefix(prefix)
    opt_version()
    try:
        with tempfile.TemporaryDirectory(prefix="opt-") as folder:
            work = Path(folder)
            ended = _convert(prefix, target, work, timeout, mode)
            made = work / "model.nb"
            if ended.code != 0 or not made.is_file() or made.stat().st_size <= _VERSION.stop:
                raise _failed(ended, prefix, target, timeout)
            _zero_version_tail(made)
            _publish(made, out)
    except OSError as error:
        raise InputError(
            f"cannot write here ({error.strerror})", where=out, remedy="choose another --out"
        ) from error
    return out


def _convert(prefix: Path, target: str, work: Path, timeout: float, mode: str) -> child.Ended:
    model, params = proto.model_path(prefix).resolve(), proto.params_path(prefix).resolve()
    # -I: neither PYTHONPATH nor the current folder can shadow what the script imports.
    command = [sys.executable, "-I", str(SCRIPT), str(model), str(params), target, str(work / "model"), mode]
    return child.run(command, timeout=timeout, cwd=work)


def _zero_version_tail(path: Path) -> None:
    data = bytearray(path.read_bytes())
    head, nul, _ = bytes(data[_VERSION]).partition(b"\0")
    if nul:
        data[_VERSION] = head.ljust(_VERSION.stop - _VERSION.start, b"\0")
        path.write_bytes(data)


def _publish(made: Path, out: Path) -> None:
    aside = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        shutil.copyfile(made, aside)
        os.replace(aside, out)
    finally:
        aside.unlink(missing_ok=True)


def _missing(why: str) -> ToolMissing:
    return ToolMissing(
        f"Paddle-Lite's opt cannot be used ({why})",
        remedy="pip install paddlelite==2.13rc0 (Linux x86_64, Python 3.8 or 3.10)",
    )


def _failed(ended: child.Ended, prefix: Path, target: str, timeout: float) -> ToolMissing | OptFailed:
    said = " ".join(ended.stderr.split())
    if ended.code == NOT_IMPORTABLE:
        return _missing(said[-_TAIL:] or "import failed")
    if ended.timed_out:
        return OptFailed(
            f"opt for {target} did not end within {timeout:g} s", where=prefix, remedy="raise Export.timeout"
        )
    what = "wrote no file" if ended.code == 0 else ended.died_of
    return OptFailed(
        f"opt for {target} failed ({what}): {said[-_TAIL:] or 'it said nothing'}",
        where=prefix,
        remedy=advice(ended.stderr + ended.stdout, ended.code),
    )


def advice(said: str, code: int) -> str:
    """The remedy for what opt said before it died.

    >>> advice("[F] No attributes called beta found for swish", -6)
    'swish lacks its attribute beta: export through slim, which adds it'
    """
    for pattern, remedy in ADVICE:
        if re.search(pattern, said):
            return remedy
    if code == -11:
        return "a crash without a word is often flatten: use reshape or squeeze in the net"
    return "run with the inference program that slim export wrote, and see what opt said"

"""Entry point: runs a command and turns every outcome into one line and an exit code."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

import click

from slim import distributed
from slim.cli import common, streams, terminate
from slim.cli.app import app
from slim.errors import InputError, SlimError, StageFailed, UsageError
from slim.shadow import check_shadowing

INTERRUPTED = 130
PIPE_CLOSED = 141
"""What a shell says of any program that wrote to a pipe nobody reads: 128 + SIGPIPE."""
_TRACEBACK = "SLIM_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``slim`` and exit.

    0 ok, 1 a gate failed, 2 usage, 3 tool missing, 4 stage crashed, 130 interrupted, 141 nobody
    reads what it says (``slim --help | head``; results that nobody reads change no exit code).
    """
    args = list(sys.argv[1:] if argv is None else argv)
    streams.hold()
    terminate.as_interrupt()
    code = run(args)
    terminate.ignored()
    streams.flush()
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are printed here and nowhere else."""
    as_json = "--json" in args
    # Paddle's C++ log speaks of its executors on stderr; warnings and errors of it stay.
    os.environ.setdefault("GLOG_minloglevel", "1")
    # Depthwise convolutions, most of these nets' time, gain nothing from a second thread and pay for it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # PaddleSlim imports distutils through setuptools, which says so at every start.
    warnings.filterwarnings("ignore", message="Setuptools is replacing distutils")
    common.emitted = False
    try:
        check_shadowing()
        app.main(args=list(args), prog_name="slim", standalone_mode=False)
        distributed.close()
        return 0
    except click.exceptions.Exit as exit_request:
        return exit_request.exit_code
    except click.exceptions.Abort:  # click's word for a Ctrl-C inside a command
        return _interrupted(as_json, KeyboardInterrupt())
    except click.ClickException as error:
        return _fail(_click_line(error), 2, as_json)
    except KeyboardInterrupt as error:
        return _interrupted(as_json, error)
    except SlimError as error:
        return _fail(str(error), error.exit_code, as_json, error)
    except (BrokenPipeError, SystemExit):  # click's and rich's exit, with 1, which here says "a gate failed"
        return PIPE_CLOSED
    except Exception as error:
        if _was_interrupted(error):
            return _interrupted(as_json, KeyboardInterrupt())
        if isinstance(error, OSError):  # a full disk, a folder that became read-only: no bug of ours
            told = _of_machine(error)
            return _fail(str(told), told.exit_code, as_json, told)
        if os.environ.get(_TRACEBACK):  # a bug of ours: still one line, the traceback on request
            raise
        line = f"unexpected {type(error).__name__}: {error}; set {_TRACEBACK}=1 and report the traceback"
        return _fail(str(StageFailed(line)), StageFailed.exit_code, as_json, StageFailed(line))


def _was_interrupted(error: BaseException) -> bool:
    """Whether a Ctrl-C is behind an error.

    One that falls into Paddle's import comes out as ImportError, one in a backward function that Paddle
    calls as an OSError in words.

    >>> _was_interrupted(ImportError("paddle"))
    False
    >>> _was_interrupted(OSError("(External) KeyboardInterrupt: <EMPTY MESSAGE>"))
    True
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__cause__ or seen.__context__
    return seen is not None or "(External) KeyboardInterrupt" in str(error)


def _of_machine(error: OSError) -> InputError:
    what = f"cannot read or write ({error.strerror or error})"
    return InputError(what, where=error.filename, remedy="check the path, its permissions and free space")


def _click_line(error: click.ClickException) -> str:
    whole_help = isinstance(error, click.exceptions.NoArgsIsHelpError)
    text = "no command given" if whole_help else " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    hint = f"; see '{context.command_path} --help'" if context is not None else ""
    return text.rstrip(".") + hint


def _speaks() -> bool:
    """Whether this is the process whose stdout counts; one that cannot tell speaks."""
    try:
        return distributed.is_first()
    except UsageError:
        return True


def _interrupted(as_json: bool, error: KeyboardInterrupt) -> int:
    terminate.ignored()
    line = "interrupted; run the same command again to go on where it can be resumed"
    return _fail(line, INTERRUPTED, as_json, error)


def _fail(line: str, code: int, as_json: bool, error: BaseException | None = None) -> int:
    """Say it here, and to the other processes of the run what they shall end with."""
    if as_json and not common.emitted and _speaks():
        streams.say(json.dumps({"error": line, "exit_code": code}, ensure_ascii=False), sys.stdout)
    streams.say(f"slim: {line}", sys.stderr)
    if error is not None:
        with suppress(KeyboardInterrupt):  # asked again to end: the others will miss this process
            distributed.fail(error)
    return code

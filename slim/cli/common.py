"""Options that every command shares, and how results leave the process."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from slim.cli import streams

if TYPE_CHECKING:
    from slim.config import Config
    from slim.progress import Reporter

# Whether a result was printed: an error behind it then goes to stderr only, so that --json stays one object.
emitted = False

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
DEFAULT_SEED = 2021
_OVERRIDE = re.compile(r"^[A-Za-z_][\w.-]*=")


class Command(click.Command):
    """Reads ``-o A=1 B=2`` as PaddleOCR does: one -o may be followed by several overrides."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread_overrides(args))


def spread_overrides(args: Sequence[str]) -> list[str]:
    """Put a ``-o`` in front of every further override.

    >>> spread_overrides(["-o", "A.b=1", "C=2", "out"])
    ['-o', 'A.b=1', '-o', 'C=2', 'out']
    """
    spread: list[str] = []
    following = False
    for i, arg in enumerate(args):
        value_of_o = i > 0 and args[i - 1] in ("-o", "--override")
        if following and not value_of_o and _OVERRIDE.match(arg):
            spread += ["-o", arg]
            continue
        spread.append(arg)
        following = value_of_o or (following and bool(_OVERRIDE.match(arg)))
    return spread


def json_option(function: F) -> F:
    """--json: one object on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")(function)


def seed_option(function: F) -> F:
    """--seed: everything random follows from it."""
    return click.option(
        "--seed",
        type=click.IntRange(0, 2**31 - 1),
        help=f"Random seed; default: Global.seed of the config, else {DEFAULT_SEED}.",
    )(function)


def strict_option(function: F) -> F:
    """--strict: no tolerance for bad training lines."""
    return click.option(
        "--strict", is_flag=True, help="One bad image or character in training stops; default: above 0.1%."
    )(function)


def seed_of(given: int | None, config: Config | None = None) -> int:
    """The seed of a command: --seed, else the configuration's, else the default.

    >>> seed_of(None), seed_of(7)
    (2021, 7)
    """
    if given is not None:
        return given
    if config is not None and config.Global.seed is not None:
        return config.Global.seed
    return DEFAULT_SEED


def config_options(required: bool = True) -> Callable[[F], F]:
    """-c/--config and -o overrides."""

    def wrap(function: F) -> F:
        function = click.option(
            "-o",
            "--override",
            "overrides",
            multiple=True,
            metavar="A.B=VALUE ...",
            help="Change a value of the configuration; values are read as YAML.",
        )(function)
        return click.option(
            "-c",
            "--config",
            "config",
            required=required,
            metavar="CFG",
            help="A YAML file, or the name of a shipped one ('slim config list').",
        )(function)

    return wrap


def out_option(function: F) -> F:
    """--out: the artifact folder."""
    return click.option("--out", type=PATH, help="Artifact folder; default: output/<model>/<stage>.")(
        function
    )


def model_option(function: F) -> F:
    """--model: which weights to start from."""
    return click.option(
        "--model",
        metavar="M",
        help="zoo:NAME, a .pdparams file, a folder written by slim or with an inference model (.pdmodel); "
        "default: Global.pretrained_model.",
    )(function)


def load(config: str, overrides: Sequence[str], reporter: Reporter) -> Config:
    """The configuration of a command line, notices reported."""
    from slim.config import find_config, load_config

    return load_config(find_config(config), overrides, notices=reporter.info)


def reporter() -> Reporter:
    """Progress and messages on stderr; a live bar on a terminal, plain lines elsewhere.

    Of several processes of one run the first speaks for all.
    """
    from slim.cli.console import ConsoleReporter
    from slim.distributed import is_first
    from slim.progress import Silent

    if not is_first():
        return Silent()
    return ConsoleReporter(sys.stderr)


def emit(data: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    """Print a result on stdout: one JSON object, or text for people."""
    from slim.distributed import is_first

    global emitted
    emitted = True
    if not is_first():
        return
    said = json.dumps(data, ensure_ascii=False, allow_nan=False, default=str) if as_json else text()
    try:
        click.echo(said)
    except BrokenPipeError:  # `slim ... | head` has read enough; the exit code is still the command's
        streams.abandon(sys.stdout)


def load_optional(config: str | None, overrides: Sequence[str], reporter: Reporter) -> Config | None:
    """The configuration when one was given; overrides need one."""
    if config is not None:
        return load(config, overrides, reporter)
    if overrides:
        raise click.UsageError("-o changes a configuration, give one with -c")
    return None


def one_model(argument: str | None, option: str | None) -> str | None:
    """The model named as argument or by --model, not both."""
    if argument and option:
        raise click.UsageError("give the model once, as argument or by --model")
    return argument or option


def targets(text: str | None) -> tuple[str, ...] | None:
    """``arm,x86`` as a tuple; None stays None.

    >>> targets("arm,x86")
    ('arm', 'x86')
    """
    if text is None:
        return None
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    wrong = [part for part in found if part not in ("arm", "x86")]
    if wrong or not found:
        raise click.UsageError(f"--target is {text!r}, must be arm, x86 or arm,x86")
    return tuple(dict.fromkeys(found))


def stage_text(result: Any) -> str:
    """Folder and checks of a stage, for people."""
    lines = [f"{result.stage}: {result.out}"]
    entry = result.entry
    if entry.get("metrics"):
        metric = "hmean" if "pages" in entry else "acc"
        value = entry["metrics"][metric]
        noun = "pages" if "pages" in entry else "lines"
        lines.append(f"{metric} {100 * value:.2f}% of {entry['images']:,} {noun}")
    if entry.get("params"):
        lines.append(f"{entry['params']:,} parameters, {entry['flops']:,} multiply-adds")
    lines += [f"{name}: {size:,} bytes" for name, size in entry.get("bytes", {}).items()]
    lines += [check.line() for check in result.checks]
    lines += [f"note: {note}" for note in entry.get("notes", [])]
    return "\n".join(lines)


def gate(report: dict[str, Any]) -> None:
    """Exit code 1 when a check of the report missed its bound."""
    from slim.errors import GateFailed
    from slim.report import check_line

    missed = [check_line(check) for check in report["checks"] if not check["passed"]]
    if missed:
        raise GateFailed("; ".join(missed), where=report["model"])

"""The command tree. A command's module is imported only when the command is used."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from slim import __version__
from slim.distributed import require_one


class Entry(NamedTuple):
    """Where a command lives, and its line in the overview."""

    module: str
    help: str


COMMANDS: dict[str, Entry] = {
    "run": Entry("run", "All stages by one recipe: prune, quantize, export, check."),
    "demo": Entry("demo", "The main job on the bundled classifier and recognizer, from nothing."),
    "train": Entry("train", "Train or finetune a model."),
    "eval": Entry("evaluate", "Score a model on a label file."),
    "prune": Entry("prune", "Cut filters by sensitivity, then finetune."),
    "quant": Entry("quant", "Quantize to int8, trained (QAT) or calibrated (PTQ)."),
    "export": Entry("export", "Write the inference program and compare it with the net."),
    "export-nb": Entry("export_nb", "Write Paddle-Lite .nb files for phones."),
    "check": Entry("check", "Prove an exported model against its original."),
    "compare": Entry("compare", "Compare reports with stored references; exit 1 on a regression."),
    "bench": Entry("bench", "Time models side by side on this PC, with memory and multiply-adds."),
    "inspect": Entry("inspect", "Say what a .nb file holds: kernels, bytes, precision."),
    "compact": Entry("compact", "Shrink a .nb file without changing its outputs."),
    "run-nb": Entry("run_nb", "Execute a .nb file on a PC with the ARM kernels' arithmetic."),
    "ocr": Entry("ocr", "Read a picture with exported detector, classifier and recognizer."),
    "synth": Entry("synth", "Render a data set of text lines or pages."),
    "config": Entry("config", "Check, list and show configurations."),
    "import": Entry("import_", "Recover trainable weights from an inference model or ONNX file."),
    "models": Entry("models", "List the bundled and the published models; pull published ones."),
    "doctor": Entry("doctor", "Say what is installed here and what is missing."),
}


class LazyGroup(click.Group):
    """Knows its commands by name and help; imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"slim.cli.commands.{COMMANDS[name].module}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.6)
            hint = f", did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


# What knows how to work in several processes; the others would do everything once in each of them.
IN_SEVERAL = ("train", "prune", "quant")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slim")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Prune, quantize and export trained PP-OCR models, and prove each .nb file on a PC."""
    if ctx.invoked_subcommand not in IN_SEVERAL:
        require_one(f"slim {ctx.invoked_subcommand}")

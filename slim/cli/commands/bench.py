"""slim bench"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from slim.cli import common

_SHOWN_OPS = 12
_MOST_VALUES = 1 << 28  # 1 GB of float32


@click.command(name="bench")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=common.PATH)
@click.option("--shape", metavar="1,C,H,W", help="Input; default: spec.json beside the file, else its own.")
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Of each engine that has a choice; Paddle-Lite x86 (model.x86.nb) always uses one.",
)
@click.option("--warm-up", type=click.IntRange(0), default=5, show_default=True, help="Runs not counted.")
@click.option("--runs", type=click.IntRange(1), default=40, show_default=True, help="Runs counted, a file.")
@click.option("--per-op", is_flag=True, help="Also the time of each kind of operator (ARM files).")
@common.seed_option
@common.json_option
def command(files: tuple[Path, ...], **options: Any) -> None:
    """Time models side by side in one run: .nb files, inference programs, folders of slim export-nb.

    Times are of this PC, not of a phone. Files take turns, each in a process of its own.

    \b
    slim bench float/model.x86.nb e1/model.x86.nb
    slim bench e1 --threads 2 --per-op
    """
    from export.bench_files import bench

    found = bench(
        files,
        shape=_shape(options["shape"]),
        threads=options["threads"],
        warm_up=options["warm_up"],
        runs=options["runs"],
        per_op=options["per_op"],
        seed=common.seed_of(options["seed"]),
        progress=common.reporter(),
    )
    common.emit(found, options["as_json"], lambda: _text(found))


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() and 0 < int(part) <= 4096 for part in parts):
        raise click.UsageError(f"--shape is {text!r}, must be 1,C,H,W of 1 to 4096 each")
    shape = tuple(int(part) for part in parts)
    if math.prod(shape) > _MOST_VALUES:
        raise click.UsageError(f"--shape is {text!r}, {math.prod(shape):,} values, at most {_MOST_VALUES:,}")
    return shape


def _text(found: dict[str, Any]) -> str:
    from slim.report import kilo, text_table

    headers = (
        "file",
        "runtime",
        "threads",
        "input",
        "bytes",
        "MACs",
        "int8",
        "p50 ms",
        "p90 ms",
        "ratio",
        "peak MB",
    )
    rows = [
        (
            row["file"],
            row["runtime"],
            str(row["threads"]),
            "x".join(map(str, row["shape"])),
            f"{row['bytes']:,}",
            kilo(row["macs"]),
            "-" if row["int8_share"] is None else f"{100 * row['int8_share']:.0f}%",
            f"{row['p50_ms']:.2f}",
            f"{row['p90_ms']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['peak_mb']:.0f}",
        )
        for row in found["files"]
    ]
    parts = [text_table(headers, rows)]
    for row in found["files"]:
        if row.get("ops"):
            parts += ["", f"{row['file']}, by operator:", _ops(row["ops"])]
    runs = found["files"][0]["runs"]
    said = f"{runs} runs a file after {found['warm_up']} of warm-up, in turns"
    return "\n".join([*parts, "", said, *[f"note: {note}" for note in found["notes"]]])


def _ops(ops: list[dict[str, Any]]) -> str:
    from slim.report import text_table

    rows = [
        (op["type"], op["precision"], str(op["count"]), f"{op['ms']:.3f}", f"{100 * op['share']:.1f}%")
        for op in ops[:_SHOWN_OPS]
    ]
    rest = ops[_SHOWN_OPS:]
    if rest:
        spent, share = sum(op["ms"] for op in rest), sum(op["share"] for op in rest)
        rows.append(
            (
                f"{len(rest)} others",
                "-",
                str(sum(op["count"] for op in rest)),
                f"{spent:.3f}",
                f"{100 * share:.1f}%",
            )
        )
    return text_table(("op", "precision", "count", "ms", "share"), rows)

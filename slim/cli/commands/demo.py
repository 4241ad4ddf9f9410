"""slim demo"""

from __future__ import annotations

import time
from pathlib import Path

import click

from slim.cli import common


@click.command(name="demo")
@click.option(
    "--out",
    type=common.PATH,
    default=Path("output/demo"),
    show_default=True,
    help="Folder of data and results.",
)
@click.option("--only", type=click.Choice(["cls", "rec"]), help="One of the two models.")
@click.option("--fresh", is_flag=True, help="Do every stage again, also those already done.")
@common.seed_option
@common.json_option
def command(out: Path, only: str | None, fresh: bool, seed: int | None, as_json: bool) -> None:
    """Prune, finetune, quantize, export and check the bundled classifier and recognizer, from nothing."""
    from slim.pipeline.demo import run_demo
    from slim.report import HEADERS, check_line, stage_rows, text_table

    start = time.monotonic()
    reports = run_demo(out, only=only, fresh=fresh, seed=common.seed_of(seed), progress=common.reporter())
    seconds = time.monotonic() - start

    def text() -> str:
        rows = [row for report in reports for row in stage_rows(report)]
        parts = [text_table(HEADERS, rows), ""]
        for report in reports:
            parts += [f"{report['model']}  {check_line(check)}" for check in report["checks"]]
            parts += [f"{report['model']}  note: {note}" for note in report["notes"]]
        return "\n".join([*parts, f"\n{seconds:.0f} s; files in {out}/<model>/"])

    common.emit({"reports": reports, "seconds": seconds}, as_json, text)
    for report in reports:
        common.gate(report)

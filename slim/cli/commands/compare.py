"""slim compare"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slim.cli import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slim.compare import Comparison, Row


@click.command(name="compare")
@click.argument("reports", nargs=-1, required=True, type=common.PATH)
@click.option("--baseline", type=common.PATH, required=True, help="refs.yml with values and tolerances.")
@click.option("--markdown", type=common.PATH, metavar="FILE", help="Write the result for a pull request.")
@click.option("--junit", type=common.PATH, metavar="FILE", help="Write the result as JUnit XML.")
@click.option("--show", type=click.IntRange(0), default=20, show_default=True, help="Changed images to list.")
@click.option("--fail-on-gain", is_flag=True, help="An unexplained gain fails too.")
@click.option("--update", is_flag=True, help="Write the reports' numbers as references; keeps tolerances.")
@click.option("--predictions", is_flag=True, help="With --update: also store texts, for paired statistics.")
@common.seed_option
@common.json_option
def command(reports: tuple[Path, ...], **options: Any) -> None:
    """Compare report.json files (or their folders) with references: exit 1 on a loss or a missing model.

    \b
    slim compare --baseline refs.yml output/demo/*/report.json --markdown compare.md --junit compare.xml
    slim compare --update --predictions --baseline refs.yml output/demo/*/report.json
    """
    if options["update"]:
        if options["markdown"] or options["junit"] or options["fail_on_gain"]:
            raise click.UsageError("--update compares nothing: leave out --markdown, --junit, --fail-on-gain")
        _update(reports, options)
        return
    if options["predictions"]:
        raise click.UsageError("--predictions stores texts, give it with --update")
    _compare(reports, options)


def _compare(reports: tuple[Path, ...], options: dict[str, Any]) -> None:
    from slim.artifact import write_text
    from slim.compare import compare, read_references, render

    seed = common.seed_of(options["seed"])
    found = compare(read_references(options["baseline"]), reports, seed=seed)
    _require_apart([options["markdown"], options["junit"]], [options["baseline"], *found.read])
    failed = found.failed(gains=options["fail_on_gain"])
    if options["markdown"] is not None:
        write_text(options["markdown"], render.markdown(found, failed, limit=options["show"]))
    if options["junit"] is not None:
        write_text(options["junit"], render.junit(found, failed))
    data = found.to_json() | {"passed": not failed, "seed": seed}
    common.emit(data, options["as_json"], lambda: render.text(found, limit=options["show"]))
    _warn(found)
    _require(found, failed, options["baseline"])


def _require_apart(outputs: Sequence[Path | None], inputs: Sequence[Path]) -> None:
    """Refuse an output that would replace what is read, or the other output."""
    from slim.artifact import real
    from slim.errors import UsageError

    read = {real(path) for path in inputs}
    for output in outputs:
        if output is None:
            continue
        if real(output) in read:
            what = "is read here, or written already: the result would replace it"
            raise UsageError(what, where=output, remedy="give --markdown and --junit a FILE of its own each")
        read.add(real(output))


def _warn(found: Comparison) -> None:
    from slim.report.escaping import visible

    words = {"new": "has no references yet: slim compare --update adds it", "gain": "is better than expected"}
    for row in found.rows:
        if row.verdict in words:
            common.reporter().warn(f"{visible(row.model)} {row.metric} {words[row.verdict]}")


def _require(found: Comparison, failed: list[Row], baseline: Path) -> None:
    from slim.compare import render
    from slim.errors import GateFailed

    if failed:
        count = f"{len(failed)} of {len(found.rows)} comparisons failed"
        raise GateFailed(f"{count}, the first: {render.explain(failed[0])}", where=baseline)


def _update(reports: tuple[Path, ...], options: dict[str, Any]) -> None:
    from dataclasses import asdict

    from slim.compare.reports import shown
    from slim.compare.update import update
    from slim.report import text_table
    from slim.report.escaping import visible

    store = options["predictions"]
    changes = update(options["baseline"], reports, predictions=store, progress=common.reporter())

    def table() -> str:
        rows = [(visible(c.model), c.metric, shown(c.before), shown(c.after)) for c in changes]
        head = f"{options['baseline']}: {len(changes)} numbers written"
        return "\n".join([head, "", text_table(("model", "metric", "before", "after"), rows)])

    data = {"baseline": str(options["baseline"]), "changes": [asdict(c) for c in changes]}
    common.emit(data, options["as_json"], table)

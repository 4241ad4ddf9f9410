"""slim compare"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(name="compare")
@click.argument("reports", nargs=-1, required=True, type=common.PATH)
@click.option("--baseline", type=common.PATH, required=True, help="refs.yml with values and tolerances.")
@common.seed_option
@common.json_option
def command(reports: tuple[Path, ...], baseline: Path, seed: int | None, as_json: bool) -> None:
    """Compare report.json files with stored references; exit 1 on a regression or a missing model.

    \b
    slim compare --baseline refs.yml output/demo/*/report.json
    """
    from dataclasses import asdict

    from slim.compare import Row, compare, read_references
    from slim.errors import GateFailed
    from slim.report import text_table

    rows = compare(read_references(baseline), reports)

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:g}"

    def cells(row: Row) -> tuple[str, ...]:
        return (
            row.model,
            row.metric,
            number(row.reference),
            number(row.tolerance),
            number(row.value),
            row.verdict.upper() if row.failed else row.verdict,
        )

    headers = ("model", "metric", "reference", "tolerance", "value", "verdict")
    failed = [row for row in rows if row.failed]
    common.emit(
        {"rows": [asdict(row) for row in rows], "passed": not failed},
        as_json,
        lambda: text_table(headers, [cells(row) for row in rows]),
    )
    if failed:
        worst = failed[0]
        raise GateFailed(
            f"{len(failed)} of {len(rows)} comparisons failed, the first: {worst.model} {worst.metric} "
            f"is {number(worst.value)}, reference {number(worst.reference)} +- {number(worst.tolerance)}",
            where=baseline,
        )

"""slim run"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(cls=common.Command, name="run")
@common.config_options(required=False)
@common.model_option
@click.option(
    "--data", type=common.PATH, help="Label file (path<TAB>text), split into training and evaluation."
)
@click.option("--target", default=None, metavar="arm,x86", help="Targets; default: Export.targets.")
@click.option("--out", type=common.PATH, help="Folder of all stages; default: Run.out or output/<model>.")
@click.option("--fresh", is_flag=True, help="Do every stage again, also those already done.")
@common.strict_option
@common.seed_option
@common.json_option
def command(
    config: str | None,
    overrides: tuple[str, ...],
    model: str | None,
    data: Path | None,
    target: str | None,
    out: Path | None,
    fresh: bool,
    strict: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Prune, quantize, export and check by one recipe; stages already done are not done again.

    \b
    slim run -c rec/en_number_demo
    slim run --model best_accuracy.pdparams --data label.txt --target arm
    """
    from slim.pipeline.run import run_recipe
    from slim.pipeline.wizard import recipe_for
    from slim.report import report_text

    reporter = common.reporter()
    targets = common.targets(target)
    if config is None:
        if model is None or data is None:
            raise click.UsageError("give -c CFG, or --model and --data")
        loaded = recipe_for(model, data, overrides, reporter, out)
    else:
        if data is not None:
            raise click.UsageError(
                "--data goes without -c; name the label file in the config's Train and Eval"
            )
        loaded = common.load(config, overrides, reporter)
    report = run_recipe(
        loaded,
        model=model,
        out=out,
        targets=targets,
        fresh=fresh,
        seed=common.seed_of(seed, loaded),
        progress=reporter,
        strict=strict,
    )
    common.emit(report, as_json, lambda: report_text(report))
    common.gate(report)

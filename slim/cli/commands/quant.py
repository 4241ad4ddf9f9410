"""slim quant"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(cls=common.Command, name="quant")
@common.config_options()
@common.model_option
@common.out_option
@click.option("--mode", type=click.Choice(["qat", "ptq"]), help="Trained or calibrated; default: Quant.mode.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0.0, 100.0),
    metavar="P",
    help="Points the shipped file may lose: layers fall back to float until it holds.",
)
@click.option("--relative", is_flag=True, help="--max-drop is percent of the original's accuracy.")
@click.option("--analyze", is_flag=True, help="Measure each layer's effect on the shipped file.")
@click.option(
    "--compare",
    is_flag=True,
    help="Make, run and score every candidate (calibrators, qat, weight-only, fp16): a table, no model.",
)
@common.strict_option
@common.seed_option
@common.json_option
def command(
    config: str,
    overrides: tuple[str, ...],
    model: str | None,
    out: Path | None,
    mode: str | None,
    max_drop: float | None,
    relative: bool,
    analyze: bool,
    compare: bool,
    strict: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Quantize a float or pruned model to int8.

    \b
    slim quant -c rec/en_number_demo --model output/en_number_demo/prune
    slim quant -c my.yml --mode ptq --out q1
    slim quant -c my.yml --mode ptq --max-drop 0.5
    slim quant -c my.yml --compare --out candidates
    """
    from slim.pipeline import candidates, stages

    if compare and (mode or max_drop is not None or relative or analyze):
        raise click.UsageError("--compare goes without --mode, --max-drop, --relative and --analyze")
    reporter = common.reporter()
    loaded = common.load(config, overrides, reporter)
    if relative and max_drop is None and (loaded.Quant is None or loaded.Quant.max_drop is None):
        raise click.UsageError("--relative says how a drop counts: give --max-drop P, or Quant.max_drop")
    number = common.seed_of(seed, loaded)
    if compare:
        report = candidates.compare_candidates(
            loaded,
            model=model,
            out=out or loaded.out_folder / "candidates",
            seed=number,
            progress=reporter,
            strict=strict,
        )
        common.emit(report, as_json, lambda: candidates.text(report))
        return
    result = stages.quant(
        loaded,
        model=model,
        out=out,
        seed=number,
        progress=reporter,
        strict=strict,
        mode=mode,
        max_drop=max_drop,
        relative_drop=relative or None,
        analyze=analyze or None,
    )
    common.emit(result.to_json(), as_json, lambda: common.stage_text(result))

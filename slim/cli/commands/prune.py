"""slim prune"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slim.cli import common


@click.command(cls=common.Command, name="prune")
@common.config_options()
@common.model_option
@common.out_option
@click.option("--show-groups", is_flag=True, help="Print the groups of tied channels and stop.")
@click.option(
    "--sensitivities",
    type=common.PATH,
    help="Curves measured before: a sensitivity.json, or PaddleSlim's sen.pickle.",
)
@click.option("--plot", type=common.PATH, help="Draw the sensitivity curves: .png, .svg or .pdf.")
@common.strict_option
@common.seed_option
@common.json_option
def command(
    config: str,
    overrides: tuple[str, ...],
    model: str | None,
    out: Path | None,
    show_groups: bool,
    sensitivities: Path | None,
    plot: Path | None,
    strict: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Cut whole groups of filters (FPGM, L1, L2, BatchNorm scale, Taylor), correct BatchNorm, finetune.

    \b
    slim prune -c rec/en_number_demo --plot curves.png
    slim prune -c my.yml --model best_accuracy.pdparams -o Prune.flops=0.2 --out p1
    """
    reporter = common.reporter()
    loaded = common.load(config, overrides, reporter)
    if show_groups:
        _groups(loaded, model, reporter, as_json)
        return
    from slim.pipeline import pruning

    result = pruning.prune(
        loaded,
        model=model,
        out=out,
        seed=common.seed_of(seed, loaded),
        progress=reporter,
        strict=strict,
        sensitivities=sensitivities,
        plot=plot,
    )
    common.emit(result.to_json(), as_json, lambda: common.stage_text(result))


def _groups(config: Any, model: str | None, reporter: Any, as_json: bool) -> None:
    from prune.stage import show_groups
    from slim.pipeline.opening import open_model
    from slim.report import text_table

    groups = show_groups(open_model(model, config, reporter))

    def text() -> str:
        headers = ("group", "channels", "FLOPs a channel", "prunable", "tied to")
        return text_table(headers, [_cells(group) for group in groups])

    common.emit({"groups": groups}, as_json, text)


def _cells(group: dict[str, Any]) -> tuple[str, ...]:
    own = (group["name"], "out")
    sides = [(m["path"], m["side"]) for m in group["members"]]
    ties = dict.fromkeys(f"{path}.{side}" for path, side in sides if (path, side) != own)
    prunable = "yes" if group["prunable"] else "; ".join(group["reasons"])
    return (group["name"], str(group["size"]), f"{group['flops_per_channel']:,}", prunable, ", ".join(ties))

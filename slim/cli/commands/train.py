"""slim train"""

from __future__ import annotations

import click

from slim.cli import common


@click.command(cls=common.Command, name="train")
@common.config_options()
@common.strict_option
@common.seed_option
@common.json_option
def command(config: str, overrides: tuple[str, ...], strict: bool, seed: int | None, as_json: bool) -> None:
    """Train by a PaddleOCR config; a stopped run in Global.save_model_dir goes on where it was.

    \b
    slim train -c my.yml -o Global.pretrained_model=best_accuracy Global.epoch_num=5
    """
    from slim.pipeline.training import train_model

    reporter = common.reporter()
    loaded = common.load(config, overrides, reporter)
    result = train_model(loaded, strict=strict, seed=common.seed_of(seed, loaded), progress=reporter)

    def text() -> str:
        bad = result["bad_lines"]
        counted = "  ".join(f"{name} {count}" for name, count in bad.items())
        if result["best_metric"] is None:
            best = "not evaluated (no Eval section)"
        else:
            best = f"best {result['metric']} {result['best_metric']:.4f} at step {result['best_step']}"
        return f"{result['out']}: {result['steps']} steps, {best}\nbad lines: {counted}"

    common.emit(result, as_json, text)

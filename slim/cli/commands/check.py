"""slim check"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.command(cls=common.Command, name="check")
@click.argument("artifact", type=common.PATH)
@common.config_options(required=False)
@click.option("--data", type=common.PATH, help="Label file to score on; default: the config's Eval.")
@click.option(
    "--original", metavar="M", help="What to compare with; default: the float original of the manifest."
)
@click.option("--images", type=click.IntRange(1), help="Lines to score; default: Check.images.")
@click.option(
    "--runtime-version", metavar="X", help="Paddle-Lite version of the app; a mismatch is a warning."
)
@click.option(
    "--per-layer",
    is_flag=True,
    help="Also compare each layer of model.arm.nb with the float net, and draw layers.png.",
)
@click.option(
    "--out", type=common.PATH, help="Folder of report.json and predictions.jsonl; default: ARTIFACT."
)
@common.seed_option
@common.json_option
def command(
    artifact: Path,
    config: str | None,
    overrides: tuple[str, ...],
    data: Path | None,
    original: str | None,
    images: int | None,
    runtime_version: str | None,
    per_layer: bool,
    out: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Prove the .nb files of an artifact against their original: tensors, images, text.

    \b
    slim check e1 -c rec/en_number_demo
    slim check e1 --data label.txt --runtime-version 2.12
    slim check e1 -c rec/en_number_demo --per-layer
    """
    from slim.pipeline.checking import check_artifact
    from slim.report import report_text

    reporter = common.reporter()
    loaded = common.load_optional(config, overrides, reporter)
    report = check_artifact(
        artifact,
        loaded,
        data=data,
        original=original,
        images=images,
        runtime_version=runtime_version,
        per_layer=per_layer,
        out=out,
        seed=common.seed_of(seed, loaded),
        progress=reporter,
    )
    common.emit(report, as_json, lambda: report_text(report))
    common.gate(report)

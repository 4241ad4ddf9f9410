"""slim config"""

from __future__ import annotations

from pathlib import Path

import click

from slim.cli import common


@click.group(name="config")
def command() -> None:
    """Check, list and show configurations (text only, nothing heavy is loaded)."""


@command.command(cls=common.Command, name="check")
@click.argument("config")
@click.option("-o", "--override", "overrides", multiple=True, metavar="A.B=VALUE ...", help="Change a value.")
@click.option("--files", is_flag=True, help="Also check that the paths it names exist.")
@common.seed_option
@common.json_option
def check(config: str, overrides: tuple[str, ...], files: bool, seed: int | None, as_json: bool) -> None:
    """Print the resolved configuration as JSON, or the error."""
    import json

    loaded = common.load(config, overrides, common.reporter())
    if files:
        from slim.config import check_files

        check_files(loaded)
    data = loaded.resolved()
    common.emit(data, as_json, lambda: json.dumps(data, indent=1, ensure_ascii=False))


@command.command(name="list")
@common.seed_option
@common.json_option
def list_(seed: int | None, as_json: bool) -> None:
    """Names and files of the shipped configurations."""
    from slim.config import list_configs
    from slim.report import text_table

    found = {name: str(path) for name, path in list_configs().items()}
    common.emit({"configs": found}, as_json, lambda: text_table(("name", "file"), list(found.items())))


@command.command(name="show")
@click.argument("name")
@common.seed_option
@common.json_option
def show(name: str, seed: int | None, as_json: bool) -> None:
    """Print a shipped configuration as it is written."""
    from slim.config import find_config

    path = Path(find_config(name))
    text = path.read_text(encoding="utf-8")
    common.emit({"name": name, "file": str(path), "text": text}, as_json, lambda: text.rstrip("\n"))

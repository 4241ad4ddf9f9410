"""slim models"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slim.cli import common
from slim.zoo.table import BASE, KINDS

HEADERS = ("name", "kind", "size", "here", "config", "dictionary")


@click.group(name="models", invoke_without_command=True)
@common.seed_option
@common.json_option
@click.pass_context
def command(context: click.Context, seed: int | None, as_json: bool) -> None:
    """List the bundled and the published models; pull published ones."""
    context.obj = as_json
    if context.invoked_subcommand is not None:
        return
    from slim.report import text_table
    from slim.zoo import MODELS, PUBLISHED

    names = [*MODELS, *(name for name in PUBLISHED if name not in MODELS)]
    data = {"models": [_facts(name) for name in names]}
    common.emit(data, as_json, lambda: text_table(HEADERS, [_cells(facts) for facts in data["models"]]))


@command.command(name="show")
@click.argument("name")
@common.seed_option
@common.json_option
@click.pass_obj
def show(above: bool, name: str, seed: int | None, as_json: bool) -> None:
    """What a model is, where its files are, how it relates to other generations."""
    data = _facts(name)
    common.emit(data, as_json or above, lambda: "\n".join(_lines(data)))


@command.command(name="pull")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Default: train; of a slim model: slim-infer.")
@click.option("--cache", type=common.PATH, help="Folder; default: SLIM_CACHE, else the XDG cache folder.")
@click.option("--base-url", default=BASE, show_default=True, help="A mirror with the same paths.")
@click.option(
    "--wait", type=click.FloatRange(0), default=600.0, show_default=True, help="Seconds for a lock."
)
@common.seed_option
@common.json_option
@click.pass_obj
def pull(
    above: bool,
    name: str,
    kind: str | None,
    cache: Path | None,
    base_url: str,
    wait: float,
    seed: int | None,
    as_json: bool,
) -> None:
    """Download a published model into the cache, check and unpack it; again: nothing to do.

    \b
    slim models pull korean_mobile_v2.0_rec
    slim prune -c rec/korean_mobile_v2.0_rec --model zoo:korean_mobile_v2.0_rec
    """
    from slim.zoo.pull import pull as fetch

    done = fetch(
        name.removeprefix("zoo:"),
        kind,
        progress=common.reporter(),
        cache=cache,
        base=base_url,
        wait=wait,
    )
    data: dict[str, Any] = {
        "name": done.archive.row.name,
        "kind": done.archive.kind,
        "folder": str(done.folder),
        "fetched": done.fetched,
        "files": done.files,
        "use": _use(done.archive.row.name, done.archive.kind, done.folder),
    }
    common.emit(data, as_json or above, lambda: _pulled_text(data))


@command.command(name="table")
@common.seed_option
@common.json_option
@click.pass_obj
def table(above: bool, seed: int | None, as_json: bool) -> None:
    """Published sizes beside the nets of our recipes, as docs/MODELS.md has them."""
    from slim.pipeline.published import markdown, measure_all

    rows = measure_all(common.reporter())
    data = {"models": [measured.to_json() for measured in rows]}
    common.emit(data, as_json or above, lambda: markdown(rows))


def _use(name: str, kind: str, folder: Path) -> str:
    from slim.zoo import MODELS, WEIGHTS

    if kind in WEIGHTS:
        plain = kind == "train" and name not in MODELS
        return f"--model zoo:{name}" if plain else f"--model zoo:{name}/{kind}"
    if kind == "infer":
        return f"slim import {folder} --config {_config(name)} --out {name}.pdparams"
    return "for comparison: slim makes its own slim models from the float checkpoint"


def _config(name: str) -> str:
    from slim.zoo import PUBLISHED

    return PUBLISHED[name].config


def _pulled_text(data: dict[str, Any]) -> str:
    state = "pulled" if data["fetched"] else "already here"
    files = ", ".join(data["files"])
    return f"{state}: {data['folder']}\nfiles: {files}\nuse: {data['use']}"


def _facts(name: str) -> dict[str, Any]:
    """What is known of a model, published, bundled or both; InputError for another name."""
    from slim.zoo import MODELS, PUBLISHED, find

    short = name.removeprefix("zoo:")
    if short not in PUBLISHED:
        return _at_hand(find(name))
    row = PUBLISHED[short]
    facts: dict[str, Any] = {
        "name": row.name,
        "kind": row.kind,
        "config": row.config,
        "official_config": row.official_config,
        "dictionary": row.dictionary,
        "published_size": row.size,
        "made_from": row.original,
        "relation": row.relation,
        "urls": {kind: BASE + path for kind, path in row.files.items()},
        "here": _here(row.name),
    }
    return {**_at_hand(find(short)), **facts} if short in MODELS else facts


def _at_hand(model: Any) -> dict[str, Any]:
    from slim.numerics import file_sha256

    return {
        "name": model.name,
        "kind": model.kind,
        "config": model.config,
        "origin": model.origin,
        "file": str(model.path),
        "bytes": model.path.stat().st_size,
        "sha256": file_sha256(model.path),
        "here": {},
    }


def _here(name: str) -> dict[str, str]:
    """Kind -> folder of what is pulled of a row."""
    from slim.zoo.cache import Cache, cache_folder
    from slim.zoo.table import PUBLISHED, archive

    store = Cache(cache_folder())
    archives = [archive(name, kind) for kind in PUBLISHED[name].files]
    return {a.kind: str(store.folder(a)) for a in archives if store.files(a) is not None}


def _cells(facts: dict[str, Any]) -> tuple[str, ...]:
    here = [*(["bundled"] if "file" in facts else []), *facts["here"]]
    return (
        facts["name"],
        facts["kind"],
        facts.get("published_size", "-"),
        ", ".join(here) or "-",
        facts["config"],
        facts.get("dictionary") or "-",
    )


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{key} {kind}: {part}" for kind, part in value.items()]
        elif value is not None:
            lines.append(f"{key}: {value}")
    return lines

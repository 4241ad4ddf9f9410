"""Finding a model: bundled or pulled weights, a checkpoint, or a folder one of our stages wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slim import zoo
from slim.artifact import MANIFEST, real
from slim.errors import InputError, UsageError
from slim.progress import Reporter

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import Config


def open_model(source: str | None, config: Config | None, progress: Reporter) -> Bundle:
    """The model a command line means.

    Args:
        source: ``zoo:NAME`` (bundled, or pulled before) or its bare name, a .pdparams file (extension
            optional), an artifact folder, a bare inference folder (its weights are recovered, see
            slim.importing); None: ``Global.pretrained_model`` of the config.
        config: describes the net of a checkpoint; None: it is inferred from the weights, and said so.
    Raises:
        InputError: nothing of that name; CheckpointError: it does not fit the net.
    """
    name = source or _configured(config)
    if name.startswith(zoo.PREFIX) or (
        (name in zoo.MODELS or name in zoo.PUBLISHED) and not Path(name).exists()
    ):
        return _from_zoo(name, config)
    path = Path(name)
    if path.is_dir():
        deployed = not (path / "model.pdparams").is_file() and any(path.glob("*.pdmodel"))
        return _deployed(path, config, progress) if deployed else _folder(path)
    from slim.bundle import checkpoint_path, from_checkpoint
    from slim.config.spec import model_spec

    if not checkpoint_path(path).is_file():
        raise InputError(
            "no such model", where=name, remedy="give zoo:NAME, a .pdparams file or a folder written by slim"
        )
    if config is not None:
        return from_checkpoint(model_spec(config), path)
    from slim.infer import infer_spec

    return from_checkpoint(infer_spec(checkpoint_path(path), progress), path)


def open_original(source: str, config: Config | None, progress: Reporter) -> Bundle:
    """The float original a lineage or a command line names, as `open_model`.

    ``config`` describes a checkpoint on disk; bundled models and artifacts describe themselves.
    """
    return open_model(source, None if source.startswith(zoo.PREFIX) else config, progress)


def require_apart(dest: Path, source: str | Path, original: str | None = None) -> None:
    """Refuse an output folder that is a model in use, or holds it: replacing the folder would delete that.

    Args:
        source: what the stage starts from.
        original: the float original of ``source``, which later stages learn from and are compared with.
    Raises:
        InputError: ``dest`` is one of them or a folder above it.
    """
    if _replaces(real(dest), str(source)):
        raise InputError("is the model itself", where=dest, remedy="choose another --out")
    if original is not None and _replaces(real(dest), original):
        raise InputError(f"is the float original of {source}", where=dest, remedy="choose another --out")


def _replaces(folder: Path, name: str) -> bool:
    if name.startswith(zoo.PREFIX):
        return False
    model = real(Path(name))
    return folder == model or (folder in model.parents and (folder / MANIFEST).is_file())


def _configured(config: Config | None) -> str:
    if config is None or not config.Global.pretrained_model:
        raise UsageError("no model to start from", remedy="give --model or set Global.pretrained_model")
    return config.Global.pretrained_model


def _from_zoo(name: str, config: Config | None) -> Bundle:
    from slim.bundle import from_checkpoint
    from slim.config import find_config, load_config
    from slim.config.spec import model_spec

    model = zoo.find(name)
    own = config if config is not None else load_config(find_config(model.config))
    return replace(from_checkpoint(model_spec(own), model.path), source=f"{zoo.PREFIX}{model.name}")


def _deployed(path: Path, config: Config | None, progress: Reporter) -> Bundle:
    """An inference model of somebody else: the same as `slim import` first."""
    from slim.importing.run import recovered

    if config is None:
        raise UsageError("is a bare inference model", where=path, remedy="give its configuration with -c")
    bundle, checks, notes = recovered(path, config, progress=progress)
    for note in notes:
        progress.info(f"{path}: {note}")
    worst = max(check.value for check in checks)
    progress.info(f"{path}: weights recovered, {len(checks)} outputs equal to {worst:.1g}")
    return bundle


def _folder(path: Path) -> Bundle:
    if not (path / MANIFEST).is_file():
        raise InputError(
            "is a folder without manifest.json",
            where=path,
            remedy="give a folder written by slim train/prune/quant",
        )
    from quant.wrap import restore
    from slim.bundle import from_artifact

    return from_artifact(path, restore)

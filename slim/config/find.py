"""Finding a configuration: a file of the user's, or one of the built-in recipes by name."""

from __future__ import annotations

from pathlib import Path

from slim.config.suggest import nearest
from slim.errors import ConfigError


def _root() -> Path:
    from slim.resources import configs_root

    return configs_root()


def list_configs(root: Path | None = None) -> dict[str, Path]:
    """Built-in recipes, name (``rec/en_number_demo``) -> file, sorted by name."""
    folder = root or _root()
    files = sorted(folder.glob("*/**/*.yml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def find_config(name_or_path: str | Path, root: Path | None = None) -> Path:
    """A file as it is; else a built-in recipe by its name, its last part, or an unambiguous beginning.

    Raises:
        ConfigError: nothing of that name (with the nearest one), or several.
    """
    path, name = Path(name_or_path), str(name_or_path)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise ConfigError(f"is not a usable path ({error.strerror})", where=f"{name[:60]}...") from error
    known = list_configs(root)
    wanted = name.removesuffix(".yml").removeprefix("configs/")
    if wanted in known:
        return known[wanted]
    tails = [full for full in known if full.rsplit("/", 1)[-1] == wanted]
    found = tails or [full for full in known if wanted and (full.startswith(wanted) or f"/{wanted}" in full)]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise ConfigError(f"{name!r} means {len(found)} recipes", remedy=f"give one of {', '.join(found)}")
    guess = nearest(wanted, [*known, *(full.rsplit("/", 1)[-1] for full in known)])
    remedy = f"did you mean {guess}?" if guess else "slim config list shows the built-in ones"
    raise ConfigError("no such file or built-in recipe", where=name, remedy=remedy)

"""Where the files that travel with the package are: the recipes of configs/."""

from __future__ import annotations

from pathlib import Path

from slim.errors import SlimError

PACKAGE = Path(__file__).resolve().parent


def configs_root() -> Path:
    """The folder with the shipped recipes (cls/, rec/, det/).

    An installed wheel carries them as ``slim/configs``; in a checkout (and so in an editable install) they
    stand beside the package. Raises SlimError when neither folder exists: the installation is incomplete.

    >>> (configs_root() / "cls").name
    'cls'
    """
    places = (PACKAGE / "configs", PACKAGE.parent / "configs")
    for place in places:
        if place.is_dir():
            return place
    raise SlimError(
        f"the shipped recipes are missing, looked in {' and '.join(str(place) for place in places)}",
        remedy="install the package again: pip install --force-reinstall --no-deps paddleocr-slim",
    )

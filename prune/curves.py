"""Curves that were measured before: our ``sensitivity.json``, or PaddleSlim's ``sen.pickle``.

PaddleSlim pickles ``{weight: {ratio: relative loss}}``, its dygraph pruners inside an object of a class of
theirs. It is read by the restricted unpickler: no class is imported and no code of the file runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle.utils import unique_name

from prune.filters import kept_count
from prune.groups import Group
from prune.sensitivity import Point, Sensitivity
from slim.arch import build_net
from slim.artifact import read_json
from slim.checkpoint import read_pickle
from slim.errors import InputError

if TYPE_CHECKING:
    from slim.bundle import Bundle

_STATUS = frozenset({("paddleslim.dygraph.prune.filter_pruner", "Status")})
Losses = dict[str, dict[float, float]]


def read_curves(path: Path, bundle: Bundle, groups: Sequence[Group]) -> Sensitivity:
    """Curves for ``groups`` out of a file; groups it does not name have none.

    Args:
        path: ``*.json``: ours. Anything else: a pickle of PaddleSlim.
        bundle: the model they are for; its net must be the one that was measured.
    Raises:
        InputError: no such file, another format, or a name that is no weight of this net.
        CheckpointError: a pickle that holds anything but plain numbers by name.
    """
    if not path.is_file():
        raise InputError("no such file", where=path, remedy="give a sensitivity.json or a sen.pickle")
    if path.suffix == ".json":
        found = Sensitivity.from_json(read_json(path), where=path)
        unknown = [name for name in found.curves if name not in {g.name for g in groups}]
        if unknown and len(unknown) == len(found.curves):
            raise InputError(f"names no group of this model ({unknown[0]}, ..)", where=path)
        return found
    return from_paddleslim(read_sen_pickle(path), bundle, groups, where=path)


def read_sen_pickle(path: Path) -> Losses:
    """Weight name -> ratio -> relative loss, as PaddleSlim wrote it.

    Raises:
        CheckpointError: a damaged or hostile pickle. InputError: other contents.
    """
    data = read_pickle(path, _STATUS)
    if isinstance(data, dict) and isinstance(data.get("sensitivies"), dict):  # their spelling
        data = data["sensitivies"]
    try:
        losses = {_text(name): {_share(r): _finite(v) for r, v in c.items()} for name, c in data.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"is not a sen.pickle ({error})", where=path, remedy="PaddleSlim writes {weight: {ratio: loss}}"
        ) from error
    if not losses:
        raise InputError("holds no curves", where=path)
    return losses


def from_paddleslim(
    losses: Mapping[str, Mapping[float, float]], bundle: Bundle, groups: Sequence[Group], *, where: Any
) -> Sensitivity:
    """Put PaddleSlim's curves on our groups, by the weight each was measured on.

    A name is a layer path, or the one paddle gave the weight (``conv2d_12.w_0``), which counts the layers
    of the net in the order they are built; the net is built once more to see those.

    The file does not hold the baseline, so scores are percent of it.

    Raises:
        InputError: a name that is no weight of this net, or one whose channels make no group.
    """
    layers = _layer_names(bundle)
    making = {m.path: g for g in groups for m in g.producers}
    curves: dict[str, list[Point]] = {}
    for name, curve in losses.items():
        path = layers.get(name)
        if path is None:
            raise InputError(
                f"{name!r} is no weight of this net", where=where, remedy="give the curves of this very net"
            )
        if path not in making:
            raise InputError(
                f"{name!r} is {path}, which makes no group of channels",
                where=where,
                remedy="give the curves of this very net",
            )
        curves[making[path].name] = _points(curve, making[path].size)
    return Sensitivity(100.0, curves, {"source": "paddleslim", "weights": bundle.sha256()})


def _layer_names(bundle: Bundle) -> dict[str, str]:
    """Every name a weight may go by -> path of its layer."""
    with unique_name.guard():
        fresh = build_net(bundle.spec.arch, bundle.spec.classes)
    found = {}
    for path, tensor in fresh.named_parameters():
        layer, _, kind = path.rpartition(".")
        if kind == "weight":
            found.update({tensor.name: layer, path: layer, layer: layer})
    return found


def _points(curve: Mapping[float, float], size: int) -> list[Point]:
    points: dict[int, Point] = {}
    for ratio in sorted(curve):
        kept = kept_count(size, ratio)
        if kept < size:
            points[kept] = Point(kept, 100.0 * (1.0 - curve[ratio]), curve[ratio], 0.0)
    return list(points.values())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a weight's name is {value!r}")
    return value


def _share(value: Any) -> float:
    ratio = _finite(value)
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"a ratio is {ratio:g}, must lie between 0 and 1")
    return ratio


def _finite(value: Any) -> float:
    number = float(value)
    if isinstance(value, str) or not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number

"""Putting a checkpoint into a net: every key must fit, and what does not is listed whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slim.errors import CheckpointError

if TYPE_CHECKING:
    from paddle import nn

# Names that only other generations of PP-OCR models have.
_GENERATIONS = (
    (("Student.", "Student2.", "Teacher."), "a distillation checkpoint (PP-OCR v2.1 or later)"),
    (("backbone.blocks2.0.dw_conv.conv_kxk", "backbone.conv1.conv_kxk"), "a PP-OCRv4 checkpoint (PPLCNetV3)"),
    (("neck.ins_conv.", "neck.inp_conv."), "a PP-OCRv3 or v4 detector (RSEFPN / LKPAN)"),
    (("head.ctc_encoder.", "head.ctc_head.", "head.sar_head."), "a PP-OCRv3 or v4 recognizer (SVTR)"),
    (("backbone.conv1._conv.weight", "backbone.block_list."), "a PP-OCR v2.1 or v3 net (MobileNetV1Enhance)"),
    (("backbone.blocks2.0.dw_conv.conv.weight",), "a PP-LCNet net (PP-OCR v2.1 or later)"),
)
_WRAPPED = ("._fake_quant_", "._act_preprocess.", "._weight_preprocess.", "_quant_dequant", "._out_scale")
_UNWRAPPED = "use the float checkpoint it was made from (slim models), slim run makes a slim model of it"


def generation(names: Mapping[str, Any] | set[str]) -> str | None:
    """The other generation a checkpoint's names belong to, or None.

    >>> generation({"Student.backbone.conv.weight"})
    'a distillation checkpoint (PP-OCR v2.1 or later)'
    """
    for prefixes, meaning in _GENERATIONS:
        if any(name.startswith(prefixes) for name in names):
            return meaning
    return None


def wrapped(names: Mapping[str, Any] | set[str]) -> str | None:
    """What to use instead of a checkpoint that a quantizer wrapped; None when it is a float one.

    The publisher's own ``*_slim_train`` checkpoints are of this kind.

    >>> wrapped({"backbone.conv1.conv.weight"}) is None
    True
    """
    found = any(mark in name for name in names for mark in _WRAPPED)
    return f"this checkpoint is wrapped by a quantizer: {_UNWRAPPED}" if found else None


def _pruned(state: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, npt.NDArray[Any]]) -> bool:
    """The same names, and no tensor larger than the net's."""
    return set(state) == set(wanted) and all(
        state[name].ndim == array.ndim
        and all(a <= b for a, b in zip(state[name].shape, array.shape, strict=True))
        for name, array in wanted.items()
    )


def load_strict(net: nn.Layer, state: Mapping[str, npt.NDArray[Any]], *, where: str | Path) -> None:
    """Copy ``state`` into ``net``; nothing missing, nothing left over, every shape and dtype equal, no NaN.

    Raises:
        CheckpointError: one error that lists every key that does not fit; a checkpoint of another
            PP-OCR generation, or one wrapped by another quantizer, is named as such.
    """
    tensors = net.state_dict()
    wanted = {name: tensor.numpy() for name, tensor in tensors.items()}
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    both = sorted(set(wanted) & set(state))
    shapes = [
        f"{name} {_difference(state[name], wanted[name])}"
        for name in both
        if (state[name].shape, state[name].dtype) != (wanted[name].shape, wanted[name].dtype)
    ]
    if missing or unexpected or shapes:
        raise CheckpointError(
            _mismatch(missing, unexpected, shapes), where=where, remedy=_remedy(state, wanted)
        )
    broken = [name for name in both if not np.isfinite(state[name]).all()]
    if broken:
        raise CheckpointError(
            f"{len(broken)} tensors hold NaN or infinity: {', '.join(broken)}",
            where=where,
            remedy="use a checkpoint from before the training diverged",
        )
    net.set_state_dict(dict(state))


def _difference(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> str:
    """The shapes of two arrays, or their dtypes when the shapes are equal.

    >>> _difference(np.zeros((2, 3)), np.zeros((2, 4)))
    '[2, 3] instead of [2, 4]'
    """
    if found.shape != wanted.shape:
        return f"{list(found.shape)} instead of {list(wanted.shape)}"
    return f"{found.dtype} instead of {wanted.dtype}"


def _mismatch(missing: list[str], unexpected: list[str], shapes: list[str]) -> str:
    parts = [
        f"{len(names)} {what}: {', '.join(names)}"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape or dtype", shapes),
        )
        if names
    ]
    return f"the weights do not fit the net ({'; '.join(parts)})"


def _remedy(state: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, npt.NDArray[Any]]) -> str:
    other = generation(state)
    if other:
        return f"this is {other}: use a PP-OCR v2.0 model"
    instead = wrapped(state)
    if instead:
        return instead
    if _pruned(state, wanted):
        return (
            "this checkpoint was pruned elsewhere, or is of a narrower net: give the config it was trained "
            "with (-c), the folder slim prune wrote, or the checkpoint from before the pruning"
        )
    return "give the config the checkpoint was trained with (-c), or the plan it was pruned with"

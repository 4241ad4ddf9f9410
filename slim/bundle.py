"""A runnable OCR model: net, weights, labels, input and decoding facts, and what was done to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from paddle import nn

from slim import artifact
from slim.arch import build_net
from slim.arch.cuts import apply_cuts
from slim.checkpoint import read_pdparams, write_pdparams
from slim.errors import ArtifactError, CheckpointError
from slim.numerics import state_sha256
from slim.spec import ModelSpec
from slim.strict import load_strict

if TYPE_CHECKING:
    import paddle

WEIGHTS = "model.pdparams"
SPEC = "spec.json"
PLAN = "plan.json"
SCHEME = "scheme.json"
_LSTM_PART = "(weight_ih|weight_hh|bias_ih|bias_hh)"
_LSTM_FLAT = re.compile(rf"(.*\.lstm\.){_LSTM_PART}_l(\d+)(_reverse)?")
_LSTM_CELL = re.compile(rf"(.*\.lstm\.)(\d+)\.cell_(fw|bw)\.{_LSTM_PART}")

Restore = Callable[[nn.Layer, Mapping[str, Any]], nn.Layer]


@dataclass
class Bundle:
    """One model ready to run, train, cut, quantize or export.

    Attributes:
        spec: what it reads and what its classes mean.
        net: the paddle net, in eval mode after loading.
        cuts: pruning plans applied to the net, in order; each is the JSON of a plan with key "cuts".
        scheme: JSON of the quantization scheme, None for a float model.
        source: where the weights came from, for messages and manifests.
    """

    spec: ModelSpec
    net: nn.Layer
    cuts: list[dict[str, Any]] = field(default_factory=list)
    scheme: dict[str, Any] | None = None
    source: str = ""

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Named arrays of the net, float32, names as in a .pdparams file."""
        return {name: tensor.numpy() for name, tensor in self.net.state_dict().items()}

    def sha256(self) -> str:
        """Hash of the weights: equal exactly when every tensor is equal."""
        return state_sha256(self.state())

    def run(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The net in eval mode on float32 N x C x H x W; the inference output as numpy."""
        import paddle

        training = self.net.training
        self.net.eval()
        try:
            with paddle.no_grad():
                out: paddle.Tensor = self.net(paddle.to_tensor(x))
                return np.asarray(out.numpy(), dtype=np.float32)
        finally:
            if training:
                self.net.train()

    def clone(self, restore: Restore | None = None) -> Bundle:
        """An independent copy: same facts, same weights, another net."""
        net = _skeleton(self.spec, self.cuts, self.scheme, restore, self.source)
        net.set_state_dict({k: v.copy() for k, v in self.state().items()})
        net.eval()
        return replace(self, net=net, cuts=list(self.cuts))


def from_checkpoint(spec: ModelSpec, path: Path, *, cuts: list[dict[str, Any]] | None = None) -> Bundle:
    """A float model from a .pdparams file.

    Args:
        spec: the net and its labels; the head width is compared with the checkpoint's first.
        path: the file, or PaddleOCR's prefix of it without ".pdparams".
    Raises:
        CheckpointError: not readable, head width and dictionary disagree, or keys do not fit.
    """
    path = checkpoint_path(path)
    state = complete_lstm_names(read_pdparams(path))
    _check_head(spec, state, path)
    net = _skeleton(spec, cuts or [], None, None, str(path))
    load_strict(net, state, where=path)
    net.eval()
    return Bundle(spec, net, cuts=list(cuts or []), source=str(path))


def from_artifact(folder: Path, restore: Restore | None = None) -> Bundle:
    """Reopen a model written by ``save``; its files are verified against the manifest first.

    Args:
        restore: puts the quantization wrappers of a scheme back onto a float net (``quant`` provides it).
    """
    files = artifact.verify(folder).files
    for name in (WEIGHTS, SPEC):
        if name not in files:
            raise ArtifactError(
                f"the manifest lists no {name}", where=folder, remedy="give a folder of train, prune or quant"
            )
    spec = ModelSpec.from_json(artifact.read_json(folder / SPEC), where=str(folder / SPEC))
    # Only files the manifest vouches for: a plan.json laid beside the model changes nothing.
    plans = _plans(folder / PLAN) if PLAN in files else []
    scheme = artifact.read_json(folder / SCHEME) if SCHEME in files else None
    net = _skeleton(spec, plans, scheme, restore, str(folder))
    load_strict(net, complete_lstm_names(read_pdparams(folder / WEIGHTS)), where=folder / WEIGHTS)
    net.eval()
    return Bundle(spec, net, cuts=plans, scheme=scheme, source=str(folder))


def _plans(path: Path) -> list[dict[str, Any]]:
    plans = artifact.read_json(path).get("plans")
    if not isinstance(plans, list) or not all(
        isinstance(plan, dict) and isinstance(plan.get("cuts"), dict) for plan in plans
    ):
        raise ArtifactError(
            "is not a list of plans, each with 'cuts'", where=path, remedy="write the artifact again"
        )
    return plans


def save(bundle: Bundle, folder: Path) -> None:
    """Write weights, spec, plans and scheme into ``folder`` (seal it afterwards)."""
    write_pdparams(bundle.state(), folder / WEIGHTS)
    artifact.write_json(folder / SPEC, bundle.spec.to_json())
    if bundle.cuts:
        artifact.write_json(folder / PLAN, {"plans": bundle.cuts})
    if bundle.scheme is not None:
        artifact.write_json(folder / SCHEME, bundle.scheme)


def checkpoint_path(path: Path) -> Path:
    """PaddleOCR users name checkpoints without the extension: accept both."""
    if path.suffix == ".pdparams" or not path.with_name(path.name + ".pdparams").is_file():
        return path
    return path.with_name(path.name + ".pdparams")


def complete_lstm_names(state: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """nn.LSTM lists each tensor under two names; a checkpoint may hold either or both.

    ``weight_ih_l0_reverse`` and ``0.cell_bw.weight_ih`` are the same tensor: the absent one is filled in.

    Raises:
        CheckpointError: both are there and differ.
    """
    done = dict(state)
    for name, value in state.items():
        twin = _lstm_twin(name)
        if twin is None:
            continue
        if twin not in done:
            done[twin] = value
        elif not np.array_equal(done[twin], value, equal_nan=True):
            raise CheckpointError(
                f"{name} and {twin} are one tensor and hold different numbers",
                remedy="save the checkpoint again with paddle.save",
            )
    return done


def _lstm_twin(name: str) -> str | None:
    """The other name of an LSTM tensor, None for any other tensor.

    >>> _lstm_twin("neck.encoder.lstm.weight_ih_l0_reverse")
    'neck.encoder.lstm.0.cell_bw.weight_ih'
    """
    flat = _LSTM_FLAT.fullmatch(name)
    if flat:
        head, part, layer, reverse = flat.groups()
        return f"{head}{layer}.cell_{'bw' if reverse else 'fw'}.{part}"
    cell = _LSTM_CELL.fullmatch(name)
    if cell:
        head, layer, direction, part = cell.groups()
        return f"{head}{part}_l{layer}{'_reverse' if direction == 'bw' else ''}"
    return None


# What Python and Paddle raise for a stranger's description with a list for a mapping, or a size of billions.
_MISSHAPEN = (
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)


def _skeleton(
    spec: ModelSpec,
    plans: list[dict[str, Any]],
    scheme: Mapping[str, Any] | None,
    restore: Restore | None,
    where: str,
) -> nn.Layer:
    if scheme is not None and restore is None:
        raise ArtifactError("is a quantized model, which this command cannot reopen", where=where)
    try:
        net: nn.Layer = build_net(spec.arch, spec.classes)
        for plan in plans:
            apply_cuts(net, plan["cuts"])
        return net if scheme is None or restore is None else restore(net, scheme)
    except _MISSHAPEN as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ArtifactError(f"describes no net that can be built ({lines[-1]})", where=where) from error


def head_width(state: Mapping[str, npt.NDArray[Any]]) -> int | None:
    """Classes of a checkpoint: columns of its last linear layer; None for a detector.

    >>> head_width({"head.fc.weight": np.zeros((96, 97), "float32")})
    97
    """
    for name in ("head.fc2.weight", "head.fc.weight"):
        if name in state and state[name].ndim == 2:
            return int(state[name].shape[1])
    return None


def _check_head(spec: ModelSpec, state: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    width = head_width(state)
    if spec.kind == "det" or width is None or width == spec.classes:
        return
    meaning, key = "label_list", "label_list"
    if spec.kind == "rec":
        meaning, key = "dictionary + space + blank", "character_dict_path and use_space_char"
    raise CheckpointError(
        f"the head has {width} classes, but {meaning} gives {spec.classes}",
        where=path,
        remedy=f"set Global.{key} to those of the training, or give a {spec.kind} model",
    )

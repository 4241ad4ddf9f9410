"""Checkpoints of a run: three files that belong together, whenever the process is killed.

``latest.pdparams`` (weights), ``latest.pdopt`` (the optimizer's memory) and ``latest.states`` (step,
metric, identity of the run, and the sha256 of the other two). A new set is first written beside the old
one as ``latest.next.*``, the ``.states`` last, and then renamed file by file. Killed before its ``.states``
exists, the old set is untouched; killed while renaming, every file of the new set is at one of its two
names, where ``read`` finds it by its hash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt

from slim.checkpoint import read_pickle, write_pdparams, write_pickle
from slim.errors import CheckpointError, InputError
from slim.numerics import file_sha256

Arrays = dict[str, npt.NDArray[Any]]

LATEST = "latest"
BEST = "best_accuracy"
FORMAT = 1
_NEXT = ".next"
_HASHED = ("pdparams", "pdopt")


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: optimizer steps made.
        best_metric: main indicator of the best evaluation, None before the first.
        best_step: its step.
        scored_step: step of the last evaluation.
        last_loss: loss of the last step.
        history: logged steps and evaluations.
    """

    step: int = 0
    best_metric: float | None = None
    best_step: int | None = None
    scored_step: int | None = None
    last_loss: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Saved:
    """One consistent set read back."""

    weights: Arrays
    optimizer: Arrays
    progress: Progress


class Checkpoints:
    """The sets of one run in one folder.

    Args:
        folder: made when it is absent.
        identity: what must be equal for a resume, by name: recipe, data, seed, ...: hashes or values.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self._identity = dict(identity)

    def path(self, name: str) -> Path:
        """The weights of set ``name`` ("latest" or "best_accuracy")."""
        return self.folder / f"{name}.pdparams"

    def prepare(self) -> None:
        """Make the folder and try to write there: better now than after the first hours.

        Raises:
            InputError: it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, name: str, weights: Arrays, optimizer: Arrays, progress: Progress) -> None:
        """Write set ``name`` so that it or the one before can be read at any moment.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            self._settle(name)
            write_pdparams(weights, self._file(name + _NEXT, "pdparams"))
            write_pdparams(optimizer, self._file(name + _NEXT, "pdopt"))
            hashes = {kind: file_sha256(self._file(name + _NEXT, kind)) for kind in _HASHED}
            states = {
                "format": FORMAT,
                **progress.__dict__,
                # One text: the reader of pickles bounds how many entries it takes from a file.
                "history": json.dumps(progress.history),
                "identity": self._identity,
                "files": hashes,
            }
            write_pickle(states, self._file(name + _NEXT, "states"))
            self._promote(name)
        except OSError as error:
            raise self._unwritable(error) from error

    def read(self, name: str) -> Saved | None:
        """The newest consistent set ``name``; None when there is none at all.

        Raises:
            CheckpointError: files are there but damaged or do not belong together, or the set is of
                another run (which part differs is said).
        """
        self._settle(name)
        states_file = self._file(name, "states")
        if not states_file.is_file():
            return None
        states = _states(states_file)
        self._judge_identity(states["identity"], states_file)
        for kind in _HASHED:
            path = self._file(name, kind)
            if not path.is_file() or file_sha256(path) != states["files"].get(kind):
                raise CheckpointError(
                    f"does not belong to {states_file.name} (missing or sha256 differs)",
                    where=path,
                    remedy=f"remove {self.folder} to start anew",
                )
        weights, optimizer = (_arrays(self._file(name, kind)) for kind in _HASHED)
        return Saved(weights, optimizer, _progress(states, states_file))

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"cannot write checkpoints here ({error.strerror})",
            where=self.folder,
            remedy="choose another folder or free some space",
        )

    def _file(self, name: str, kind: str) -> Path:
        return self.folder / f"{name}.{kind}"

    def _settle(self, name: str) -> None:
        """Finish a renaming that was cut off; clear away what a killed process left half written."""
        for stray in self.folder.glob(f"{name}{_NEXT}.*.tmp-*"):
            stray.unlink(missing_ok=True)
        upcoming = self._file(name + _NEXT, "states")
        if not upcoming.is_file():
            return
        hashes = _states(upcoming)["files"]
        for kind in _HASHED:
            here, there = self._file(name, kind), self._file(name + _NEXT, kind)
            at = there if there.is_file() else here
            if not at.is_file() or file_sha256(at) != hashes.get(kind):
                raise CheckpointError(
                    f"does not belong to {upcoming.name} (missing or sha256 differs)",
                    where=at,
                    remedy=f"remove {upcoming.name} to fall back to {name}.states",
                )
        self._promote(name)

    def _promote(self, name: str) -> None:
        for kind in (*_HASHED, "states"):
            upcoming = self._file(name + _NEXT, kind)
            if upcoming.is_file():
                os.replace(upcoming, self._file(name, kind))

    def _judge_identity(self, found: Any, path: Path) -> None:
        if found == self._identity:
            return
        known = found if isinstance(found, dict) else {}
        parts = [key for key in self._identity if known.get(key) != self._identity[key]]
        raise CheckpointError(
            f"is a checkpoint of another run (differs in: {', '.join(parts) or 'unknown parts'})",
            where=path,
            remedy="run it with the recipe, data and seed it was started with, "
            f"or remove {path.parent} to start anew",
        )


def _states(path: Path) -> dict[str, Any]:
    data = read_pickle(path)
    wanted = {"format", "identity", "files", *Progress.__dataclass_fields__}
    if not isinstance(data, dict) or data.get("format") != FORMAT or not wanted <= set(data):
        raise CheckpointError(
            "is not the .states file of a run of this toolkit",
            where=path,
            remedy="start from the weights with Global.pretrained_model and another --out",
        )
    if not isinstance(data["files"], dict):
        raise CheckpointError("is damaged (files)", where=path, remedy="remove the folder to start anew")
    return data


def _progress(states: Mapping[str, Any], path: Path) -> Progress:
    values = {key: states[key] for key in Progress.__dataclass_fields__}
    try:
        values["history"] = json.loads(values["history"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"is damaged (history: {error})", where=path) from error
    if not isinstance(values["step"], int) or not isinstance(values["history"], list):
        raise CheckpointError("is damaged (step)", where=path, remedy="remove the folder to start anew")
    return Progress(**values)


def _arrays(path: Path) -> Arrays:
    """Named arrays; none at all is fine (sgd remembers nothing)."""
    data = read_pickle(path)
    if not isinstance(data, dict) or not all(isinstance(value, np.ndarray) for value in data.values()):
        raise CheckpointError("does not hold named arrays", where=path)
    return data

"""Every error a user can meet, and the exit code it ends the process with.

The tree::

    SlimError                 4   something of ours went wrong
    +-- GateFailed            1   a check was made and its bound was missed
    +-- UsageError            2   the command line asks for something that cannot be
    |   +-- ConfigError       2   a configuration file or an -o override
    |   +-- InputError        2   a file the user gave: labels, images, dictionaries, folders
    |       +-- CheckpointError   2   a .pdparams / .pdopt / .states file
    |       +-- ArtifactError     2   a folder written by one of our stages
    |       +-- NbFormatError     2   a Paddle-Lite .nb file
    |       +-- UnsupportedModel  2   a net, op or layer that a stage cannot handle
    +-- ToolMissing           3   a program or package that a stage needs is not installed
    +-- StageFailed           4   a stage started and could not finish
        +-- Diverged          4   training met NaN, infinity or a collapsed metric
        +-- OptFailed         4   Paddle-Lite's opt crashed, timed out or wrote nothing
"""

from __future__ import annotations

from pathlib import Path


class SlimError(Exception):
    """One line for the user: what went wrong, where, and the remedy.

    Args:
        what: the fact, with the value found and the limit it broke.
        where: the file, key or layer the fact is about.
        remedy: what the user can do about it.

    >>> str(InputError("label file is empty", where="labels.txt", remedy="write one line per image"))
    'labels.txt: label file is empty; write one line per image'
    """

    exit_code = 4

    def __init__(self, what: str, *, where: str | Path | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        super().__init__(self._line())

    def _line(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        text = f"{head}; {self.remedy}" if self.remedy else head
        return " ".join(text.split())


class GateFailed(SlimError):
    """A check ran to its end and its bound was missed."""

    exit_code = 1


class UsageError(SlimError):
    """The request itself cannot be carried out."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or override is wrong."""


class InputError(UsageError):
    """A file or folder the user gave is wrong."""


class CheckpointError(InputError):
    """A checkpoint cannot be read, or does not fit the net."""


class ArtifactError(InputError):
    """A stage's output folder is incomplete, altered or not one of ours."""


class NbFormatError(InputError):
    """A Paddle-Lite file is truncated, damaged or of another version."""


class UnsupportedModel(InputError):
    """A net, layer or operator that a stage cannot handle."""


class ToolMissing(SlimError):
    """A program or package that a stage needs is not installed or does not run here."""

    exit_code = 3


class StageFailed(SlimError):
    """A stage started and could not finish."""

    exit_code = 4


class Diverged(StageFailed):
    """Training met NaN, infinity or a collapsed metric."""


class OptFailed(StageFailed):
    """Paddle-Lite's opt crashed, ran out of time or wrote nothing."""

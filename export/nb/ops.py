"""The table of operators: what each op of an ARM file does to named arrays.

A *builder* looks at one op once (kernel, attributes, weights) and returns a *step*, a function that reads
its inputs from the environment and writes its outputs. Builders register themselves by op type, so a new
operator is a new function, and an unknown one is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from export.nb.device_math import ARM, Math
from export.nb.model import AttrValue, Kernel, Op
from slim.errors import UnsupportedModel

Env = dict[str, np.ndarray]
Step = Callable[[Env], None]
Builder = Callable[["Site"], Step]

BUILDERS: dict[str, Builder] = {}

# What one tensor may hold, 2 GiB as float32; PP-OCR nets stay far below on images of any scanner.
MAX_ELEMENTS = 1 << 29


def handles(*types: str) -> Callable[[Builder], Builder]:
    """Register a builder for op types."""

    def register(builder: Builder) -> Builder:
        for kind in types:
            BUILDERS[kind] = builder
        return builder

    return register


@dataclass(frozen=True)
class Site:
    """One op at its place in the program, with the parameters of the file."""

    index: int
    op: Op
    params: dict[str, np.ndarray]
    math: Math = ARM

    @property
    def where(self) -> str:
        return f"op {self.index} {self.op.type}"

    @property
    def kernel(self) -> Kernel:
        kernel = self.op.kernel
        if kernel is None:
            raise UnsupportedModel(
                "the op carries no kernel", where=self.where, remedy="convert with opt 2.13"
            )
        return kernel

    @property
    def is_int8(self) -> bool:
        return self.kernel.precision == "int8"

    def unsupported(self, what: str) -> UnsupportedModel:
        return UnsupportedModel(what, where=self.where)

    def input(self, name: str) -> str:
        """The one argument of an input that must be there."""
        arguments = self.op.inputs.get(name, ())
        if len(arguments) != 1:
            raise self.unsupported(f"input {name} has {len(arguments)} arguments, 1 expected")
        return arguments[0]

    def optional(self, name: str) -> str | None:
        """The first argument of an input, or None."""
        arguments = self.op.inputs.get(name, ())
        return arguments[0] if arguments else None

    def inputs(self, name: str) -> tuple[str, ...]:
        return self.op.inputs.get(name, ())

    def output(self, name: str) -> str:
        arguments = self.op.outputs.get(name, ())
        if len(arguments) != 1:
            raise self.unsupported(f"output {name} has {len(arguments)} arguments, 1 expected")
        return arguments[0]

    def param(self, name: str) -> np.ndarray:
        """The parameter behind an input."""
        argument = self.input(name)
        if argument not in self.params:
            raise self.unsupported(f"{name} {argument!r} is no parameter of the file")
        return self.params[argument]

    def attr(self, name: str, default: AttrValue | None = None) -> AttrValue:
        value = self.op.attr(name, default)
        if value is None:
            raise self.unsupported(f"attribute {name} is missing")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.attr(name, default)
        if not isinstance(value, (int, float)):
            raise self.unsupported(f"attribute {name} is no number")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        return int(self.number(name, default))

    def text(self, name: str, default: str | None = None) -> str:
        value = self.attr(name, default)
        if not isinstance(value, str):
            raise self.unsupported(f"attribute {name} is no text")
        return value

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> list[int]:
        value = self.attr(name, default)
        if not isinstance(value, tuple):
            raise self.unsupported(f"attribute {name} is no list")
        return [int(v) for v in value]

    def scales(self, name: str) -> np.ndarray:
        """A list of scales as float32; all must be positive and finite."""
        value = self.attr(name)
        scales = np.atleast_1d(np.asarray(value, np.float32))
        if scales.ndim != 1 or not scales.size or not np.all((scales > 0) & np.isfinite(scales)):
            raise self.unsupported(f"{name} holds a scale that is not positive and finite")
        return scales

    def scale(self, name: str) -> np.float32:
        return np.float32(self.scales(name)[0])

    def check_size(self, shape: tuple[int, ...] | list[int]) -> None:
        """Refuse tensors that no OCR model has, before they are reserved."""
        elements = 1
        for extent in shape:
            if extent < 0:
                raise self.unsupported(f"shape {list(shape)} is negative")
            elements *= extent
        if elements > MAX_ELEMENTS:
            raise self.unsupported(f"a tensor of shape {list(shape)} has more than {MAX_ELEMENTS} elements")

"""How an activation's clip is chosen from the values seen in calibration, by name.

Each calibrator reads the float values of one tensor, batch by batch, and answers one number: the
clip, i.e. the absolute value that becomes 127 at 8 bits. A scale in Paddle's programs is this clip;
the step of Paddle-Lite is clip / 127.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from slim.errors import ConfigError

Values = npt.NDArray[np.float32]
MOVING_AVERAGE = "moving_average"


class Calibrator(Protocol):
    """Collects the values of one tensor."""

    def update(self, values: Values) -> None:
        """Take in one batch; any shape, float32."""

    def clip(self) -> float:
        """The clip so far, in the tensor's own unit; 0.0 before the first batch."""


@dataclass
class MovingAverage:
    """Moving average of each batch's absolute maximum: what QAT's observers compute.

    state = rate * state + 1, accum = rate * accum + max|x|, clip = accum / state
    (source: Paddle's op fake_quantize_dequantize_moving_average_abs_max). Paddle starts both at 1,
    which pulls early clips towards 1; here both start at 0, so that they come from data only.

    >>> seen = MovingAverage(rate=0.9)
    >>> seen.update(np.array([1.0, -0.5], np.float32)); seen.update(np.array([-3.0], np.float32))
    >>> round(seen.clip(), 4)  # (0.9 * 1 + 3) / (0.9 + 1)
    2.0526
    """

    rate: float
    state: float = 0.0
    accum: float = 0.0

    def update(self, values: Values) -> None:
        self.state = self.rate * self.state + 1.0
        self.accum = self.rate * self.accum + _largest(values)

    def clip(self) -> float:
        return self.accum / self.state if self.state else 0.0


@dataclass
class AbsMax:
    """The largest absolute value of all batches: nothing seen in calibration is clipped.

    >>> seen = AbsMax()
    >>> seen.update(np.array([1.0, -4.0], np.float32)); seen.update(np.array([2.0], np.float32))
    >>> seen.clip()
    4.0
    """

    largest: float = 0.0

    def update(self, values: Values) -> None:
        # np.maximum, not max(): a NaN must stay visible.
        self.largest = float(np.maximum(self.largest, _largest(values)))

    def clip(self) -> float:
        return self.largest


@dataclass
class Percentile:
    """Mean over the batches of a high percentile of |x|: rare outliers do not widen the range.

    The percentile is the value at position ceil(share * n) of the n sorted absolute values
    (nearest rank, no interpolation).

    >>> seen = Percentile(share=0.75)
    >>> seen.update(np.array([1, -2, 3, 100], np.float32))
    >>> seen.clip()
    3.0
    """

    share: float = 0.9999
    total: float = 0.0
    batches: int = field(default=0)

    def update(self, values: Values) -> None:
        flat = np.abs(values).ravel()
        rank = min(flat.size - 1, max(0, int(np.ceil(self.share * flat.size)) - 1))
        self.total += float(np.partition(flat, rank)[rank])
        self.batches += 1

    def clip(self) -> float:
        return self.total / self.batches if self.batches else 0.0


def _largest(values: Values) -> float:
    return float(np.max(np.abs(values)))


# name -> builder; the argument is the moving rate, which only some use.
CALIBRATORS: dict[str, Callable[[float], Calibrator]] = {
    MOVING_AVERAGE: lambda rate: MovingAverage(rate),
    "absmax": lambda rate: AbsMax(),
    "percentile": lambda rate: Percentile(),
}


def build(name: str, rate: float) -> Calibrator:
    """A fresh calibrator; raises ConfigError listing the known names.

    >>> build("absmax", 0.9).clip()
    0.0
    """
    if name not in CALIBRATORS:
        raise ConfigError(
            f"calibrator {name!r} is not known", where="Quant.algo", remedy=f"use {', '.join(CALIBRATORS)}"
        )
    return CALIBRATORS[name](rate)

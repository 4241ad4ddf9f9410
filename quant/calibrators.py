"""How an activation's clip is chosen from the values seen in calibration, by name.

Each calibrator reads the float values of one tensor, batch by batch, and answers one number: the
clip, i.e. the absolute value that becomes 127 at 8 bits. A scale in Paddle's programs is this clip;
the step of Paddle-Lite is clip / 127. "auto" is no calibrator of its own: it runs the others and lets each
layer's output error choose (quant/auto.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quant.histogram import Histogram, coarsened, kl_clip, mse_clip, share_clip
from slim.errors import ConfigError

Values = npt.NDArray[np.float32]
MOVING_AVERAGE = "moving_average"
AUTO = "auto"


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


@dataclass
class Histogrammed:
    """A clip read off the histogram of all values seen (`quant.histogram`), never above the largest.

    Attributes:
        rule: the clip of a histogram that holds at least one value above zero.
        seen: the histogram; several calibrators of one tensor may share it.

    >>> one = Histogrammed(hist)
    >>> one.update(np.array([1.0, -4.0], np.float32)); one.clip()
    4.0
    """

    rule: Callable[[Histogram], float]
    seen: Histogram = field(default_factory=Histogram)

    def update(self, values: Values) -> None:
        self.seen.update(values)

    def clip(self) -> float:
        if not np.isfinite(self.seen.largest) or self.seen.largest == 0.0:
            return self.seen.largest
        return min(self.rule(self.seen), self.seen.largest)


def hist(seen: Histogram, share: float = 0.9999) -> float:
    """`quant.histogram.share_clip` of everything seen."""
    return share_clip(seen.used(), seen.width, seen.zeros, share)


def mse(seen: Histogram, bits: int = 8) -> float:
    """`quant.histogram.mse_clip` for ``bits``."""
    return mse_clip(seen.used(), seen.width, seen.largest, 2 ** (bits - 1) - 1)


def kl(seen: Histogram, bits: int = 8) -> float:
    """`quant.histogram.kl_clip` for the levels of |x| at ``bits`` (128 at 8: zero and 127 steps).

    Exact zeros count as values of the first bin. Without them the clips follow the tail alone: on 6,000
    lines the classifier lost 1.6 points instead of the 0.6 of Paddle's own rule (`benchmarks/ptq.py`).
    """
    levels = 2 ** (bits - 1)
    counts, width = coarsened(seen.used(), seen.width, levels)
    counts = np.append(counts[0] + seen.zeros, counts[1:])
    return kl_clip(counts, width, levels)


def _largest(values: Values) -> float:
    return float(np.max(np.abs(values)))


# name -> builder from the moving rate and the bits, each of which only some use.
CALIBRATORS: dict[str, Callable[[float, int], Calibrator]] = {
    "absmax": lambda rate, bits: AbsMax(),
    MOVING_AVERAGE: lambda rate, bits: MovingAverage(rate),
    "percentile": lambda rate, bits: Percentile(),
    "hist": lambda rate, bits: Histogrammed(hist),
    "mse": lambda rate, bits: Histogrammed(partial(mse, bits=bits)),
    "kl": lambda rate, bits: Histogrammed(partial(kl, bits=bits)),
}


def build(name: str, rate: float, bits: int = 8) -> Calibrator:
    """A fresh calibrator for an activation of ``bits``; raises ConfigError listing the known names.

    >>> build("absmax", 0.9).clip()
    0.0
    """
    if name not in CALIBRATORS:
        raise ConfigError(
            f"calibrator {name!r} is not known",
            where="Quant.algo",
            remedy=f"use {', '.join((*CALIBRATORS, AUTO))}",
        )
    return CALIBRATORS[name](rate, bits)


def build_all(rate: float, bits: int = 8) -> dict[str, Calibrator]:
    """One of each by name; those that need a histogram share one, so feed them with `update_all`.

    >>> sorted(build_all(0.9))
    ['absmax', 'hist', 'kl', 'moving_average', 'mse', 'percentile']
    """
    several = {name: build(name, rate, bits) for name in CALIBRATORS}
    shared = Histogram()
    for one in several.values():
        if isinstance(one, Histogrammed):
            one.seen = shared
    return several


def update_all(several: Mapping[str, Calibrator], values: Values) -> None:
    """One batch into each calibrator, and once into a histogram that they share."""
    fed: list[Histogram] = []
    for one in several.values():
        if isinstance(one, Histogrammed):
            if any(one.seen is histogram for histogram in fed):
                continue
            fed.append(one.seen)
        one.update(values)

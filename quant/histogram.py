"""A streaming histogram of |x|, and the clips that are read off one: by share, by error, by entropy.

Memory is fixed and one pass over the images is enough: when a value lies outside, the range doubles
and neighbouring bins are merged. Exact zeros are counted apart, since every grid holds zero exactly
(behind a ReLU they are most of the values and say nothing about where to clip).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

BINS = 4096
# A range below this is widened to it: the index of a bin is computed in float32.
_LEAST_RANGE = 1e-30
_MSE_CANDIDATES = 128
# KL: bins are merged in pairs while fewer values than this fall into one on average, down to this many
# bins for each level. Squeeze-and-excite inputs are one value per channel and image: 4096 bins of them
# are gaps, which entropy takes for structure. Never more than 16 bins for each level, as Paddle's 2048.
_LEAST_PER_BIN = 16
_LEAST_BINS_PER_LEVEL = 4
_MOST_BINS_PER_LEVEL = 16

Counts = npt.NDArray[np.int64]


@dataclass
class Histogram:
    """Counts of |x| in ``bins`` equal bins of [0, range).

    Attributes:
        bins: a power of two.
        counts: int64, bins; values that are not exactly zero.
        range: upper edge of the last bin, in the tensor's own unit; 0.0 before the first value.
        largest: largest |x|; NaN or infinite as soon as one value is, and then it stays so.
        zeros: values that are exactly zero.

    >>> seen = Histogram(bins=4)
    >>> seen.update(np.array([0.0, 0.5, -4.0], np.float32)); seen.counts.tolist(), seen.range
    ([1, 0, 0, 1], 4.0)
    >>> seen.update(np.array([5.0], np.float32)); seen.counts.tolist(), seen.range, seen.zeros
    ([1, 1, 1, 0], 8.0, 1)
    """

    bins: int = BINS
    counts: Counts = field(init=False)
    range: float = 0.0
    largest: float = 0.0
    zeros: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.bins, np.int64)

    @property
    def width(self) -> float:
        """Width of one bin."""
        return self.range / self.bins

    def update(self, values: npt.NDArray[np.float32]) -> None:
        """Take in one batch; any shape, float32."""
        flat = np.abs(values).ravel()
        top = float(flat.max())
        self.largest = float(np.maximum(self.largest, top))
        if not math.isfinite(self.largest):
            return
        nonzero = int(np.count_nonzero(flat))
        self.zeros += flat.size - nonzero
        if nonzero == 0:
            return
        self._widen(top)
        flat *= np.float32(self.bins / self.range)
        # A value on the upper edge of the range belongs to the last bin.
        number = np.minimum(flat, self.bins - 1).astype(np.int64)
        self.counts += np.bincount(number, minlength=self.bins)
        self.counts[0] -= flat.size - nonzero

    def used(self) -> Counts:
        """The counts up to the bin of the largest value."""
        last = int(np.flatnonzero(self.counts)[-1]) if self.counts.any() else -1
        return self.counts[: last + 1]

    def _widen(self, top: float) -> None:
        if self.range == 0.0:
            self.range = max(top, _LEAST_RANGE)
        if top <= self.range:
            return
        doublings = math.ceil(math.log2(top / self.range))
        self.range *= 2.0**doublings
        factor = min(2**doublings, self.bins)
        merged = self.counts.reshape(-1, factor).sum(axis=1)
        self.counts = np.zeros(self.bins, np.int64)
        self.counts[: len(merged)] = merged


def share_clip(counts: Counts, width: float, zeros: int, share: float) -> float:
    """The upper edge of the first bin at or below which ``share`` of all values lie, zeros included.

    Source: percentile calibration (Wu et al. 2020, "Integer quantization for deep learning inference",
    arXiv 2004.09602, section 4), over all images at once.

    >>> share_clip(np.array([6, 2, 1, 1]), 0.5, 0, share=0.9)  # 9 of 10 values lie in the first 3 bins
    1.5
    """
    running = np.cumsum(counts) + zeros
    return float((np.searchsorted(running, share * running[-1]) + 1) * width)


def mse_clip(counts: Counts, width: float, largest: float, steps: int) -> float:
    """The clip with the least mean squared error of rounding and clipping, on the histogram.

    Candidates are k/128 of ``largest``, k = 1 .. 128; each bin stands for its middle m:
    error(c) = sum over bins of n * (m - min(round(m / s), steps) * s)**2 with s = c / steps.
    Source: range setting by mean squared error, Nagel et al. 2021, "A white paper on neural network
    quantization", arXiv 2106.08295, equation 12. Shapes: counts is B; the search is one 128 x B array.

    Args:
        steps: steps above zero, 127 at 8 bits.

    >>> # one step only: 100 values at 1.5 and one at 7.5. A clip of 8 rounds the hundred to 0 and costs
    >>> # 100 * 1.5**2 + 0.25 = 225.25; 1.5 costs (7.5 - 1.5)**2 = 36; 25/128 of 8 costs 0.39 + 35.25.
    >>> mse_clip(np.array([0, 100, 0, 0, 0, 0, 0, 1]), 1.0, largest=8.0, steps=1)
    1.5625
    """
    filled = np.flatnonzero(counts)
    middle, weight = (filled + 0.5) * width, counts[filled].astype(np.float64)
    clips = largest * np.arange(1, _MSE_CANDIDATES + 1) / _MSE_CANDIDATES
    step = clips[:, None] / steps
    rounded = np.minimum(np.round(middle / step), steps) * step
    return float(clips[np.argmin(np.square(middle - rounded) @ weight)])


def kl_clip(counts: Counts, width: float, levels: int) -> float:
    """The clip i * width whose quantized distribution loses the least information.

    For each threshold i (bins kept): P = the first i counts, with all counts above added to the last
    one; Q = the first i counts (without those) put into ``levels`` equal groups of bins, each group's
    sum spread evenly over its bins that are not empty. Taken is the least KL(P || Q), both normalised.
    A threshold whose last bin is empty is no candidate: P would hold what Q cannot. Nor is one below half
    of the range: entropy counts what is cut off as little as what is kept, and a net with rare large values
    loses more by that than by coarse steps.
    Sources: Migacz 2017, "8-bit inference with TensorRT", GTC, pages 34 to 39; the half of the range:
    cal_kl_threshold in Paddle's python/paddle/static/quantization.

    All thresholds at once: with running sums over the bins, group j of threshold i covers the bins
    from i*j//levels to i*(j+1)//levels, and sum(P log Q) needs only each group's sum and its number of
    bins that are not empty. Shapes: counts is B; the arrays are (B - levels + 1) x levels.

    >>> # two levels; of the thresholds 4 to 8 only the last does not end in an empty bin: groups
    >>> # (8+8 over two bins) and (1), P = Q exactly.
    >>> kl_clip(np.array([8, 8, 0, 0, 0, 0, 0, 1]), 0.5, levels=2)
    4.0
    """
    bins = len(counts)
    if bins <= levels:
        return bins * width
    kept = np.arange(max(levels, bins // 2), bins + 1)
    kept = kept[counts[kept - 1] > 0]
    return float(kept[np.argmin(_divergence(counts, kept, levels))] * width)


def coarsened(counts: Counts, width: float, levels: int) -> tuple[Counts, float]:
    """Bins merged in pairs: to 16 a level at most, on until they hold 16 values on average or are 4 a level.

    >>> coarsened(np.array([1, 0, 2, 0, 0, 3, 1, 0, 4]), 1.0, levels=1)  # 11 values in 9 bins
    (array([1, 2, 3, 1, 4]), 2.0)
    """
    total = int(counts.sum())
    while len(counts) > _MOST_BINS_PER_LEVEL * levels or (
        total < _LEAST_PER_BIN * len(counts) and len(counts) // 2 >= _LEAST_BINS_PER_LEVEL * levels
    ):
        counts = np.append(counts, np.zeros(len(counts) % 2, np.int64)).reshape(-1, 2).sum(axis=1)
        width *= 2.0
    return counts, width


def _divergence(counts: Counts, kept: npt.NDArray[np.int64], levels: int) -> npt.NDArray[np.float64]:
    """KL(P || Q) in nats for each number of kept bins."""
    below = np.append(0, np.cumsum(counts)).astype(np.float64)
    filled = np.append(0, np.cumsum(counts > 0))
    own = np.append(0.0, np.cumsum(_x_log_x(counts)))
    edges = kept[:, None] * np.arange(levels + 1) // levels
    sums, full = np.diff(below[edges], axis=1), np.diff(filled[edges], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.where(sums > 0, np.log(sums / full), 0.0)
    outside = below[-1] - below[kept]
    last = counts[kept - 1]
    p_log_p = own[kept - 1] + _x_log_x(last + outside)
    p_log_q = (sums * log_q).sum(axis=1) + outside * log_q[:, -1]
    result: npt.NDArray[np.float64] = (p_log_p - p_log_q) / below[-1] + np.log(below[kept] / below[-1])
    return result


def _x_log_x(values: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    return numbers * np.log(np.maximum(numbers, 1.0))

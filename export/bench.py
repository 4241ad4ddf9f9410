"""Latency of runtimes side by side: median and 90th percentile after warm-up, one input at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from export.runtimes.base import Runtime

WARM_UP = 5
RUNS = 40
NOT_A_PHONE = (
    "times are of this PC's processor and compare the files with each other here; they are not a phone's"
)
EXECUTOR = (
    "ARM files run in the executor, which computes what a phone computes and says nothing of how fast it does"
)
BURST = 5
"""Runs in a row before the next file's turn: caches are warm again after the first, which is not counted."""

Burst = Callable[[int], list[float]]
"""Run so many times in a row, give the seconds of each."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds inside the engine (without the pipe to a worker), over ``runs`` runs of one input.

    ``best_ms`` is the fastest run: of all it says most about the file and least about other load.
    """

    p50_ms: float
    p90_ms: float
    runs: int
    best_ms: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def latencies(
    runtimes: Mapping[str, Runtime], x: np.ndarray, *, warm_up: int = WARM_UP, runs: int = RUNS
) -> dict[str, Latency]:
    """Run ``x`` (float32, 1 x C x H x W) through each runtime on one thread, taking turns.

    The numbers are of this machine's processor and compare runtimes with each other; they are no phone's.
    """

    def burst(runtime: Runtime) -> Burst:
        def run(count: int) -> list[float]:
            seconds = []
            for _ in range(count):
                runtime.run(x)
                seconds.append(runtime.last_seconds)
            return seconds

        return run

    with threadpool_limits(1):  # what runs in this process; x86 files run on one thread in their own
        found = take_turns([burst(runtime) for runtime in runtimes.values()], warm_up=warm_up, runs=runs)
    return dict(zip(runtimes, found, strict=True))


def take_turns(
    bursts: Sequence[Burst],
    *,
    warm_up: int = WARM_UP,
    runs: int = RUNS,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Latency]:
    """Time several things in one run: short bursts in turn, each round starting with another one.

    Other load on the machine then meets all of them alike, so that their ratios mean something where their
    milliseconds do not. The first run of a burst is not counted.

    Args:
        advance: told how many counted runs were made, for progress.
    """
    if runs < 1:
        raise ValueError(f"runs is {runs}, must be at least 1")
    for burst in bursts:
        if warm_up:
            burst(warm_up)
    seconds: list[list[float]] = [[] for _ in bursts]
    for first in range(0, runs, BURST):
        count = min(BURST, runs - first)
        for turn in range(len(bursts)):
            i = (turn + first // BURST) % len(bursts)
            seconds[i] += bursts[i](count + 1)[1:]
            advance(count)
    return [_summary(values) for values in seconds]


def _summary(seconds: Sequence[float]) -> Latency:
    low, high = np.percentile(1e3 * np.asarray(seconds), [50, 90])
    return Latency(float(low), float(high), len(seconds), 1e3 * min(seconds))

"""Latency of a runtime: median and 90th percentile after warm-up, one input at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.runtimes.base import Runtime

WARM_UP = 5
RUNS = 40


@dataclass(frozen=True)
class Latency:
    """Milliseconds inside the engine (without the pipe to a worker), over ``runs`` runs of one input."""

    p50_ms: float
    p90_ms: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def latency(runtime: Runtime, x: np.ndarray, *, warm_up: int = WARM_UP, runs: int = RUNS) -> Latency:
    """Run ``x`` (float32, 1 x C x H x W) ``warm_up`` times unmeasured, then ``runs`` times.

    The numbers are of this machine's processor and compare runtimes with each other; they are no phone's.
    """
    if runs < 1:
        raise ValueError(f"runs is {runs}, must be at least 1")
    for _ in range(warm_up):
        runtime.run(x)
    times = []
    for _ in range(runs):
        runtime.run(x)
        times.append(runtime.last_seconds * 1e3)
    return Latency(float(np.percentile(times, 50)), float(np.percentile(times, 90)), runs)

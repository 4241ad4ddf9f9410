"""What every test shares: quiet native libraries, a fixed hypothesis profile, the checkout's folder."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports numpy or paddle: two xdist workers on two cores, each with one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import HealthCheck, settings

# Examples are the same on every run, and a slow machine is no failure.
settings.register_profile(
    "steady", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent

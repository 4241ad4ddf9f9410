"""What every test shares: quiet native libraries, a fixed hypothesis profile, the checkout's folder."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
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


@pytest.fixture(scope="session")
def few_lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 training, 16 evaluation and 16 calibration lines for the classifier."""
    from slim.progress import Silent
    from slim.synth import synthesize

    folder = tmp_path_factory.mktemp("few lines") / "cls"
    synthesize("cls", folder, {"train": 32, "eval": 16, "calib": 16}, 3, None, Silent())
    return folder


HUGE = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four damages: flipped bits, numbers replaced by extremes, cuts, doubled or moved pieces."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out))
        kind = rng.randrange(7)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and len(out) >= 4:
            struct.pack_into("<I", out, min(at & ~1, len(out) - 4), rng.choice(HUGE))
        elif kind == 2 and len(out) >= 2:
            struct.pack_into("<H", out, min(at & ~1, len(out) - 2), rng.choice(HUGE) & 0xFFFF)
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + rng.randint(1, 64)]
        elif kind == 5:
            out[at:at] = bytes(out[at : at + rng.randint(1, 64)])
        else:
            source = rng.randrange(len(out))
            piece = out[source : source + rng.randint(1, 32)]
            out[at : at + len(piece)] = piece
        if not out:
            out = bytearray(b"\0")
    return bytes(out)


@pytest.fixture(scope="session")
def mutate() -> Callable[[bytes, random.Random], bytes]:
    """Damages bytes: ``mutate(data, rng)``."""
    return mutated

"""A report with everything in it, and labels nobody should trust."""

from __future__ import annotations

from typing import Any

import pytest

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>&amp;"
    "\x00\x1b[2J\u202e\n]]>-->"
)


def _layer(number: int) -> dict[str, Any]:
    return {
        "layer": f"{HOSTILE}{number}" if number == 0 else f"backbone.blocks.{number}.conv",
        "op": "conv2d",
        "precision": "int8",
        "snr_db": 20.0 + number,
        "cosine": 0.99,
        "max_abs": 0.1,
        "arrived_snr_db": 15.0,
        "index": number,
        "merged": [],
    }


@pytest.fixture
def report() -> dict[str, Any]:
    """Plain data as report.json holds it; every text from outside is hostile."""
    drop = {"points": 1.0, "low": -0.5, "high": 2.5, "n": 200, "lost": 5, "gained": 3}
    scored = {"accuracy": 0.94, "accuracy_low": 0.90, "accuracy_high": 0.96, "images": 200}
    ran = {"latency_ms": 2.0, "latency_p90_ms": 3.0, "params": 1000, "flops": 16_000_000}
    changed = [
        {"index": i, "ref": f"{i}{HOSTILE}", "expected": HOSTILE, "original": HOSTILE, "shipped": f"x{i}"}
        | {"kind": "lost" if i < 3 else "other"}
        for i in range(30)
    ]
    return {
        "format": 2,
        "model": HOSTILE,
        "passed": False,
        "stages": [
            {"stage": "original", "arm_bytes": 500_000, **scored, **ran},
            {"stage": "prune", **scored, "params": 900, "flops": 1, "drop": drop},
            {
                "stage": "inference",
                "inference_bytes": 600_000,
                **scored,
                **ran,
                "drop": drop,
                "flops": 12_000_000,
            },
            {"stage": "arm nb", "arm_bytes": 150_000, **scored, **ran, "drop": drop},
        ],
        "checks": [
            {"name": "drop", "value": 1.0, "bound": 0.5, "unit": "points", "relation": "<=", "passed": False},
            {"name": HOSTILE, "value": None, "bound": 1, "unit": "abs", "relation": "<=", "passed": False},
            {"name": "fine", "value": 0.0, "bound": 1, "unit": "abs", "relation": "<=", "passed": True},
        ],
        "tensors": {
            HOSTILE: [{"name": "zeros", "max_abs": None, "cosine": 1.0, "argmax_agreement": 1.0}],
        },
        "differing": changed,
        "changed": {"lost": 900, "gained": 40, "other": 7},
        "sensitivity": {
            "baseline": 94.0,
            "groups": {
                HOSTILE: [{"removed": 0.1, "loss": 0.3}, {"removed": 0.3, "loss": 0.9}],
                **{f"g{i}": [{"removed": 0.2, "loss": -0.01 * i}] for i in range(8)},
            },
        },
        "layers": [_layer(i) for i in range(20)],
        "layers_reference": HOSTILE,
        "layers_inputs": "8 images",
        "notes": [HOSTILE],
        "recipe": {"Check": {"images": 200, HOSTILE: HOSTILE}},
        "steps": [{"stage": "float", "source": HOSTILE, "correct": "1" * 2000}],
        "data": {"path": HOSTILE, "count": 200},
        "tools": {"python": "3.10.13"},
        "machine": {"processor": HOSTILE, "cores": 2, "system": "Linux"},
        "metrics": {},
        "seed": 1,
    }

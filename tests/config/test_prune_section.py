"""What the Prune section says of keys that have no effect."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slim.config import PruneSection, find_config, load_config


@pytest.mark.parametrize(
    ("given", "unused"),
    [
        ({}, []),
        ({"ratios": [0.1, 0.2], "refine": 2}, []),
        ({"ratio": 0.3}, ["Prune.ratio"]),
        ({"method": "ratio"}, []),
        ({"method": "ratio", "flops": None, "refine": 0, "ratio": 0.3}, []),
        (
            {"method": "ratio", "flops": 0.1, "ratios": [0.1], "refine": 2},
            ["Prune.flops", "Prune.ratios", "Prune.refine"],
        ),
    ],
)
def test_what_was_given_and_changes_nothing_is_known(given: dict[str, object], unused: list[str]) -> None:
    assert PruneSection.model_validate(given).unused() == unused


@pytest.mark.parametrize("given", [{"max_drop": 3.0}, {"sensitivities": "sen.pickle"}, {"latency": 0.5}])
def test_method_ratio_refuses_what_it_would_not_hold(given: dict[str, object]) -> None:
    (key,) = given
    with pytest.raises(ValidationError, match=f"has method ratio, which holds no {key}: use method sensi"):
        PruneSection.model_validate({"method": "ratio", **given})


def test_without_a_budget_a_tenth_goes_though_nobody_said_so() -> None:
    assert PruneSection().flops == 0.1 and PruneSection(max_drop=2.0).flops is None
    assert PruneSection(method="ratio").model_dump()["flops"] == 0.1


def test_the_same_is_known_of_a_file_and_what_is_changed_in_it() -> None:
    config = load_config(find_config("cls/cls_demo"), ["Prune.method=ratio", "Prune.ratio=0.2"])
    assert config.Prune is not None
    assert config.Prune.unused() == ["Prune.flops", "Prune.ratios"]

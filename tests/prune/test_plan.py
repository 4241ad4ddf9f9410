"""The plan as data: round trip, and every way it can be damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from prune.plan import PrunePlan, composed_rows
from slim.errors import ArtifactError

PLAN = PrunePlan(
    criterion="fpgm",
    method="ratio",
    weights="ab" * 32,
    sizes={"a": 4, "b": 2},
    kept={"a": [0, 2, 3], "b": [1]},
    cuts={"a": {"out": [0, 2, 3]}, "c": {"in": [0, 2, 3, 5]}},
    flops_before=1000,
    flops_after=850,
    params_before=100,
    params_after=90,
)


def test_round_trip_through_text() -> None:
    data = json.loads(json.dumps(PLAN.to_json()))
    assert PrunePlan.from_json(data) == PLAN


def test_shares_and_summary() -> None:
    assert PLAN.flops_cut == pytest.approx(0.15, abs=1e-12) and PLAN.params_cut == pytest.approx(
        0.1, abs=1e-12
    )
    assert PLAN.summary()["flops"] == {"before": 1000, "after": 850, "cut": 0.15}
    assert PLAN.rows()[0] == {"group": "a", "before": 4, "after": 3, "cut": 0.25}


def test_plans_in_a_row_are_one_cut() -> None:
    again = replace(PLAN, sizes={"a": 3, "d": 8}, kept={"a": [0], "d": [0, 1]})
    assert composed_rows([PLAN.to_json(), again.to_json()]) == [
        {"group": "a", "before": 4, "after": 1, "cut": 0.75},
        {"group": "b", "before": 2, "after": 1, "cut": 0.5},
        {"group": "d", "before": 8, "after": 2, "cut": 0.75},
    ]
    assert composed_rows([PLAN.to_json()]) == PLAN.rows()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("version",), 2, "plan version is 2"),
        (("surprise",), 1, "unknown or missing keys surprise"),
        (("cuts",), None, "unknown or missing keys cuts"),
        (("criterion",), 3, "not a text"),
        (("groups", "a", "kept"), [2, 1], "not a rising choice"),
        (("groups", "a", "kept"), [], "not a rising choice"),
        (("groups", "a", "kept"), [0, 4], "not a rising choice"),
        (("groups", "a", "kept"), [True], "not a rising choice"),
        (("groups", "a", "size"), 0, "not a positive count"),
        (("groups",), [], "damaged"),
        (("cuts", "a"), {"sideways": [0]}, "neither 'in', 'out' nor 'hidden'"),
        (("cuts", "a"), {"out": [-1]}, "not a rising choice"),
        (("flops", "after"), "1", "not a positive count"),
    ],
)
def test_damage_is_refused_in_one_line(path: tuple[str, ...], value: Any, says: str) -> None:
    data = json.loads(json.dumps(PLAN.to_json()))
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ArtifactError, match=says):
        PrunePlan.from_json(data, where="plan.json")

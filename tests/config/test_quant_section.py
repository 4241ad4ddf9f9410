"""Quant: defaults of its training, and the older name of a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from slim.config import QuantSection, WrongConfig, load_config


def section(tmp_path: Path, text: str) -> QuantSection:
    path = tmp_path / "c.yml"
    path.write_text(f"Quant: {text}\n")
    found = load_config(path).Quant
    assert found is not None
    return found


def test_training_distills_and_freezes_norms_unless_told(tmp_path: Path) -> None:
    plain = section(tmp_path, "{Finetune: {steps: 3}}").Finetune
    assert plain is not None and (plain.distill, plain.freeze_bn) == (0.5, True)
    assert plain.in_steps(1).freeze_bn
    told = section(tmp_path, "{Finetune: {steps: 3, distill: 0, freeze_bn: false}}").Finetune
    assert told is not None and (told.distill, told.freeze_bn) == (0.0, False)


@pytest.mark.parametrize(
    ("given", "clip"),
    [("{}", "pact"), ("{pact: true}", "pact"), ("{pact: false}", "none"), ("{clip: lsq}", "lsq")],
)
def test_the_older_key_is_read(tmp_path: Path, given: str, clip: str) -> None:
    assert section(tmp_path, given).clip == clip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{pact: true, clip: lsq}", "has both clip and pact, give clip"),
        ("{pact: 1}", "has pact 1, must be true or false"),
        ("{clip: pakt}", "clip"),
    ],
)
def test_wrong_values_are_one_error(tmp_path: Path, given: str, message: str) -> None:
    with pytest.raises(WrongConfig, match=message):
        section(tmp_path, given)

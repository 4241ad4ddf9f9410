"""The recipes are found in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from slim import resources
from slim.errors import SlimError


def test_in_a_checkout_the_recipes_stand_beside_the_package(checkout: Path) -> None:
    assert resources.configs_root() == checkout / "configs"


def test_an_installed_package_carries_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inside = tmp_path / "slim" / "configs"
    inside.mkdir(parents=True)
    (tmp_path / "configs").mkdir()  # somebody's folder in site-packages must not win
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "slim")
    assert resources.configs_root() == inside


def test_nowhere_is_one_error_with_both_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "slim")
    with pytest.raises(SlimError, match="recipes are missing") as caught:
        resources.configs_root()
    assert str(tmp_path / "slim" / "configs") in str(caught.value)
    assert str(tmp_path / "configs") in str(caught.value)

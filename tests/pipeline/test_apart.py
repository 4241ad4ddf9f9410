"""An output folder is never the model that a stage reads."""

from __future__ import annotations

import pytest

from slim.errors import InputError
from slim.pipeline.opening import require_apart


@pytest.mark.parametrize("source", ["p1", "p1/model.pdparams", "other/../p1"])
def test_the_model_itself_is_refused_as_output(tmp_path, source):
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1/manifest.json").write_text("{}")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="is the model itself.*another --out"):
        require_apart(tmp_path / "p1", tmp_path / source)


@pytest.mark.parametrize("source", ["p2", "best.pdparams", "p1.old"])
def test_another_folder_is_not(tmp_path, source):
    require_apart(tmp_path / "p1", tmp_path / source)


def test_a_bundled_model_is_no_path(tmp_path, monkeypatch):
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1/manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "p1")  # a relative path would lead into it
    require_apart(tmp_path / "p1", "zoo:p1")


def test_the_float_original_is_refused_as_output(tmp_path):
    (tmp_path / "float").mkdir()
    (tmp_path / "float/manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is the float original of p1.*another --out"):
        require_apart(tmp_path / "float", "p1", str(tmp_path / "float"))
    require_apart(tmp_path / "other", "p1", str(tmp_path / "float"))

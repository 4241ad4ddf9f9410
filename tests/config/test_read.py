"""YAML from outside: every hostile or broken file is one clear line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slim.config.read import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse_yaml, read_mapping
from slim.errors import ConfigError


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Global: [1, 2", "line 1"),
        ("Global:\n  a: 1\n b: 2\n", "line 3"),
        ("Global:\n\tuse_gpu: true\n", "line 2"),
        ("Global:\n  use_gpu: true\n  use_gpu: false\n", "'use_gpu' stands twice, first in line 2"),
        ("Global: 1\nTrain: 2\nGlobal: 3\n", "'Global' stands twice"),
        ("? [1, 2]\n: 3\n", "a key is a list or mapping"),
        ("1: 2\n", "key 1 is not text"),
        ("Global:\n  on: 2\n", "Global: key True is not text"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("a: !include other.yml\n", "could not determine a constructor"),
        ("a: *nowhere\n", "nowhere"),
        ("a: &x [*x]\n", "contains itself"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: 2021-99-99\n", "month must be in"),
        ("[1, 2]\n", "is a list, must be a mapping"),
        ("just words\n", "is a str, must be a mapping"),
        ("", "is empty, must be a mapping"),
        ("# only a comment\n", "is empty, must be a mapping"),
        (b"\x80\x04\x95binary", "is not UTF-8 text (byte 0)"),
        (b"a: 1\0\0\0", "is a binary file"),
        (b"a: \x01\n", "is not valid YAML"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, text: str | bytes, says: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_mapping(path)
    assert says in _line(error)
    assert _line(error).startswith(str(path))


def test_missing_and_folder_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_mapping(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_mapping(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mapping(tmp_path / ("x" * 300 + ".yml"))
    if os.geteuid() != 0:
        path = _write(tmp_path, "a: 1")
        path.chmod(0)
        with pytest.raises(ConfigError, match="cannot be read"):
            read_mapping(path)


def test_a_file_too_large_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = _write(tmp_path, "a: 1\n" + "#" * MAX_BYTES)
    with pytest.raises(ConfigError, match=f"larger than {MAX_BYTES} bytes"):
        read_mapping(path)


def test_alias_bomb_ends_at_once() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    start = time.process_time()
    with pytest.raises(ConfigError, match=f"expand to more than {MAX_NODES}"):
        parse_yaml("\n".join(levels), "bomb")
    # seconds of CPU; 9**12 values would take hours, the check itself a few milliseconds
    assert time.process_time() - start < 2.0


def test_merge_key_bomb_ends_at_once() -> None:
    levels = ["a0: &a0 {k0: 1, k1: 1}"]
    levels += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="expand to more than"):
        parse_yaml("\n".join(levels), "bomb")


def test_depth_and_number_of_values_are_bounded() -> None:
    with pytest.raises(ConfigError, match=f"deeper than {MAX_DEPTH}"):
        parse_yaml("[" * 5000, "deep")
    with pytest.raises(ConfigError, match=f"more than {MAX_NODES} values"):
        parse_yaml("[" + "1," * (MAX_NODES + 1) + "]", "wide")
    assert parse_yaml("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1), "just fits") is not None


def test_aliases_and_merge_keys_of_real_files_work_and_share_nothing() -> None:
    data = parse_yaml("a: &x {k: [1]}\nb: *x\nc: {<<: *x, z: 2}\n", "f")
    assert data == {"a": {"k": [1]}, "b": {"k": [1]}, "c": {"k": [1], "z": 2}}
    data["a"]["k"].append(2)
    assert data["b"] == {"k": [1]}


def test_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read_mapping(_write(tmp_path, b"\xef\xbb\xbfGlobal: {}\n")) == {"Global": {}}


@given(st.text(max_size=200))
def test_any_text_is_data_or_a_config_error(text: str) -> None:
    try:
        parse_yaml(text, "f")
    except ConfigError as error:
        assert "\n" not in str(error)

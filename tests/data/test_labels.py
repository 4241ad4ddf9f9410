"""Label files: what is accepted, what is refused, and how much memory an index takes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slim.data.labels import Entry, LabelFile, parse_boxes
from slim.errors import InputError


def _file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    return path


def test_bom_crlf_blank_lines_and_missing_last_feed(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfa.png\tHELLO\r\n\r\n\nb c.png\t \xc3\xa9 x\r\nlast.png\tend"
    labels = LabelFile(_file(tmp_path, data))
    assert [labels[k] for k in range(len(labels))] == [
        Entry("a.png", "HELLO"),
        Entry("b c.png", " é x"),
        Entry("last.png", "end"),
    ]
    assert labels.sha256 == hashlib.sha256(data).hexdigest()
    assert labels.where(2) == f"{labels.path}:5"


def test_text_keeps_further_tabs(tmp_path: Path) -> None:
    assert LabelFile(_file(tmp_path, b"a\tb\tc\n"))[0] == Entry("a", "b\tc")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a.png\tok\nno tab here\n", r"labels.txt:2: line has no tab"),
        (b"a.png\tok\n\ttext\n", r"labels.txt:2: line has no path"),
        (b"a.png\tok\n\nb\t\xff\n", r"labels.txt:3: line is not UTF-8 \(byte 2 is 0xff\)"),
    ],
)
def test_malformed_line_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    labels = LabelFile(_file(tmp_path, data))
    assert labels[0] == Entry("a.png", "ok")
    with pytest.raises(InputError, match=message):
        labels[1]


@pytest.mark.parametrize("data", [b"", b"\n\r\n\n", b"\xef\xbb\xbf"])
def test_empty_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="label file is empty"):
        LabelFile(_file(tmp_path, data))


def test_missing_file_folder_and_endless_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read label file"):
        LabelFile(tmp_path / "none.txt")
    with pytest.raises(InputError, match="Is a directory"):
        LabelFile(tmp_path)
    with pytest.raises(InputError, match="longer than 4194304 bytes"):
        LabelFile(_file(tmp_path, b"x" * (4 * 1024 * 1024 + 1)))


_LINE = st.tuples(
    st.text("abc/.", min_size=1, max_size=8),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n"), max_size=20),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.lists(_LINE, min_size=1, max_size=30), feed=st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read(tmp_path: Path, lines: list[tuple[str, str]], feed: str) -> None:
    data = "".join(f"{ref}\t{text}{feed}" for ref, text in lines).encode()
    labels = LabelFile(_file(tmp_path, data))
    assert [(labels[k].ref, labels[k].text) for k in range(len(labels))] == lines


_GROWTH = """
import resource, sys
from pathlib import Path
import numpy
from slim.data.labels import LabelFile
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
labels = LabelFile(Path(sys.argv[1]))
total = sum(len(labels[k].text) for k in range(0, len(labels), 50))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(labels), (after - before) // 1024)
"""


def test_memory_of_a_million_lines_stays_below_64_mib(tmp_path: Path) -> None:
    """Bound: MiB of peak resident memory; the file itself has 79 MB, so reading it whole would fail."""
    path = tmp_path / "many.txt"
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, 1_000_000, 10_000):
            file.write(
                "".join(f"images/{k:07d}.jpg\t{'word ' * 11}{k}\n" for k in range(start, start + 10_000))
            )
    assert path.stat().st_size > 70_000_000
    run = subprocess.run(
        [sys.executable, "-c", _GROWTH, str(path)], capture_output=True, text=True, check=True, timeout=100
    )
    count, growth = (int(word) for word in run.stdout.split())
    assert count == 1_000_000
    assert growth < 64


def test_boxes() -> None:
    text = (
        '[{"transcription": "HI", "points": [[1,1],[9,1],[9,5],[1,5]]},'
        ' {"transcription": "###", "points": [[0,0],[1,0],[1,1],[0,1]]}]'
    )
    first, second = parse_boxes(text, "f:1")
    assert (first.text, first.points[1], first.ignored) == ("HI", (9.0, 1.0), False)
    assert second.ignored


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        "[1]",
        '[{"points": [[1,1],[2,2],[3,3],[4,4]]}]',
        '[{"transcription": "x", "points": [[1,1],[2,2],[3,3]]}]',
        '[{"transcription": "x", "points": [[1,1],[2,2],[3,3],[4,NaN]]}]',
        "[" * 100_000,
    ],
)
def test_malformed_boxes_are_named(text: str) -> None:
    with pytest.raises(InputError, match="^f:7: det label"):
        parse_boxes(text, "f:7")

"""Reader and metric over sets as large as real ones: memory grows by less than 64 MB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LINES, IMAGES, LIMIT_MB = 1_000_000, 200_000, 64

# Resident memory now, mapped file pages included, and its peak; MB of 2**20 bytes.
_CHILD = """
import sys
from pathlib import Path

def resident(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) / 1024

kind, place = sys.argv[1], Path(sys.argv[2])
from slim.data.dataset import open_dataset
from slim.data.lmdb_data import open_lmdb
from slim.metrics import metric_for
metric = metric_for("rec")
before = resident("VmRSS")
data = open_lmdb(place, "rec") if kind == "lmdb" else open_dataset([place], place.parent, "rec")
peak = 0.0
for start in range(0, len(data), 1000):
    numbers = range(start, min(start + 1000, len(data)))
    if kind == "lmdb":
        lines = [data[number] for number in numbers]
        assert lines[0].image.shape[2] == 3
    else:
        lines = [data.entry(number) for number in numbers]
    texts = [line.text for line in lines]
    metric.update([text[::-1] for text in texts], texts)
    peak = max(peak, resident("VmRSS"))
print(len(data), round(max(peak, resident("VmHWM")) - before, 1), round(metric.summary()["acc"], 6))
"""


def growth_mb(kind: str, place: Path) -> tuple[int, float]:
    """Lines read and scored, and MB that the process grew by at its peak."""
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, kind, str(place)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    count, grown, _ = run.stdout.split()
    return int(count), float(grown)


@pytest.mark.slow
def test_a_million_lines(tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, LINES, 10_000):
            part = range(start, start + 10_000)
            file.write("".join(f"images/{k:07d}.jpg\t{'word ' * 11}{k}\n" for k in part))
    assert path.stat().st_size > LIMIT_MB << 20, "a file that fits the limit would prove nothing"
    count, grown = growth_mb("labels", path)
    print(f"{count:,} lines: {grown} MB")
    assert count == LINES
    assert grown < LIMIT_MB


@pytest.mark.slow
def test_an_lmdb_of_200_000_images(tmp_path: Path) -> None:
    import cv2
    import lmdb
    import numpy as np

    rng = np.random.default_rng(5)
    pictures = [cv2.imencode(".png", rng.integers(0, 256, (16, 32, 3), np.uint8))[1] for _ in range(50)]
    env = lmdb.open(str(tmp_path / "set"), map_size=1 << 30, sync=False)
    for start in range(1, IMAGES + 1, 10_000):
        with env.begin(write=True) as txn:
            for number in range(start, min(start + 10_000, IMAGES + 1)):
                txn.put(b"image-%09d" % number, pictures[number % len(pictures)].tobytes())
                txn.put(b"label-%09d" % number, b"line %d" % number)
            txn.put(b"num-samples", b"%d" % IMAGES)
    env.close()
    assert (tmp_path / "set" / "data.mdb").stat().st_size > 2 * LIMIT_MB << 20
    count, grown = growth_mb("lmdb", tmp_path / "set")
    print(f"an LMDB of {count:,} images: {grown} MB")
    assert count == IMAGES
    assert grown < LIMIT_MB


def test_what_is_kept_is_counted(tmp_path: Path) -> None:
    """The measure sees memory that a reader would keep: 80 MB held while reading."""
    path = tmp_path / "few.txt"
    path.write_text("a.jpg\ttext\n" * 1000, encoding="utf-8")
    child = _CHILD.replace("peak = 0.0", "peak, kept = 0.0, bytearray(b'x') * (80 << 20)")
    run = subprocess.run(
        [sys.executable, "-c", child, "labels", str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert float(run.stdout.split()[1]) > LIMIT_MB

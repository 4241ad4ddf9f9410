"""Damaged files: one clear error each, bounded memory and time, never a crash. Seeded: no run differs."""

from __future__ import annotations

import contextlib
import random
import struct
import time
import tracemalloc

import numpy as np
import pytest

from export.nb.compact import compact
from export.nb.executor import NbRuntime
from export.nb.format import encode_nb, parse_nb, read_nb
from export.nb.inspect import describe
from export.nb.witness import rewrite
from slim.errors import SlimError

MUTATIONS = 2400


def refused_or_run(data: bytes, x: np.ndarray) -> str:
    """Read, compact, run, describe and rewrite; any error must be one of ours, in one line."""
    stage = "refused"
    try:
        model = parse_nb(data)
        stage = "read"
        compact(model, lstm_weights="int8")
        stage = "compacted"
        NbRuntime(model).run(x)
        describe(model, len(data))
        rewrite(model)
        return "run"
    except SlimError as error:
        assert "\n" not in str(error) and error.exit_code == 2
        return stage


@pytest.mark.parametrize("name", ["block_dw3", "block_se", "compact"])
def test_damaged_files_are_refused_or_run(golden, name, mutate):
    case = golden("block_dw3" if name == "compact" else name)
    data = case.path.read_bytes() if name != "compact" else encode_nb(compact(read_nb(case.path))[0])
    x = np.ascontiguousarray(case.runs[0][0][:, :, :6, :8])
    rng = random.Random(f"nb {name}")
    seen: dict[str, int] = {}
    for _ in range(MUTATIONS // 3):
        start = time.monotonic()
        outcome = refused_or_run(mutate(data, rng), x)
        # Seconds; a whole file is read in 5 ms. A quadratic blow-up of this 8 kB file would take minutes.
        assert time.monotonic() - start < 10
        seen[outcome] = seen.get(outcome, 0) + 1
    # The damage reaches all layers: most is refused by the reader, some files still run.
    assert seen["refused"] > MUTATIONS // 12 and seen["run"] > MUTATIONS // 60


def test_reading_takes_no_more_memory_than_the_file_justifies(golden, mutate):
    data = golden("block_se").path.read_bytes()
    rng = random.Random("memory")
    tracemalloc.start()
    try:
        for _ in range(150):
            damaged = mutate(data, rng)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with contextlib.suppress(SlimError):
                parse_nb(damaged)
            # Bytes. Python objects cost about 30 bytes per byte of a dense topology.
            assert tracemalloc.get_traced_memory()[1] - before < 40 * len(damaged) + 100_000
    finally:
        tracemalloc.stop()


def test_a_file_that_describes_more_than_it_holds_is_refused():
    """Every element of a list of 10,000 blocks is the same block, itself a list of 10,000 ops: a bomb."""
    from flatbuffers import Builder

    b = Builder(1 << 16)
    kind = b.CreateString("op")
    b.StartObject(5)
    b.PrependUOffsetTRelativeSlot(0, kind, 0)
    op = b.EndObject()

    def repeated(item: int) -> int:
        b.StartVector(4, 10_000, 4)
        for _ in range(10_000):
            b.PrependUOffsetTRelative(item)
        return b.EndVector()

    ops = repeated(op)
    b.StartObject(5)
    b.PrependUOffsetTRelativeSlot(3, ops, 0)
    blocks = repeated(b.EndObject())
    b.StartObject(3)
    b.PrependUOffsetTRelativeSlot(0, blocks, 0)
    b.Finish(b.EndObject())
    topology = bytes(b.Output())
    data = struct.pack("<H16sQ", 2, b"v2.13-rc", len(topology)) + topology
    start = time.monotonic()
    with pytest.raises(SlimError, match="describe more than they can hold"):
        parse_nb(data)
    assert time.monotonic() - start < 10

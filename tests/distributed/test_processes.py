"""How processes meet, share and end together: threads stand for them, a dictionary for Paddle's store."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from prune.groups import Group
from prune.probe import Reading
from prune.sensitivity import measure
from slim import distributed
from slim.distributed import Mailbox, World, claimed
from slim.errors import ConfigError, GateFailed, SlimError, StageFailed, UsageError


class Store:
    """Paddle's store within one process; ``lost``: it is gone."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.counters: dict[str, int] = {}
        self.lock, self.lost = threading.Lock(), False

    def add(self, key: str, more: int) -> int:
        if self.lost:
            raise RuntimeError("C++ Traceback\n\nconnection reset by peer")
        with self.lock:
            self.counters[key] = self.counters.get(key, 0) + more
            return self.counters[key]

    def set(self, key: str, data: bytes) -> None:
        self.data[key] = data

    def get(self, key: str) -> bytes:
        return self.data[key]


In = Callable[[int, Callable[[], Any]], list[Any]]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch, store: Store) -> In:
    """Runs a function in n "processes" at once; gives results, or the errors they ended with, by rank."""
    own = threading.local()
    monkeypatch.setattr(distributed, "world", lambda: own.world)
    monkeypatch.setattr(distributed, "_group", lambda: own.group)
    monkeypatch.setattr(distributed, "_FAREWELL", 0.3)

    def one(rank: int, size: int, work: Callable[[], Any]) -> Any:
        own.world = World(rank, size)
        own.group = distributed._Group(own.world, store) if size > 1 else None
        try:
            return work()
        except SlimError as error:
            if own.group is not None:
                own.group.fail(error)
            return error

    def run(size: int, work: Callable[[], Any]) -> list[Any]:
        with ThreadPoolExecutor(size) as pool:
            return [f.result(30) for f in [pool.submit(one, rank, size, work) for rank in range(size)]]

    return run


def rank() -> int:
    return distributed.world().rank


# --- one process --------------------------------------------------------------------------------


def test_one_process_never_asks_for_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(distributed.SIZE, raising=False)
    monkeypatch.setattr(distributed, "_connected", lambda found: pytest.fail("it connects"))
    marker = object()
    assert distributed.on_first(lambda: marker) is marker
    assert distributed.gather(marker) == [marker]
    assert list(claimed("x", 3)) == [0, 1, 2] and Mailbox("x").received() == []
    distributed.barrier()
    distributed.close()


@pytest.mark.parametrize(("size", "number"), [("two", "0"), ("2", "2"), ("2", "-1"), ("2", "")])
def test_a_wrong_environment_is_one_line(monkeypatch: pytest.MonkeyPatch, size: str, number: str) -> None:
    monkeypatch.setenv(distributed.SIZE, size)
    monkeypatch.setenv(distributed.RANK, number)
    with pytest.raises(UsageError, match=r"PADDLE_TRAINERS_NUM is '.*' and PADDLE_TRAINER_ID is '.*'"):
        distributed.world()


def test_a_size_of_one_or_none_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ("0", "1"):
        monkeypatch.setenv(distributed.SIZE, size)
        monkeypatch.setenv(distributed.RANK, "0")
        assert distributed.world() == World(0, 1)
    monkeypatch.setenv(distributed.SIZE, "3")
    assert distributed.world() == World(0, 3)


# --- several ------------------------------------------------------------------------------------


def test_everyone_gets_what_everyone_has_and_what_the_first_decides(in_processes: In) -> None:
    def work() -> Any:
        first = distributed.on_first(lambda: {"acc": 0.1 + 0.2, "by": rank()})
        return distributed.gather(rank() * 10), first, distributed.gather("b")

    assert in_processes(3, work) == [([0, 10, 20], {"acc": 0.1 + 0.2, "by": 0}, ["b"] * 3)] * 3


def test_the_first_may_take_its_time(in_processes: In) -> None:
    def slow() -> float:
        time.sleep(0.3)
        return time.monotonic()

    def work() -> float:
        made = distributed.on_first(slow)
        return time.monotonic() - made

    assert all(0 <= late < 5 for late in in_processes(2, work))


def test_each_number_goes_to_one_process(in_processes: In) -> None:
    def work() -> list[int]:
        mine = []
        for number in claimed("a", 20):
            mine.append(number)
            time.sleep(0.01)
        return mine

    shares = in_processes(3, work)
    assert sorted(sum(shares, [])) == list(range(20))
    assert all(len(share) >= 3 for share in shares)


def test_an_error_in_one_ends_all_with_the_same(in_processes: In) -> None:
    def work() -> None:
        if rank() == 1:
            raise ConfigError("is 0", where="Prune.flops", remedy="use 0.3")
        distributed.barrier()

    errors = in_processes(3, work)
    assert {(type(e), str(e)) for e in errors} == {(ConfigError, "Prune.flops: is 0; use 0.3")}


def test_the_first_error_counts(in_processes: In) -> None:
    def work() -> None:
        if rank() == 2:
            raise GateFailed("drop 3 <= 1 points: FAIL")
        try:
            distributed.barrier()
        except GateFailed:
            raise UsageError("something that follows from it") from None

    assert str(in_processes(3, work)[2]) == "drop 3 <= 1 points: FAIL"


def test_a_store_that_is_gone_is_one_line(in_processes: In, store: Store) -> None:
    store.lost = True
    (error, _) = in_processes(2, distributed.barrier)
    assert isinstance(error, StageFailed) and error.exit_code == 4
    assert "process 0 of 2 lost the connection to another (connection reset by peer)" in str(error)


def test_different_values_are_refused(in_processes: In) -> None:
    errors = in_processes(2, lambda: distributed.require_equal(f"abc{rank()}", "weights"))
    assert all(
        "weights: differs between the processes (rank 0: abc0, rank 1: abc1)" in str(e) for e in errors
    )
    assert in_processes(1, lambda: distributed.require_equal("a", "weights")) == [None]


# --- sensitivity --------------------------------------------------------------------------------


class Probe:
    """Loses a point and a half per channel; slow in the first process, so that others run ahead of it."""

    key = {"lines": 5}

    def __init__(self) -> None:
        self.asked: dict[int, list[str]] = {}

    def baseline(self) -> Reading:
        return Reading(80.0, 0.0)

    def one(self, group: Group, kept: Sequence[int]) -> Reading:
        self.asked.setdefault(rank(), []).append(group.name)
        time.sleep(0.03 if rank() == 0 else 0.005)
        return Reading(80.0 - (1.1 + len(group.name) / 7) * (8 - len(kept)), 0.01)

    def several(self, groups: Any, kept: Any) -> Reading:
        raise NotImplementedError


def _measured(path: Path, probe: Probe) -> Any:
    groups = [Group("g" * k, 8, (), ()) for k in range(1, 10)]
    return measure(groups, probe, lambda g, n: list(range(n)), (0.25, 0.5), {"weights": "w"}, path=path)


@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_write_the_curves_of_one(in_processes: In, tmp_path: Path, size: int) -> None:
    probe, files = Probe(), [tmp_path / "one.json", tmp_path / "several.json"]
    (one,) = in_processes(1, lambda: _measured(files[0], Probe()))
    several = in_processes(size, lambda: _measured(files[1], probe))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert all(found == one for found in several)
    assert set(probe.asked) == set(range(size))
    assert sum(map(len, probe.asked.values())) == 9 * 2  # nothing is measured twice


def test_a_file_with_all_curves_leaves_the_processes_in_step(in_processes: In, tmp_path: Path) -> None:
    path, probe = tmp_path / "s.json", Probe()
    in_processes(1, lambda: _measured(path, Probe()))

    def work() -> Any:
        found = _measured(path, probe)
        return len(found.curves), distributed.on_first(lambda: "after")

    assert in_processes(2, work) == [(9, "after")] * 2
    assert probe.asked == {}


def test_curves_of_a_stopped_run_are_gone_on_from(in_processes: In, tmp_path: Path) -> None:
    path, probe = tmp_path / "s.json", Probe()
    in_processes(1, lambda: _measured(path, Probe()))
    whole = path.read_bytes()
    data = json.loads(whole)
    data["curves"] = dict(list(data["curves"].items())[:6])
    path.write_text(json.dumps(data), encoding="utf-8")
    in_processes(2, lambda: _measured(path, probe))
    assert path.read_bytes() == whole
    assert {name for names in probe.asked.values() for name in names} == {"g" * k for k in (7, 8, 9)}

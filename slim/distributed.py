"""One command in several processes, started by ``python -m paddle.distributed.launch``.

Every process runs the same program on the same files and is told apart by its rank (0, 1, ...). Rank 0 is the
one that writes, evaluates, decides and talks. Small things (numbers, hashes, plain JSON data) travel through
Paddle's key-value store, whose server is in rank 0; gradients are summed by gloo. With one process nothing
here imports Paddle, waits or copies, and every function answers as if it were not there.

Source of the variables read here: ``paddle.distributed.launch`` 2.6 sets PADDLE_TRAINER_ID (rank),
PADDLE_TRAINERS_NUM (size), PADDLE_MASTER and PADDLE_CURRENT_ENDPOINT for each process.

>>> world()
World(rank=0, size=1)
>>> on_first(lambda: {"acc": 0.5})
{'acc': 0.5}
>>> gather("a"), list(claimed("groups", 3))
(['a'], [0, 1, 2])
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from slim import errors
from slim.errors import SlimError, StageFailed, UsageError

T = TypeVar("T")

RANK, SIZE = "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"
_BACKEND = "PADDLE_DISTRI_BACKEND"
# Seconds between two questions to the store: first and most, while a process waits for the others.
_SOON, _SELDOM = 0.0005, 0.05
# Seconds at most that a process whose work failed stays, so that the others can say so before they are ended.
_FAREWELL = 30.0


@dataclass(frozen=True)
class World:
    """Which of how many processes this one is."""

    rank: int
    size: int


def world() -> World:
    """Rank and number of processes by the environment; rank 0 of 1 where nothing launched them.

    Raises:
        UsageError: the variables are no numbers, or the rank is not below the size.
    """
    found = os.environ.get(SIZE, "1"), os.environ.get(RANK, "0")
    if not all(text.isdecimal() for text in found) or not 0 <= int(found[1]) < max(1, int(found[0])):
        raise UsageError(
            f"{SIZE} is {found[0]!r} and {RANK} is {found[1]!r}, must be a number and one below it",
            where="environment",
            remedy="start it with python -m paddle.distributed.launch, or unset both",
        )
    return World(int(found[1]) if int(found[0]) > 1 else 0, max(1, int(found[0])))


def is_first() -> bool:
    """Whether this process is the one that writes and talks."""
    return world().rank == 0


def require_one(what: str) -> None:
    """Refuse to do in several processes what each of them would do once more."""
    size = world().size
    if size > 1:
        raise UsageError(
            f"{what} works in one process, {size} were launched",
            where="paddle.distributed.launch",
            remedy="start it without; train, prune and quant work in several",
        )


def barrier() -> None:
    """Wait until every process is here."""
    if (group := _group()) is not None:
        group.meet()


def gather(value: T) -> list[T]:
    """What every process has, by rank, in every process; plain JSON data."""
    if (group := _group()) is None:
        return [value]
    return group.gather(value)


def on_first(make: Callable[[], T]) -> T:
    """Call ``make`` in rank 0 alone; every process gets its result, which must be plain JSON data.

    The others wait as long as it takes. An error in rank 0 ends all of them (see `fail`).
    """
    if (group := _group()) is None:
        return make()
    return group.on_first(make)


def require_equal(value: str, what: str) -> None:
    """Raise StageFailed where ``value`` is not the same in all processes; ``what`` is it of?"""
    found = gather(value)
    if len(set(found)) > 1:
        said = ", ".join(f"rank {rank}: {text[:12]}" for rank, text in enumerate(found))
        raise StageFailed(
            f"{what}: differs between the processes ({said})",
            remedy="start every process with the same command, files and package versions",
        )


def sum_into(buffer: Any) -> None:
    """Replace a float32 paddle tensor by its sum over all processes, in place.

    Gloo gives up after 30 s of silence (its default, which Paddle 2.6 does not let one change), so the
    processes meet first, and that may take as long as it takes.
    """
    if (group := _group()) is not None:
        group.sum_into(buffer)


def claimed(topic: str, count: int) -> Iterator[int]:
    """Numbers of 0 .. count - 1, each to one process alone: whoever is free takes the next.

    Each process must call it for the same topics in the same order.
    """
    if (group := _group()) is None:
        return iter(range(count))
    return group.claimed(group.key(topic), count)  # the key now: a generator would take it at its first item


class Mailbox:
    """Things that other processes send to rank 0, which takes them when it likes; plain JSON data.

    Each process must make it at the same place of the program.
    """

    def __init__(self, topic: str) -> None:
        self._group = _group()
        self._key = "" if self._group is None else self._group.key(topic)
        self._taken = [0] * world().size

    def send(self, value: Any) -> None:
        """To rank 0, from another one."""
        group = self._group
        assert group is not None
        number = group.add(f"{self._key}/sent/{group.rank}", 0)
        group.put(f"{self._key}/{group.rank}/{number}", value)
        group.add(f"{self._key}/sent/{group.rank}", 1)

    def received(self) -> list[Any]:
        """What came since the last call; does not wait."""
        group, found = self._group, []
        for rank in range(1, len(self._taken)):
            assert group is not None
            sent = group.add(f"{self._key}/sent/{rank}", 0)
            found += [group.take(f"{self._key}/{rank}/{n}") for n in range(self._taken[rank], sent)]
            self._taken[rank] = sent
        return found

    def pause(self) -> None:
        """A moment's rest between two looks; raises what another process failed with."""
        if self._group is not None:
            self._group.require_well()
        time.sleep(_SELDOM)


def fail(error: BaseException) -> None:
    """Tell the other processes why this one ends, so that they end with the same line and exit code."""
    if _started is not None:
        _started.fail(error)


def close() -> None:
    """Leave; rank 0, whose store the others may still ask, waits for them."""
    if _started is not None:
        _started.close()


class _Group:
    """The processes of one launch, connected."""

    def __init__(self, found: World, store: Any) -> None:
        """``store``: Paddle's, with ``add(key, int) -> int``, ``set(key, bytes)``, ``get(key) -> bytes``."""
        self.rank, self.size, self._store = found.rank, found.size, store
        self._keys = self._meetings = 0

    def key(self, topic: str) -> str:
        """A name in the store that no other call has, the same in every process."""
        self._keys += 1
        return f"slim/{self._keys}/{topic}"

    def add(self, key: str, more: int) -> int:
        return int(self._ask(lambda: self._store.add(key, more)))

    def put(self, key: str, value: Any) -> None:
        data = json.dumps(value).encode()
        self._ask(lambda: self._store.set(key, data))

    def take(self, key: str) -> Any:
        """A value that is known to be there."""
        return json.loads(bytes(self._ask(lambda: self._store.get(key))))

    def wait(self, key: str, count: int) -> None:
        """Until a counter has come to ``count``, however long; raises what another process failed with."""
        pause = _SOON
        while self.add(key, 0) < count:
            self.require_well()
            time.sleep(pause)
            pause = min(_SELDOM, 1.5 * pause)

    def meet(self) -> None:
        self._meetings += 1
        self.add("slim/here", 1)
        self.wait("slim/here", self._meetings * self.size)

    def gather(self, value: T) -> list[T]:
        key = self.key("gather")
        self.put(f"{key}/{self.rank}", value)
        self.meet()
        return [self.take(f"{key}/{rank}") for rank in range(self.size)]

    def on_first(self, make: Callable[[], T]) -> T:
        key = self.key("first")
        if self.rank == 0:
            value = make()
            self.put(key, value)
            self.add(f"{key}/there", 1)
            return value
        self.wait(f"{key}/there", 1)
        answer: T = self.take(key)
        return answer

    def claimed(self, key: str, count: int) -> Iterator[int]:
        while (number := self.add(key, 1) - 1) < count:
            self.require_well()
            yield number

    def sum_into(self, buffer: Any) -> None:
        import paddle.distributed

        self.meet()
        self._ask(lambda: paddle.distributed.all_reduce(buffer))

    def require_well(self) -> None:
        if self.add("slim/failed", 0):
            raise _revived(self.take("slim/failure"))

    def fail(self, error: BaseException) -> None:
        try:
            if self.add("slim/failures", 1) == 1:
                self.put("slim/failure", _packed(error))
                self.add("slim/failed", 1)
            self.add("slim/gone", 1)
            end = time.monotonic() + _FAREWELL
            while self.add("slim/gone", 0) < self.size and time.monotonic() < end:
                time.sleep(_SELDOM)
        except StageFailed:  # rank 0, and the store with it, is gone: nobody is left to be told
            pass
        if self.rank and not isinstance(error, KeyboardInterrupt):
            # The launcher ends everybody at the first that exits, and answers with the exit code of rank 0,
            # which must be that of the error and not of the launcher's signal: rank 0 leaves first.
            time.sleep(_FAREWELL)

    def close(self) -> None:
        self.add("slim/gone", 1)
        if self.rank == 0:
            self.wait("slim/gone", self.size)

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except Exception as error:  # Paddle's own, of several classes
            raise StageFailed(
                f"process {self.rank} of {self.size} lost the connection to another ({_short(error)})",
                remedy="its log says why it ended; the same command goes on from the last checkpoint",
            ) from error


_started: _Group | None = None


def _group() -> _Group | None:
    """The connected processes, connected on first use; None where there is only one."""
    global _started
    if _started is None and (found := world()).size > 1:
        _started = _Group(found, _connected(found))
    return _started


def _connected(found: World) -> Any:
    """Paddle's store, with gloo ready behind it."""
    os.environ.setdefault(_BACKEND, "gloo")
    import paddle.distributed
    from paddle.base import core

    try:
        paddle.distributed.init_parallel_env()
        return core.create_or_get_global_tcp_store()
    except Exception as error:
        raise StageFailed(
            f"process {found.rank} of {found.size} cannot reach the others ({_short(error)})",
            remedy="start all of them with python -m paddle.distributed.launch",
        ) from error


def _short(error: Exception) -> str:
    """The last line of a message; those of Paddle's C++ end with what it is about.

    >>> _short(RuntimeError("C++ Traceback\\n\\nno route to host"))
    'no route to host'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]


def _packed(error: BaseException) -> dict[str, Any]:
    if isinstance(error, SlimError):
        fields = {"what": error.what, "where": error.where, "remedy": error.remedy}
        return {"kind": type(error).__name__, **fields}
    if isinstance(error, KeyboardInterrupt):
        return {"kind": "KeyboardInterrupt"}
    return {"kind": "StageFailed", "what": f"another process ended: {type(error).__name__}: {error}"}


def _revived(data: dict[str, Any]) -> BaseException:
    """The error that another process told of.

    >>> str(_revived(_packed(UsageError("is 0", where="Prune.flops", remedy="use 0.3"))))
    'Prune.flops: is 0; use 0.3'
    """
    if data["kind"] == "KeyboardInterrupt":
        return KeyboardInterrupt()
    kind = getattr(errors, data["kind"], StageFailed)
    found: BaseException = kind(data["what"], where=data.get("where"), remedy=data.get("remedy"))
    return found

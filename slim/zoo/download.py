"""One file over HTTP: resumed after a cut, tried again with growing pauses, never longer than announced."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.errors import InputError, StageFailed
from slim.progress import Reporter, Task

if TYPE_CHECKING:
    import requests

MAX_BYTES = 1 << 30
_CHUNK = 1 << 14  # what a cut connection loses at most
_TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
_MOST_TRIES = 100
_LONGEST_PAUSE = 30.0
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How often a download is tried without getting further, and the first pause, which doubles."""

    tries: int = 4
    pause: float = 0.5


class _Cut(Exception):
    """The connection failed or ended early: worth another try."""


def download(url: str, target: Path, *, hint: str, progress: Reporter, patience: Patience) -> None:
    """Fetch ``url`` to ``target``; what a cut left behind (``target.part``) is continued.

    Args:
        hint: what the user can do without a network, the remedy of every error.
    Raises:
        StageFailed: not reachable, refused by the server, or cut too often.
        InputError: larger than 1 GiB or than the free space.
    """
    import requests

    part, failed = _Part(target), 0
    with requests.Session() as session, ExitStack() as stack:
        session.max_redirects = 5
        bar = _Bar(f"download {target.name}, KiB", progress, stack)
        for _ in range(_MOST_TRIES):
            before = part.size()
            try:
                _continue(session, url, part, bar, hint)
                os.replace(part.path, target)
                part.validator_path.unlink(missing_ok=True)
                return
            except _Cut as cut:
                failed = 1 if part.size() > before else failed + 1
                if failed >= patience.tries:
                    raise StageFailed(f"cannot be downloaded ({cut})", where=url, remedy=hint) from cut
                time.sleep(min(patience.pause * 2 ** (failed - 1), _LONGEST_PAUSE))
    raise StageFailed(f"was cut off {_MOST_TRIES} times", where=url, remedy=hint)


class _Part:
    """The unfinished file and the server's word for its version (ETag or date)."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self.validator_path = target.with_name(target.name + ".part.version")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self) -> str | None:
        """None: nothing says that the server still has the same file, so start again."""
        if not self.size() or not self.validator_path.is_file():
            return None
        text = self.validator_path.read_text(encoding="latin-1")[:200]
        return text if text.isprintable() and text else None

    def start(self, response: requests.Response) -> None:
        """Begin anew with this response's version."""
        tag = response.headers.get("ETag", "")
        version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        self.path.write_bytes(b"")
        self.validator_path.write_text(version, encoding="latin-1", errors="replace")


class _Bar:
    """Progress in KiB that may go back when a server starts again."""

    def __init__(self, label: str, progress: Reporter, stack: ExitStack) -> None:
        self._label, self._progress, self._stack = label, progress, stack
        self._task: Task | None = None
        self._shown = 0

    def at(self, done: int, total: int | None) -> None:
        if self._task is None:
            kib = None if total is None else -(-total // 1024)
            self._task = self._stack.enter_context(self._progress.task(self._label, kib))
        now = -(-done // 1024)
        if now != self._shown:
            self._task.advance(now - self._shown)
            self._shown = now


def _continue(session: requests.Session, url: str, part: _Part, bar: _Bar, hint: str) -> None:
    """One request: from where the part ends when its version is known, else from the start."""
    import requests

    headers = {"Accept-Encoding": "identity"}
    validator = part.validator()
    if validator:
        headers |= {"Range": f"bytes={part.size()}-", "If-Range": validator}
    try:
        with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            total = _begin(response, part, url, hint)
            _receive(response, part, total, bar, url)
    except requests.RequestException as error:
        if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema,
                              requests.exceptions.InvalidSchema)):  # fmt: skip
            raise InputError("is no http or https address", where=url) from error
        raise _Cut(_reason(error)) from error


def _begin(response: requests.Response, part: _Part, url: str, hint: str) -> int | None:
    """Look at status and length; the part is emptied unless the server continues it. Total bytes or None."""
    status = response.status_code
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise StageFailed(f"leads to the unencrypted {response.url}", where=url, remedy=hint)
    total: int | None
    if status == 206:
        total = _continued(response, part)
    elif status == 200:
        part.start(response)
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
    elif status == 416:
        part.start(response)
        raise _Cut("the server has no more bytes than are here, starting again")
    elif status in _TRY_AGAIN:
        raise _Cut(f"the server answers {status} {response.reason}")
    else:
        raise StageFailed(f"the server answers {status} {response.reason}", where=url, remedy=hint)
    if total is not None:
        _require_room(total, total - part.size(), part.path, url)
    return total


def _continued(response: requests.Response, part: _Part) -> int | None:
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if span is None or int(span[1]) != part.size():
        part.start(response)
        raise _Cut("the server continues at another place, starting again")
    return None if span[2] == "*" else int(span[2])


def _require_room(total: int, missing: int, path: Path, url: str) -> None:
    if total > MAX_BYTES:
        raise InputError(f"has {total:,} bytes, the limit is {MAX_BYTES:,}", where=url)
    free = shutil.disk_usage(path.parent).free
    if missing > free:
        raise InputError(
            f"needs {missing:,} bytes, {free:,} are free", where=path.parent, remedy="choose another --cache"
        )


def _receive(response: requests.Response, part: _Part, total: int | None, bar: _Bar, url: str) -> None:
    done = part.size()
    bar.at(done, total)
    with part.path.open("ab") as out:
        for chunk in _chunks(response):
            done += len(chunk)
            if done > (MAX_BYTES if total is None else total):
                part.validator_path.unlink(missing_ok=True)
                raise StageFailed(f"sends more than {total or MAX_BYTES:,} bytes", where=url)
            out.write(chunk)
            bar.at(done, total)
    if total is not None and done < total:
        raise _Cut(f"the connection ended after {done:,} of {total:,} bytes")


def _chunks(response: requests.Response) -> Iterator[Any]:
    return response.iter_content(_CHUNK)


def _reason(error: Exception) -> str:
    """The innermost cause in a few words: ``[Errno 111] Connection refused``."""
    text = " ".join(str(error).split())
    found = re.findall(r"\[Errno -?\d+\] [A-Za-z ]+", text)
    return found[-1].strip() if found else text[:160]

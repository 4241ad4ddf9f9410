"""A real HTTP server on this machine that plays the publisher, with the faults a network has."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slim.zoo.download import Patience

QUICK = Patience(tries=3, pause=0.01)


@dataclass
class Publisher:
    """Files by path, and how badly they are served.

    Attributes:
        cut_after: bytes after which a connection is dropped, one entry a request; None: whole.
        ranges: whether Range is honoured.
        cap: most bytes of an answer to Range; the rest has to be asked for again.
        status: answered instead of a file, one entry a request.
        tag: the ETag sent along.
        asked: (path, Range header) of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int | None] = field(default_factory=list)
    ranges: bool = True
    cap: int | None = None
    status: list[int] = field(default_factory=list)
    tag: str = '"1"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    base: str = ""


def _handler(publisher: Publisher) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            publisher.asked.append((self.path.lstrip("/"), wanted))
            data = publisher.files.get(self.path.lstrip("/"))
            status = publisher.status.pop(0) if publisher.status else (200 if data is not None else 404)
            if status != 200 or data is None:
                self.send_error(status)
                return
            start = 0
            same = self.headers.get("If-Range") in (None, publisher.tag)
            if wanted and publisher.ranges and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(data):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(data)}")
                    self.end_headers()
                    return
                end = len(data) if publisher.cap is None else min(len(data), start + publisher.cap)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
                data = data[:end]
            else:
                self.send_response(200)
            if publisher.tag:
                self.send_header("ETag", publisher.tag)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            cut = publisher.cut_after.pop(0) if publisher.cut_after else None
            self.wfile.write(data[start : None if cut is None else start + cut])

        def log_message(self, format: str, *args: object) -> None:
            return None

    return Handler


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """The server, empty."""
    state = Publisher()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.base = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's cache, or the network through a proxy."""
    monkeypatch.setenv("SLIM_CACHE", str(tmp_path / "my cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "my cache"


def tar_of(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """An archive of files, and of whatever else a test describes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()

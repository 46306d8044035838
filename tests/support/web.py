"""A small web server that answers ranges, and goes wrong when it is told to.

``with WebServer(folder) as web: web.url("dem.tif")``. Faults are asked for by path::

    web.fault("dem.tif", 503, times=2)          # twice, then fine
    web.fault("tiles/*", "reset", after=3)      # from the fourth request on
    web.fault("dem.tif", "truncate", pixels=True)  # not what is at the file's beginning
    web.protect("private/*", lambda query: query.get("sig") == "good")
    web.answer("token/dem", lambda query: {"token": "sig=good"})

Every request is in ``web.requests``. The server runs on a thread of this process; other processes
reach it by its URL.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

Query = dict[str, str]

#: Requests beyond this byte are for pixels: the headers of small tests' files lie before it.
_HEADER = 16384


@dataclass(frozen=True)
class Request:
    """What was asked, and the status that it was answered with."""

    method: str
    path: str
    query: Query
    headers: dict[str, str]
    status: int


@dataclass
class Fault:
    """What goes wrong with requests for a path, how often, and from which request on.

    ``kind`` is a status (503), ``"reset"`` (the connection breaks), ``"truncate"`` (the body ends
    early), ``"hang"`` (headers, then nothing for ``seconds``) or ``"slow"`` (a late good answer).
    """

    pattern: str
    kind: int | str
    times: float = float("inf")
    after: int = 0
    pixels: bool = False
    seconds: float = 1.0
    seen: int = 0

    def strikes(self, path: str, first: int) -> bool:
        """Whether this request is struck; counts it."""
        if not fnmatch(path, self.pattern) or (self.pixels and first < _HEADER):
            return False
        self.seen += 1
        return self.after < self.seen <= self.after + self.times


@dataclass
class WebServer:
    """Serves the files under a folder on a port of its own."""

    folder: Path
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    #: Whether files have an ETag and a date by which a client sees that they changed.
    tagged: bool = True

    def __post_init__(self) -> None:
        self._guards: list[tuple[str, Callable[[Query], bool]]] = []
        self._answers: dict[str, Callable[[Query], Any]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler, self)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.close_connections()

    @property
    def root(self) -> str:
        """URL of the folder, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def url(self, path: str | Path) -> str:
        """URL of a file under the folder."""
        return f"{self.root}/{quote(str(path))}"

    def fault(self, pattern: str, kind: int | str, **how: Any) -> Fault:
        """Let requests for paths like this go wrong."""
        fault = Fault(pattern, kind, **how)
        self.faults.append(fault)
        return fault

    def protect(self, pattern: str, allowed: Callable[[Query], bool]) -> None:
        """Answer 403 to requests for paths like this whose query is not allowed."""
        self._guards.append((pattern, allowed))

    def answer(self, path: str, function: Callable[[Query], Any]) -> None:
        """Answer a path with what a function makes of the query: JSON, bytes, or a status."""
        self._answers[path] = function

    def asked(self, pattern: str, status: int | None = None) -> int:
        """How many requests there were for paths like this (with this status)."""
        return sum(
            fnmatch(request.path, pattern) and status in (None, request.status)
            for request in list(self.requests)
        )

    def forget(self) -> None:
        """Forget all faults and requests."""
        self.faults.clear()
        self.requests.clear()

    def struck(self, path: str, first: int) -> Fault | None:
        """The fault of a request that begins at a byte."""
        with self._lock:
            return next((f for f in self.faults if f.strikes(path, first)), None)

    def refused(self, path: str, query: Query) -> bool:
        """Whether a guard refuses."""
        return any(fnmatch(path, pattern) and not ok(query) for pattern, ok in self._guards)

    def made(self, path: str, query: Query) -> Any:
        """What a function answers; None where there is none for the path."""
        function = self._answers.get(path)
        return None if function is None else function(query)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: Any, web: WebServer) -> None:
        super().__init__(address, handler)
        self.web = web
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def _serve(self, body: bool) -> None:
        web: WebServer = self.server.web  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        path, query = unquote(parts.path).lstrip("/"), dict(parse_qsl(parts.query))
        first, last = self._range()
        fault = web.struck(path, first)
        status, content, tags = self._content(web, path, query)
        if fault is not None and isinstance(fault.kind, int):
            status, content, tags = fault.kind, b"broken on purpose", {}
            fault = None
        total = len(content)
        if status == 200 and first >= total > 0:
            status, content = 416, b""
        elif status == 200 and "Range" in self.headers:
            last = min(last, total - 1)
            status, content = 206, content[first : last + 1]
            tags = {**tags, "Content-Range": f"bytes {first}-{last}/{total}"}
        web.requests.append(Request(self.command, path, query, dict(self.headers), status))
        self._send(status, content, tags, fault, body)

    def _send(
        self, status: int, content: bytes, tags: dict[str, str], fault: Fault | None, body: bool
    ) -> None:
        kind = None if fault is None else fault.kind
        if kind == "reset":
            # Closing with a linger of nothing sends a reset.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
            return
        if fault is not None and kind == "slow":
            time.sleep(fault.seconds)
        self.send_response(status)
        for name, value in {"Accept-Ranges": "bytes", **tags}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        if fault is not None and kind in ("truncate", "hang"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if kind == "hang":
                time.sleep(fault.seconds)
            self.close_connection = True
            return
        self.wfile.write(content)

    def _content(
        self, web: WebServer, path: str, query: Query
    ) -> tuple[int, bytes, dict[str, str]]:
        if web.refused(path, query):
            return 403, b"<Error><Code>AuthenticationFailed</Code></Error>", {}
        made = web.made(path, query)
        if isinstance(made, int):
            return made, b"", {}
        if made is not None and not isinstance(made, bytes):
            return 200, json.dumps(made).encode(), {"Content-Type": "application/json"}
        if made is not None:
            return 200, made, {}
        file = web.folder / path
        if not file.is_file():
            return 404, b"there is no such file", {}
        kind = "application/json" if file.suffix in (".json", ".geojson") else "image/tiff"
        tags = {"Content-Type": kind}
        if web.tagged:
            facts = file.stat()
            tags["ETag"] = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
            tags["Last-Modified"] = formatdate(facts.st_mtime, usegmt=True)
        return 200, file.read_bytes(), tags

    def _range(self) -> tuple[int, int]:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None:
            return 0, 1 << 62
        return int(found[1]), int(found[2]) if found[2] else 1 << 62

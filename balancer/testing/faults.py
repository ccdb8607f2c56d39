"""HTTP as the stand-in speaks it, and what can be made to go wrong on it.

The server is :mod:`socketserver` with a parser of its own because it has to cut connections at chosen
moments, and because it is five times as fast as a WSGI server: tests run the clients in the same process.
"""

from __future__ import annotations

import errno
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

CUTS = (None, "before", "after", "midbody")
_LINE = 65_536
_BLANK = (b"\r\n", b"\n", b"")
_REASONS: Mapping[int, str] = {status.value: status.phrase for status in HTTPStatus}

_BODIES: Mapping[int, Any] = MappingProxyType(
    {
        400: {"error": "Parameter prompt is required", "code": 400},
        401: {"error": "Unauthorized", "code": 401},
        402: {"error": "Account has no subscription or subscription expired", "code": 402},
        412: {"error": "Not enough credits: requested 3, available 0", "code": 412},
        422: {"is_flagged": True, "reason": "moderation", "musician_replacement_data": None},
        429: {"error": "Too many requests, all configured accounts are at capacity", "code": 429},
        502: "<html><body>502 Bad Gateway</body></html>",
        503: {"error": {"code": 503, "message": "Service temporarily unavailable.", "status": "UNAVAILABLE"}},
        596: {"error": "Account in error state: session could not be refreshed", "code": 596},
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read to its end."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over the wire."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    """What happens to it on the way."""


def answer(status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Make an answer: JSON from a mapping or list, text and bytes as they are, None for no body."""
    kind = "application/json; charset=utf-8"
    if body is None:
        return Answer(status, b"", headers or {})
    if isinstance(body, str | bytes):
        raw = body.encode() if isinstance(body, str) else body
        kind = "text/html" if raw.lstrip()[:1] == b"<" else "text/plain; charset=utf-8"
    else:
        raw = json.dumps(body, ensure_ascii=False).encode()
    return Answer(status, raw, {"Content-Type": kind, **(headers or {})})


@dataclass(eq=False)
class Fault:
    """One scripted fault. ``hit`` is set when it first strikes; ``lift()`` ends it."""

    pattern: str
    times: int | None = 1
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: str | None = None
    hang: bool = False
    account: str | None = None
    empty: bool = False
    hit: threading.Event = field(default_factory=threading.Event)
    _lifted: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.cut not in CUTS:
            raise ValueError(f"cut must be one of {CUTS}, not {self.cut!r}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times must be None or at least 1, not {self.times!r}")

    @property
    def replaces(self) -> bool:
        """Whether the request is not carried out: another answer, or none, takes its place."""
        return self.status is not None or self.body is not None or self.hang or self.cut == "before"

    @property
    def silent(self) -> bool:
        """Whether nothing at all goes back."""
        return self.hang or self.cut in ("before", "after")

    def scripted(self) -> Answer:
        """Return the answer that takes the place of the real one."""
        status, body = self.status or 200, self.body
        if body is None:
            body = _BODIES.get(status, {"error": "Scripted fault", "code": status})
        return replace(answer(status, body, self.headers), fault=self)

    def onto(self, real: Answer) -> Answer:
        """Return the real answer with this fault on its way."""
        return replace(real, headers={**real.headers, **self.headers}, fault=self)

    def strikes(self, method: str, path: str, account: str | None) -> bool:
        """Return whether it is meant for that request, and may strike still."""
        if self.spent or self.account != account:
            return False
        return any(fnmatchcase(name, self.pattern) for name in (path, f"{method} {path}"))

    def pause(self) -> None:
        """Wait out the delay, or for ever if it hangs; less if the fault is lifted."""
        if self.hang or self.delay:
            self._lifted.wait(None if self.hang else self.delay)

    def lift(self) -> None:
        """End the fault: it strikes no more, and whom it holds up goes on."""
        self._lifted.set()

    @property
    def spent(self) -> bool:
        """Whether it strikes no more."""
        return self.times == 0 or self._lifted.is_set()


class Struck(Exception):
    """Raised on the way to an account where a fault waits that takes the place of the answer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.pattern)
        self.fault = fault


class Faults:
    """Mutable: every fault that was scripted, in that order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._script: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put a fault at the end of the script."""
        with self._lock:
            self._script.append(fault)
        return fault

    def take(
        self, method: str, path: str, account: str | None = None, *, replaces: bool | None = None
    ) -> Fault | None:
        """Return the first fault for that request, or for a create that lands on ``account``.

        ``replaces`` asks only for faults that take the place of the real answer, or only for others.
        """
        with self._lock:
            for fault in self._script:
                if replaces in (None, fault.replaces) and fault.strikes(method, path, account):
                    if fault.times is not None:
                        fault.times -= 1
                    fault.hit.set()
                    return fault
        return None

    def lift_all(self) -> None:
        """End every fault ever scripted, so that nobody hangs on one."""
        with self._lock:
            for fault in self._script:
                fault.lift()


class Connection(socketserver.StreamRequestHandler):
    """One client's connection: requests are read and answered until either side has had enough."""

    disable_nagle_algorithm = True
    server: Server

    def handle(self) -> None:
        """Serve until the connection is over."""
        try:
            while (request := self._read()) is not None and self._answer(request):
                pass
        except (OSError, ValueError):
            return  # gone, or not speaking HTTP: either way there is nobody to tell

    def _read(self) -> Request | None:
        first = self.rfile.readline(_LINE)
        if first in _BLANK:
            return None
        method, target, _ = first.decode("latin-1").split()
        headers = {}
        while (line := self.rfile.readline(_LINE)) not in _BLANK:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Request(method, target, headers, b"".join(self._chunks()))
        return Request(method, target, headers, self._bytes(int(headers.get("content-length", 0))))

    def _bytes(self, size: int) -> bytes:
        """Read so much of a body. Who is killed in the middle of it has asked for nothing."""
        found = self.rfile.read(size)
        if len(found) < size:
            raise ConnectionAbortedError
        return found

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(_LINE).partition(b";")[0], 16):
            yield self._bytes(size)
            self.rfile.readline(_LINE)
        while self.rfile.readline(_LINE) not in _BLANK:
            pass  # trailers say nothing that matters here

    def _answer(self, request: Request) -> bool:
        answer = self.server.handle(request)
        fault = answer.fault
        if fault is not None:
            fault.pause()
            if fault.silent:
                return False
        raw = _raw(answer)
        if fault is not None and fault.cut == "midbody":
            self.wfile.write(raw[: len(raw) - len(answer.body) // 2 - 1])
            return False
        self.wfile.write(raw)
        return request.headers.get("connection", "").lower() != "close"


def _raw(answer: Answer) -> bytes:
    reason = _REASONS.get(answer.status, "Account Error")
    head = [f"HTTP/1.1 {answer.status} {reason}"]
    if answer.status != HTTPStatus.NO_CONTENT:
        head.append(f"Content-Length: {len(answer.body)}")
    head += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join((*head, "", "")).encode("latin-1") + answer.body


class Server(socketserver.TCPServer):
    """One thread a connection. Closing it closes them, and waits until their threads have ended."""

    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, port: int, handle: Callable[[Request], Answer]) -> None:
        self.handle = handle
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        try:
            super().__init__(("127.0.0.1", port), Connection)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            message = f"port {port} is in use: take another one, or 0 for a free one (--port 0)"
            raise OSError(errno.EADDRINUSE, message) from None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection in a thread of its own."""
        name = f"fake-useapi-{client_address[1]}"
        thread = threading.Thread(target=self._serve, args=(request, client_address), name=name, daemon=True)
        with self._lock:
            self._open[request] = thread
        thread.start()

    def server_close(self) -> None:
        """Stop listening, close every connection, and wait for their threads."""
        super().server_close()
        with self._lock:
            connections = list(self._open.items())
        for request, thread in connections:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was faster
            thread.join()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)

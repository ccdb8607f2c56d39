"""HTTP as it comes off the wire: just enough of it, and nothing that a fault could not break.

The server is :mod:`socketserver` with a parser of its own because it has to cut connections at chosen
moments, and because it is five times as fast as a WSGI server: tests run the clients in the same process.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from balancer.testing.faults import Answer

_LINE = 65_536
_BLANK = (b"\r\n", b"\n", b"")
_REASONS: Mapping[int, str] = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read to its end."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = b""


Handle = Callable[[Request], Answer]


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
        return Request(method, target, headers, self.rfile.read(int(headers.get("content-length", 0))))

    def _answer(self, request: Request) -> bool:
        chunked = "transfer-encoding" in request.headers
        answer = Answer(HTTPStatus.LENGTH_REQUIRED) if chunked else self.server.handle(request)
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
        return not chunked and request.headers.get("connection", "").lower() != "close"


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

    def __init__(self, port: int, handle: Handle) -> None:
        super().__init__(("127.0.0.1", port), Connection)
        self.handle = handle
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}

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

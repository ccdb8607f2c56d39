"""The stand-in for useapi.net: a real HTTP server on this machine, and what a test does to it.

The server is :mod:`socketserver` with a parser of its own because it has to cut connections at chosen
moments, and because it is five times as fast as a WSGI server: tests run the clients in the same process.
"""

from __future__ import annotations

import errno
import random
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from http import HTTPStatus
from types import MappingProxyType, TracebackType
from typing import Any, Self

from balancer.clock import Clock
from balancer.services.schema import Service
from balancer.testing.audit import AccountAudit, Audit
from balancer.testing.callbacks import Callbacks, Replies, Reply
from balancer.testing.faults import Answer, Fault, Faults, Request
from balancer.testing.routes import Routes, namer
from balancer.testing.services import own_fields
from balancer.testing.state import Job, Sites, State

_LINE = 65_536
_BLANK = (b"\r\n", b"\n", b"")
_REASONS: Mapping[int, str] = {status.value: status.phrase for status in HTTPStatus}


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
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Request(method, target, headers, b"".join(self._chunks()))
        return Request(method, target, headers, self.rfile.read(int(headers.get("content-length", 0))))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(_LINE).partition(b";")[0], 16):
            yield self.rfile.read(size)
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

    def __init__(self, port: int, handle: Handle) -> None:
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


Entry = int | Mapping[str, Any]
"""An account's maximum, or fields for its entry; a field given as None is left out of it."""
Seconds = tuple[float, float] | Callable[[], float]
_POLL = 0.02
JOB_SECONDS = (1.0, 3.0)
"""How long jobs take here, a sixtieth of what songs and videos take there: a test has no minutes."""


class FakeUseapi:
    """Speaks like useapi.net on ``127.0.0.1``: accounts, creates, jobs, load lists, callbacks, faults.

    Args:
        accounts: Service key -> account id -> its maximum, or fields for its entry.
        services: Rows of your own that it speaks as well; their bodies follow from what the rows say.
        token: The API token that it accepts.
        job_seconds: Shortest and longest life of a job, or a callable that returns one in seconds;
            by default from one to three. ``math.inf``: it ends by :meth:`finish` only.
        speed: Jobs take this many times less than ``job_seconds``.
        rng: Source of every choice. Give a seeded one to have the same run again.
        clock: Callable that returns monotonic seconds, such as a :class:`ManualClock`.
        lag: Age in seconds of what the load lists show.
        port: 0 for a free one. An OSError tells that a port is in use.
        failures: Share of the jobs that end as ``failed``.
        enforce: Whether a create beyond the maximum is refused; if not, it is accepted and audited.
        omit: Service keys or create paths whose jobs no list shows.
        replies: How callbacks are delivered: a :class:`Reply`, or a callable that takes the fields of
            the create and returns one.

    Use it as a context manager, or call :meth:`start` and :meth:`close`.
    """

    def __init__(
        self,
        accounts: Mapping[str, Mapping[str, Entry]],
        *,
        services: Iterable[Service] = (),
        token: str = "user:1234-test-token",  # noqa: S107  # made up, and good for nothing else
        speed: float = 1.0,
        job_seconds: Seconds = JOB_SECONDS,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        lag: float = 0.0,
        port: int = 0,
        failures: float = 0.0,
        enforce: bool = True,
        omit: Collection[str] = (),
        replies: Replies | None = None,
    ) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, not {speed!r}")
        rng = rng or random.Random()
        self.token = token
        self._clock = Clock(clock)
        seconds = _seconds(job_seconds, speed, rng)
        self._state = State(self._clock, rng, seconds, failures=failures, enforce=enforce, lag=lag)
        self._sites = Sites(services)
        self._faults = Faults()
        self._callbacks = Callbacks(self._clock, self._callback, replies or Reply())
        self._routes = Routes(
            self._state, self._sites, self._faults, self._callbacks, self._clock, token=token, omit=omit
        )
        self._thread: threading.Thread | None = None
        self._serving = False
        for service, entries in accounts.items():
            for account, entry in entries.items():
                self.set_account(service, account, entry)
        self._server = Server(port, self._routes)
        self._routes.root = self.url

    def __repr__(self) -> str:
        return f"<FakeUseapi at {self.url}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Host root, to be given to a pool as ``base_url``."""
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> Self:
        """Answer requests from now on, in threads of its own."""
        if self._thread is None:
            self._serving = True
            self._thread = threading.Thread(target=self.serve_forever, name="fake-useapi", daemon=True)
            self._thread.start()
        return self

    def serve_forever(self) -> None:
        """Answer requests in this thread until :meth:`close` is called from another one."""
        self._serving = True
        self._server.serve_forever(_POLL)

    def close(self) -> None:
        """Stop: faults are lifted, connections closed, threads ended. Idempotent."""
        self._faults.lift_all()
        self._state.close()
        if self._serving:
            self._server.shutdown()
        if self._thread is not None:
            self._thread.join()
        self._server.server_close()
        self._callbacks.close()

    def set_account(self, service: str, account: str, entry: Entry) -> None:
        """Add an account, or replace what is configured for it; jobs on it run on."""
        site = self._sites.of(service)
        own = own_fields(site, entry) if isinstance(entry, int) else entry
        slots = entry if isinstance(entry, int) else None
        self._state.configure(site.name, account, own, slots)

    def remove_account(self, service: str, account: str) -> None:
        """Take an account out of the configuration; jobs on it run on. KeyError if it is not there."""
        self._state.remove(self._sites.of(service).name, account)

    def break_account(self, service: str, account: str, reason: str) -> None:
        """Have the list say that an account is broken, and answer 596 to its creates."""
        self._state.mark(self._sites.of(service).name, account, reason)

    def heal_account(self, service: str, account: str) -> None:
        """Undo :meth:`break_account`."""
        self._state.mark(self._sites.of(service).name, account, None)

    def start_stranger(self, service: str, account: str, *, listed: bool = True) -> str:
        """Start a job that nobody asked this server for, and return its id.

        It takes a slot. ``listed=False``: the load lists do not show it, as with a job started on the
        site itself.
        """
        site, row = self._sites.of(service), self._sites.row(service)
        return self._state.stranger(site.name, row, account, namer(row.key), listed=listed).id

    def finish(self, job_id: str | int, status: str = "completed") -> None:
        """End a job now, as ``completed`` or ``failed``. A job that has ended stays as it is.

        Raises:
            KeyError: there never was such a job.
            ValueError: there is no such status.
        """
        if status not in ("completed", "failed"):
            raise ValueError(f"status must be 'completed' or 'failed', not {status!r}")
        job = self._state.job(str(job_id))
        if job is None:
            raise KeyError(job_id)
        self._state.end(job, status)
        self._callbacks.plan_final(job)

    def running(self, service: str, account: str | None = None) -> tuple[str, ...]:
        """Return the ids of the jobs that run now, strangers included."""
        return tuple(job.id for job in self._state.running(self._sites.row(service).key, account))

    def fault(
        self,
        path_pattern: str,
        *,
        times: int | None = 1,
        status: int | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        cut: str | None = None,
        hang: bool = False,
        account: str | None = None,
    ) -> Fault:
        """Script a fault for requests whose path matches; faults strike in the order of their script.

        Args:
            path_pattern: Shell-style, of the decoded path (``"*/accounts"``) or of method and path
                (``"POST */music"``).
            times: How often it strikes; None: until lifted.
            status: Answer this in place of carrying out the request; ``body`` has a default for each.
            body: A JSON value, or text or bytes as they are.
            headers: More headers, also on a real answer.
            delay: Real seconds between the request and its answer; a create is carried out before.
            cut: ``"before"``: the connection is closed, nothing was carried out; ``"after"``: the
                request was carried out, its answer is lost; ``"midbody"``: half of the body is sent.
            hang: No answer until the fault is lifted or the server closed; nothing is carried out.
            account: Strike only creates that land on this account, named or chosen.
        """
        return self._faults.add(
            Fault(path_pattern, times, status, body, headers or {}, delay, cut, hang, account)
        )

    def lie(self, path_pattern: str, *, times: int | None = 1) -> Fault:
        """Have a list of accounts or of jobs say, with a 200, that there are none."""
        return self._faults.add(Fault(path_pattern, times, empty=True))

    def audit(self) -> Audit:
        """Return what was counted so far."""
        lanes, over = self._state.lanes()
        accounts: dict[str, dict[str, AccountAudit]] = {}
        for lane in lanes:
            accounts.setdefault(lane.service, {})[lane.account] = lane.audit()
        creates = self._routes
        return Audit(
            accounts=MappingProxyType(accounts),
            over=over,
            accepted=sum(one.accepted for lanes in accounts.values() for one in lanes.values()),
            refused=creates.refused,
            refused_other=creates.refused_other,
            requests=MappingProxyType(dict(self._routes.requests)),
        )

    def _callback(self, job: Job, status: str) -> Any:
        body = self._routes.told(job, status)
        return body | self._routes.look(job, status).reply


def _seconds(given: Seconds, speed: float, rng: random.Random) -> Callable[[], float]:
    if callable(given):
        return lambda: given() / speed
    low, high = given
    if not 0 <= low <= high:
        raise ValueError(f"job_seconds must be (shortest, longest), not {given!r}")
    return lambda: (low if low == high else rng.uniform(low, high)) / speed

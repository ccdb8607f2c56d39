"""The stand-in for useapi.net: a real HTTP server on this machine, and what a test does to it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

from balancer.clock import Clock
from balancer.services.schema import Service
from balancer.testing.app import App
from balancer.testing.audit import AccountAudit, Audit
from balancer.testing.book import Book
from balancer.testing.callbacks import Callbacks, Replies, Reply
from balancer.testing.entries import own_fields
from balancer.testing.faults import Fault, Faults
from balancer.testing.jobs import Job
from balancer.testing.shapes import shape_of, told
from balancer.testing.sites import Sites
from balancer.testing.views import look
from balancer.testing.wire import Server

Entry = int | Mapping[str, Any]
"""An account's maximum, or fields for its entry; a field given as None is left out of it."""
Seconds = tuple[float, float] | Callable[[], float]
_POLL = 0.02


class FakeUseapi:
    """Speaks like useapi.net on ``127.0.0.1``: accounts, creates, jobs, load lists, callbacks, faults.

    Args:
        accounts: Service key -> account id -> its maximum, or fields for its entry.
        services: Rows of your own that it speaks as well; their bodies follow from what the rows say.
        token: The API token that it accepts.
        speed: Jobs take this many times less than ``job_seconds``.
        job_seconds: Shortest and longest life of a job, or a callable that returns one in seconds.
            ``math.inf``: it ends by :meth:`finish` only.
        rng: Source of every choice. Give a seeded one to have the same run again.
        clock: Callable that returns monotonic seconds, such as a :class:`ManualClock`.
        lag: Age in seconds of what the load lists show.
        port: 0 for a free one.
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
        job_seconds: Seconds = (60.0, 180.0),
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
        self._book = Book(self._clock, rng, seconds, failures=failures, enforce=enforce, lag=lag)
        self._sites = Sites(services)
        self._faults = Faults()
        self._callbacks = Callbacks(self._clock, self._callback, replies or Reply())
        self._app = App(
            self._book, self._sites, self._faults, self._callbacks, self._clock, token=token, omit=omit
        )
        self._thread: threading.Thread | None = None
        self._serving = False
        for service, entries in accounts.items():
            for account, entry in entries.items():
                self.set_account(service, account, entry)
        self._server = Server(port, self._app)

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
        self._book.configure(site.name, account, own, slots)

    def remove_account(self, service: str, account: str) -> None:
        """Take an account out of the configuration; jobs on it run on. KeyError if it is not there."""
        self._book.remove(self._sites.of(service).name, account)

    def break_account(self, service: str, account: str, reason: str) -> None:
        """Have the list say that an account is broken, and answer 596 to its creates."""
        self._book.mark(self._sites.of(service).name, account, reason)

    def heal_account(self, service: str, account: str) -> None:
        """Undo :meth:`break_account`."""
        self._book.mark(self._sites.of(service).name, account, None)

    def start_stranger(self, service: str, account: str, *, listed: bool = True) -> str:
        """Start a job that nobody asked this server for, and return its id.

        It takes a slot. ``listed=False``: the load lists do not show it, as with a job started on the
        site itself.
        """
        site, row = self._sites.of(service), self._sites.row(service)
        shape = shape_of(row.key)

        def name(id: str, number: int, rng: random.Random) -> str:
            return shape.job_id(row.key, id, number, rng)

        return self._book.stranger(site.name, row, account, name, listed=listed).id

    def finish(self, job_id: str | int, status: str = "completed") -> None:
        """End a job now, as ``completed`` or ``failed``. A job that has ended stays as it is.

        Raises:
            KeyError: there never was such a job.
            ValueError: there is no such status.
        """
        if status not in ("completed", "failed"):
            raise ValueError(f"status must be 'completed' or 'failed', not {status!r}")
        job = self._book.job(str(job_id))
        if job is None:
            raise KeyError(job_id)
        self._book.end(job, status)
        self._callbacks.plan_final(job)

    def running(self, service: str, account: str | None = None) -> tuple[str, ...]:
        """Return the ids of the jobs that run now, strangers included."""
        return tuple(job.id for job in self._book.running(self._sites.row(service).key, account))

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
        lanes, over = self._book.lanes()
        accounts: dict[str, dict[str, AccountAudit]] = {}
        for lane in lanes:
            accounts.setdefault(lane.service, {})[lane.account] = lane.audit()
        creates = self._app.creates
        return Audit(
            accounts=MappingProxyType(accounts),
            over=over,
            accepted=sum(one.accepted for lanes in accounts.values() for one in lanes.values()),
            refused=creates.refused,
            refused_other=creates.refused_other,
            requests=MappingProxyType(dict(self._app.requests)),
        )

    def _callback(self, job: Job, status: str) -> Any:
        return told(job, self._clock, status) | look(job, status, self._clock).reply


def _seconds(given: Seconds, speed: float, rng: random.Random) -> Callable[[], float]:
    if callable(given):
        return lambda: given() / speed
    low, high = given
    if not 0 <= low <= high:
        raise ValueError(f"job_seconds must be (shortest, longest), not {given!r}")
    return lambda: (low if low == high else rng.uniform(low, high)) / speed

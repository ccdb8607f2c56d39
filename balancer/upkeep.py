"""Keeping the configuration and the server's list of jobs up to date.

It turns the advice of the catalog and the survey into threads: each fetch and each reconciliation
gets a short-lived daemon thread of its own, as an event loop's executor may be full of callers who
wait for that very fetch. The first table is held back until the first list of running jobs is in,
so that a process that was started again finds its old jobs before it grants anything.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from balancer.catalog import Advice, Catalog
from balancer.clock import Clock
from balancer.errors import BalancerError, PoolClosed, SourceUnavailable, foreign
from balancer.ledger import Changes
from balancer.lines import Waiter
from balancer.matching import Plan
from balancer.model import Listing, Reconciled, Table
from balancer.options import Options
from balancer.source import to_listing, to_table
from balancer.store.base import Store
from balancer.survey import Survey
from balancer.tally import Row


class Upkeep:
    """The table in force, the list of running jobs, and the threads that read them.

    Mutable, all of it under the store's lock: the catalog, the survey, the first table while it is
    held back, and who waits for a thread to land.
    """

    def __init__(self, options: Options, store: Store) -> None:
        self.options = options
        self.source = options.source
        self.store = store
        self.clock: Clock = options.clock
        self.now = options.clock.now
        self.closed = False
        self.catalog = Catalog(options.ttl, options.stale_if_error, self.now)
        jobs = getattr(self.source, "jobs", None)
        self.lists_jobs = callable(jobs) and bool(getattr(self.source, "lists_jobs", True))
        self.survey = Survey(options.reconcile_every if self.lists_jobs else None)
        self.pending: Table | None = None
        """The first table, until the first list of running jobs is in."""
        self.expired_at = -math.inf
        """When an answer last said that the configuration has changed."""
        self.watching: set[Waiter] = set()
        """Callers who wait for a fetch or a list to land."""
        self._turn = threading.Lock()
        """Held by the thread that puts a fetched table in force: one after the other."""

    # -- advice -------------------------------------------------------------------------------

    def due(self, now: float) -> float:
        """When somebody has to look again, as far as the source goes (under the lock)."""
        if self.closed:
            return -math.inf
        survey = self.survey.next_due(now, bool(self.store.lines.counted), self.store.loose_since)
        return min(self.catalog.next_due(), survey)

    def consult(self) -> Advice:
        """Return what a caller who needs the table should do, and start what is due.

        Raises:
            PoolClosed: the pool is closed.
        """
        with self.store.lock:
            if self.closed:
                raise PoolClosed("the pool is closed")
            now = self.now()
            advice = self.catalog.advise(now)
            fetch = self.catalog.flight.start(now) if advice is Advice.START else 0
            survey = self._start_survey(now)
        if fetch:
            # What another process fetched will do, but not from before an answer spoke against it.
            self._spawn(self._fetch, fetch, min(self.options.ttl, now - self.expired_at))
        if survey:
            self._spawn(self._list_jobs, survey, self.survey.every or 0.0)
        if advice is Advice.USE and self.store.table is None and not self.open_when_ready():
            return Advice.WAIT
        return advice

    def confirm(self) -> bool:
        """Have the table confirmed before somebody is turned away by it. False: it is recent enough."""
        with self.store.lock:
            if self.catalog.flight.running:
                return True
            now = self.now()
            if not self.catalog.may_confirm(now):
                return False
            number = self.catalog.flight.start(now)
        self._spawn(self._fetch, number, 0.0)
        return True

    def trouble(self) -> BalancerError:
        """Return why there is no table, for one caller to raise."""
        trouble = self.catalog.trouble
        return SourceUnavailable("no configuration yet") if trouble is None else trouble.afresh()

    def expire(self) -> None:
        """Have the next caller fetch the configuration: an answer says that it has changed."""
        with self.store.lock:
            self.expired_at = self.now()
            self.catalog.expire()
            self.store.quiet_until = -math.inf

    # -- waiting for a thread ---------------------------------------------------------------------

    @property
    def in_flight(self) -> bool:
        """Whether a fetch or a list is under way."""
        return self.catalog.flight.running or self.survey.flight.running

    @property
    def flights_end(self) -> float:
        """When the first of what is under way is given up."""
        return min(self.catalog.flight.deadline, self.survey.flight.deadline)

    def expire_flights(self) -> None:
        """Give up what is over its deadline."""
        with self.store.lock:
            now = self.now()
            self.catalog.advise(now)
            self.survey.expire(now)

    @contextmanager
    def watched_by(self, waiter: Waiter) -> Iterator[None]:
        """Have ``waiter`` woken when a fetch or a list lands."""
        with self.store.lock:
            self.watching.add(waiter)
        try:
            yield
        finally:
            with self.store.lock:
                self.watching.discard(waiter)

    def wake_watchers(self) -> None:
        """Have those look around who wait for a fetch or a list (under the lock)."""
        self.store.outbox.extend(self.watching)

    # -- the configuration ----------------------------------------------------------------------

    def begin_fetch(self) -> int:
        """Start a fetch whatever the table's age, unless one is under way. Return the flight's number."""
        with self.store.lock:
            now, flight = self.now(), self.catalog.flight
            running = flight.running and not flight.overdue(now)
            number = flight.number if running else flight.start(now)
        if not running:
            self._spawn(self._fetch, number, 0.0)
        return number

    def adopt(self, table: Table, age: float) -> None:
        """Take over a table that another process has fetched."""
        with self.store.lock:
            self.catalog.adopt(table, self.now() - age)
        if self.store.table is not None:
            self._put_in_force(table)

    def start_over(self) -> None:
        """Load everything anew: the store has lost its memory, and grants need the accounts and old jobs."""
        with self.store.lock:
            if self.store.table is None:
                return
            self.store.table = None
            self.catalog.forget()
            self.survey.forget()
            self.store.wake_all()
        self.store.flush()

    def _fetch(self, number: int, max_age: float) -> None:
        outcome, age = self.store.fetch(lambda: self._ask(self._read_table), max_age)
        self._land_fetch(number, outcome, age)

    def _read_table(self) -> Table:
        return to_table(self.source.accounts(), self.options.service, self.options.default_capacity)

    def _land_fetch(self, number: int, outcome: Table | BalancerError, age: float) -> None:
        """Take over what a fetch brought, unless it was given up in the meantime.

        The table is in force before the fetch counts as landed: who waited for it finds it so. And
        no later fetch can be overtaken, as it only starts after that.
        """
        with self._turn:
            if isinstance(outcome, Table) and self.store.table is not None and self._flies(number):
                self._put_in_force(outcome)
            survey = self._land(number, outcome, age)
        if survey is None:
            return
        if survey:
            self._spawn(self._list_jobs, survey, self.survey.every or 0.0)
        if isinstance(outcome, Table):
            self.store.note("debug", "configuration_fetched", accounts=len(outcome))
        else:
            kind = type(outcome).__name__
            self.store.note("warning", "configuration_failed", error=str(outcome), kind=kind)
        self.open_when_ready()
        self.store.step()

    def _flies(self, number: int) -> bool:
        with self.store.lock:
            return self.catalog.flight.running and self.catalog.flight.number == number

    def _land(self, number: int, outcome: Table | BalancerError, age: float) -> int | None:
        """Return the number of the reconciliation to start, 0 for none; None: the fetch was given up."""
        survey = 0
        with self.store.lock:
            now = self.now()
            if not self.catalog.land(number, outcome, now, age):
                return None
            if isinstance(outcome, Table) and self.store.table is None:
                self.pending = outcome
                survey = self._start_survey(now)
            elif not isinstance(outcome, Table):
                self.store.wake_all()
            self.wake_watchers()
        return survey

    def open_when_ready(self) -> bool:
        """Let grants begin once the first table is in, and the first list too or given up."""
        with self._turn:
            with self.store.lock:
                flight, pending = self.survey.flight, self.pending
                if pending is None or (flight.running and not flight.overdue(self.now())):
                    return pending is None
            self._put_in_force(pending)
            with self.store.lock:
                if self.pending is pending:
                    self.pending = None
                self.wake_watchers()
        self.store.flush()
        return True

    def _put_in_force(self, table: Table) -> None:
        changes = Changes.between(self.store.table, table)
        if self.store.table is not None and not (changes.put or changes.gone):
            return  # the one in force says the same, and nobody has to look around
        for account in changes.put:
            if account.broken is not None:
                self.store.note("warning", "account_broken", account=account.id, reason=account.broken)
        self.store.configure(changes, table)

    # -- the server's list of running jobs --------------------------------------------------------

    def begin_survey(self) -> int:
        """Start a reconciliation now, unless one is under way. Return the flight's number."""
        with self.store.lock:
            now, flight = self.now(), self.survey.flight
            running = flight.running and not flight.overdue(now)
            number = flight.number if running else self.survey.start(now)
        if not running:
            self._spawn(self._list_jobs, number, 0.0)
        return number

    def _start_survey(self, now: float) -> int:
        """Begin a reconciliation if one is due (under the lock). Return its number, or 0."""
        waiting = bool(self.store.lines.counted)
        due = self.survey.due(now, self.pending is not None, waiting, self.store.loose_since)
        return self.survey.start(now) if due and not self.closed else 0

    def _list_jobs(self, number: int, max_age: float) -> None:
        def wanted() -> bool:
            return self.survey.flight.running and self.survey.flight.number == number

        interval = self.survey.every or 0.0
        plan = self.store.survey(lambda: self._ask(self._read_jobs), wanted, interval, max_age)
        with self.store.lock:
            landed = self.survey.land(number, plan)
            if landed and isinstance(plan, Plan):
                self.survey.result = self._told(plan)
        if not landed:
            return
        if isinstance(plan, BalancerError):
            self.store.note("warning", "reconcile_failed", error=str(plan), kind=type(plan).__name__)
        self.open_when_ready()
        with self.store.lock:
            self.wake_watchers()
        self.store.step()

    def _read_jobs(self) -> Listing:
        return to_listing(self.source.jobs())

    def _told(self, plan: Plan) -> Reconciled:
        def ids(rows: list[Row]) -> tuple[str, ...]:
            return tuple(self.store.text(row.key) for row in rows)

        resolved = [*plan.resolve, *(row for row, _ in plan.bind)]
        return Reconciled(plan.external, ids(plan.reclaim), ids(resolved), ids(plan.keep))

    # -- threads ------------------------------------------------------------------------------------

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Return an answer of the source, or the error that it failed with, stripped of its frames."""
        try:
            return question()
        except BalancerError as error:
            return error.with_traceback(None)
        except BaseException as error:  # noqa: BLE001  # an exit or a cancellation ends in this thread
            failure = SourceUnavailable(f"the source failed with {type(error).__name__}")
            failure.__cause__ = foreign(error)
            return failure

    def _spawn(self, target: Callable[..., None], number: int, *args: float) -> None:
        thread = threading.Thread(
            target=target, args=(number, *args), name=f"balancer{target.__name__}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had
            failure = SourceUnavailable(f"no thread to be had: {error}")
            if target == self._fetch:
                self._land_fetch(number, failure, 0.0)
            else:
                with self.store.lock:
                    self.survey.land(number, failure)

    def close(self) -> None:
        """Refuse new callers and send those who wait away."""
        with self.store.lock:
            self.closed = True
            self.store.quiet_until = -math.inf
            self.store.wake_all()
            self.wake_watchers()
        self.store.flush()

    def after_fork(self) -> None:
        """Begin anew in a child: threads and callers are the parent's."""
        self._turn = threading.Lock()
        self.watching.clear()
        self.catalog.abandon()
        self.survey.abandon()
        self.pending = None
        again = getattr(self.source, "after_fork", None)
        if again is not None:
            again()
        if self.catalog.table is not None:
            self.store.configure(Changes.between(None, self.catalog.table), self.catalog.table)

"""Keeping the configuration and the server's list of jobs up to date.

It turns the advice of the schedule into background tasks: each fetch and each reconciliation gets a
short-lived daemon thread, as an event loop's executor may be full of callers who wait for that very fetch.
The first table is held back until the first list of running jobs is in, so that a process that was started
again finds its old jobs before it grants anything.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from balancer.config import PoolConfig
from balancer.errors import BalancerError, PoolClosed, SourceUnavailable, sanitized
from balancer.models import Account, AccountTable, JobList, ReconcileResult
from balancer.rules.freshness import Freshness, Schedule
from balancer.rules.ledger import Changes
from balancer.rules.reconciliation import Plan
from balancer.rules.records import LeaseRecord
from balancer.stores.base import ReentrantCall, Store
from balancer.useapi.http_client import what_failed
from balancer.useapi.sources import HttpSource, describe, lists_jobs, to_listing, to_table
from balancer.waiting.queue import Waiter


class Refresher:
    """The table in force, the list of running jobs, and when each is read.

    Mutable, under the store's lock: what the schedule says, the first table while it is held back, and who
    waits for a fetch or a list.
    """

    def __init__(self, options: PoolConfig, store: Store, schedule: Schedule) -> None:
        self.options, self.store, self.schedule = options, store, schedule
        self.now = options.clock.now
        self.configuration, self.reconcile_schedule = schedule.configuration, schedule.reconcile_schedule
        self.source = options.source
        self.lists_jobs = lists_jobs(self.source)
        self.watching: set[Waiter] = set()
        """Callers who wait for a fetch or a list to land."""
        self.pending: AccountTable | None = None
        """The first table, until the first list of running jobs is in."""
        self.expired_at = -math.inf
        """When an answer last said that the configuration has changed."""
        self.known_broken: set[str] = set()
        """Accounts of which was told that they are broken: said once, until they are well again."""
        self._turn = threading.RLock()
        """Held by the thread that puts a fetched table in force: one after the other."""

    # -- who waits for what is under way ---------------------------------------------------------

    @property
    def in_flight(self) -> bool:
        """Whether a fetch or a list is under way."""
        return self.configuration.single_flight.running or self.reconcile_schedule.single_flight.running

    @property
    def first_deadline(self) -> float:
        """When the first of what is under way is given up."""
        return min(self.configuration.single_flight.deadline, self.reconcile_schedule.single_flight.deadline)

    def expire_overdue(self) -> None:
        """Give up what is over its deadline."""
        with self.store.lock:
            now = self.now()
            self.configuration.advise(now)
            self.reconcile_schedule.expire(now)

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
        self.store.to_wake.extend(self.watching)

    def _send(self, task: Callable[[], None], name: str, failed: Callable[[BalancerError], Any]) -> None:
        """Run a task in a thread of its own; have it said ``failed`` if there is none to be had."""
        thread = threading.Thread(target=task, name=f"balancer-{name}", daemon=True)
        try:
            if not sys.is_finalizing():
                thread.start()
                return
            why = "the process is ending"
        except RuntimeError as error:
            why = str(error)
        failed(SourceUnavailable(f"no thread to be had: {why}"))

    # -- advice -------------------------------------------------------------------------------

    def consult(self) -> Freshness:
        """Return what a caller who needs the table should do, and start what is due.

        Raises:
            PoolClosed: the pool is closed. ReentrantCall: this thread is in the middle of a step.
        """
        store = self.store
        if store.is_inside():
            raise ReentrantCall
        if store.table is not None and self.now() < store.next_housekeeping_at:
            return Freshness.USE
        return self._start_what_is_due()

    def _start_what_is_due(self) -> Freshness:
        with self.store.lock:
            if self.schedule.closed:
                raise PoolClosed(f"the pool of {self.options.service.key} is closed")
            now = self.now()
            advice = self.configuration.advise(now)
            fetch = self.configuration.single_flight.start(now) if advice is Freshness.START else 0
            reconciliation = self._start_reconciliation(now)
        if fetch:
            # What another process fetched will do, but not from before an answer spoke against it.
            self._send_fetch(fetch, min(self.options.ttl, now - self.expired_at))
        if reconciliation:
            self._send_reconciliation(reconciliation, self.reconcile_schedule.every or 0.0)
        if advice is Freshness.USE and self.store.table is None and not self.open_when_ready():
            return Freshness.WAIT
        return advice

    def keep_up(self) -> None:
        """Start what is due on behalf of those who wait; send them to look if there is nothing to go by."""
        try:
            # Whatever is said to be due when: that somebody waits is a reason of its own.
            if self._start_what_is_due() is not Freshness.RAISE:
                return
        except PoolClosed:
            pass
        with self.store.lock:
            self.store.wake_all()
        self.store.flush()

    def confirm(self) -> bool:
        """Have the table confirmed before somebody is turned away by it. False: it is recent enough."""
        with self.store.lock:
            if self.configuration.single_flight.running:
                return True
            now = self.now()
            if not self.configuration.may_confirm(now):
                return False
            number = self.configuration.single_flight.start(now)
        self._send_fetch(number, 0.0)
        return True

    def trouble(self) -> BalancerError:
        """Return why there is no table, for one caller to raise."""
        trouble = self.configuration.trouble
        return SourceUnavailable(self.missing()) if trouble is None else trouble.copy_for_raise()

    def missing(self) -> str:
        """Say what has to come in before there can be a grant, from where, and why the last try failed."""
        listing = self.pending is not None
        what = "the list of running jobs" if listing else "the account list"
        asked = describe(self.source, jobs=listing)
        trouble = self.reconcile_schedule.trouble if listing else self.configuration.trouble
        # What is tried again just now says more than the end of the attempt before it.
        now = self.source.failing(jobs=listing) if isinstance(self.source, HttpSource) else None
        if now is None and trouble is not None:
            return f"{what} is not there yet; the last try failed: {trouble}"
        return f"{what} is not there yet; {asked}: {now or 'no answer so far'}"

    def expire(self) -> None:
        """Have the next caller fetch the configuration: an answer says that it has changed."""
        with self.store.lock:
            self.expired_at = self.now()
            self.configuration.expire()
            self.store.look_again_at(-math.inf)

    # -- the configuration ----------------------------------------------------------------------

    def begin_fetch(self) -> int:
        """Start a fetch whatever the table's age, unless one is under way. Return the flight's number."""
        with self.store.lock:
            now, single_flight = self.now(), self.configuration.single_flight
            running = single_flight.running and not single_flight.overdue(now)
            number = single_flight.number if running else single_flight.start(now)
        if not running:
            self._send_fetch(number, 0.0)
        return number

    def adopt(self, table: AccountTable, age: float) -> None:
        """Take over a table that another process has fetched."""
        with self.store.lock:
            self.configuration.adopt(table, self.now() - age)
        if self.store.table is not None:
            self._put_in_force(table)

    def start_over(self) -> None:
        """Load everything anew: the store has lost its memory, and grants need the accounts and old jobs."""
        with self.store.lock:
            if self.store.table is None:
                return
            self.store.table = None
            self.store.version += 1  # who was judged by the lost table has to look again
            self.configuration.forget()
            self.reconcile_schedule.forget()
            self.store.wake_all()
        self.store.flush()

    def _send_fetch(self, number: int, max_age: float) -> None:
        self._send(
            lambda: self._fetch(number, max_age),
            "fetch",
            lambda failure: self._land_fetch(number, failure, 0.0),
        )

    def _fetch(self, number: int, max_age: float) -> None:
        outcome, age = self.store.fetch(
            lambda: answer_of(self._read_table, describe(self.source, jobs=False)), max_age
        )
        self._land_fetch(number, outcome, age)

    def _read_table(self) -> AccountTable:
        return to_table(self.source.accounts(), self.options.service, self.options.default_capacity)

    def _land_fetch(self, number: int, outcome: AccountTable | BalancerError, age: float) -> None:
        """Take over what a fetch brought, unless it was given up in the meantime.

        The table is in force before the fetch counts as landed: who waited for it finds it so. And
        no later fetch can be overtaken, as it only starts after that.
        """
        with self._turn:
            if isinstance(outcome, AccountTable) and self.store.table is not None and self._flies(number):
                self._put_in_force(outcome)
            reconciliation = self._land(number, outcome, age)
        if reconciliation is None:
            return
        if reconciliation:
            self._send_reconciliation(reconciliation, self.reconcile_schedule.every or 0.0)
        if isinstance(outcome, AccountTable):
            self.store.note("debug", "configuration_fetched", accounts=len(outcome))
        else:
            kind = type(outcome).__name__
            self.store.note("warning", "configuration_failed", error=str(outcome), kind=kind)
        self.open_when_ready()
        self.store.step()

    def _flies(self, number: int) -> bool:
        with self.store.lock:
            return (
                self.configuration.single_flight.running and self.configuration.single_flight.number == number
            )

    def _land(self, number: int, outcome: AccountTable | BalancerError, age: float) -> int | None:
        """Return the number of the reconciliation to start, 0 for none; None: the fetch was given up."""
        reconciliation = 0
        with self.store.lock:
            now = self.now()
            if not self.configuration.land(number, outcome, now, age):
                return None
            if isinstance(outcome, AccountTable) and self.store.table is None:
                self.pending = outcome
                reconciliation = self._start_reconciliation(now)
            elif not isinstance(outcome, AccountTable):
                self.store.wake_all()
            self.wake_watchers()
        return reconciliation

    def open_when_ready(self) -> bool:
        """Let grants begin once the first table is in, and the first list too or given up."""
        with self._turn:
            with self.store.lock:
                single_flight, pending = self.reconcile_schedule.single_flight, self.pending
                if pending is None or (single_flight.running and not single_flight.overdue(self.now())):
                    return pending is None
            self._put_in_force(pending)
            with self.store.lock:
                if self.pending is pending:
                    self.pending = None
                self.wake_watchers()
        self.store.flush()
        return True

    def _put_in_force(self, table: AccountTable) -> None:
        changes = Changes.between(self.store.table, table)
        if self.store.table is not None and not (changes.put or changes.gone):
            return  # the one in force says the same, and nobody has to look around
        self._tell_of_broken(changes.put, table)
        self.store.configure(changes, table)

    def _tell_of_broken(self, put: Iterable[Account], table: AccountTable) -> None:
        known = self.known_broken
        for account in put:
            if account.broken is not None and account.id not in known:
                known.add(account.id)
                self.store.note("warning", "account_broken", account=account.id, reason=account.broken)
            elif account.broken is None and account.id in known:
                known.discard(account.id)
                self.store.note("warning", "account_recovered", account=account.id)
        known.intersection_update(table.accounts)

    # -- the server's list of running jobs --------------------------------------------------------

    def begin_reconciliation(self) -> int:
        """Start a reconciliation now, unless one is under way. Return the flight's number."""
        with self.store.lock:
            now, single_flight = self.now(), self.reconcile_schedule.single_flight
            running = single_flight.running and not single_flight.overdue(now)
            number = single_flight.number if running else self.reconcile_schedule.start(now)
        if not running:
            self._send_reconciliation(number, 0.0)
        return number

    def _start_reconciliation(self, now: float) -> int:
        """Begin a reconciliation if one is due (under the lock). Return its number, or 0."""
        waiting = bool(self.store.wait_queue.counted)
        due = self.reconcile_schedule.due(
            now, self.pending is not None, waiting, self.store.oldest_detached_since
        )
        return self.reconcile_schedule.start(now) if due and not self.schedule.closed else 0

    def _send_reconciliation(self, number: int, max_age: float) -> None:
        def failed(failure: BalancerError) -> None:
            with self.store.lock:
                self.reconcile_schedule.land(number, failure)

        self._send(lambda: self._list_jobs(number, max_age), "list", failed)

    def _list_jobs(self, number: int, max_age: float) -> None:
        def wanted() -> bool:
            return (
                self.reconcile_schedule.single_flight.running
                and self.reconcile_schedule.single_flight.number == number
            )

        interval = self.reconcile_schedule.every or 0.0
        plan = self.store.reconcile(
            lambda: answer_of(self._read_jobs, describe(self.source, jobs=True)), wanted, interval, max_age
        )
        with self.store.lock:
            landed = self.reconcile_schedule.land(number, plan)
            if landed and isinstance(plan, Plan):
                self.reconcile_schedule.result = self._told(plan)
        if not landed:
            return
        if isinstance(plan, BalancerError):
            self.store.note("warning", "reconcile_failed", error=str(plan), kind=type(plan).__name__)
        self.open_when_ready()
        with self.store.lock:
            self.wake_watchers()
        self.store.step()

    def _read_jobs(self) -> JobList:
        return to_listing(self.source.jobs())

    def _told(self, plan: Plan) -> ReconcileResult:
        def ids(records: list[LeaseRecord]) -> tuple[str, ...]:
            return tuple(self.store.lease_id(record.key) for record in records)

        resolved = [*plan.resolve, *(record for record, _ in plan.bind)]
        return ReconcileResult(plan.external, ids(plan.reclaim), ids(resolved), ids(plan.keep))

    # -- life -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Refuse new callers and send those who wait away."""
        with self.store.lock:
            self.schedule.closed = True
            self.store.next_housekeeping_at = -math.inf
            self.store.wake_all()
            self.wake_watchers()
        self.store.flush()

    def after_fork(self) -> None:
        """Begin anew in a child: threads and callers are the parent's."""
        self._turn = threading.RLock()
        self.watching.clear()
        self.configuration.abandon()
        self.reconcile_schedule.abandon()
        self.pending = None
        again = getattr(self.source, "after_fork", None)
        if again is not None:
            again()
        if self.configuration.table is not None:
            self.store.configure(Changes.between(None, self.configuration.table), self.configuration.table)


def answer_of(question: Callable[[], Any], asked: str) -> Any:
    """Return an answer of the source, or the error that it failed with, stripped of its frames.

    ``asked`` is what of the source was asked, for an error that does not say so itself.
    """
    try:
        return question()
    except BalancerError as error:
        return error.with_traceback(None)
    except BaseException as error:  # noqa: BLE001  # an exit or a cancellation ends in this thread
        failure = SourceUnavailable(f"{asked} failed: {what_failed(error)}")
        failure.__cause__ = sanitized(error)
        return failure

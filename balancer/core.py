"""The heart of one pool in one process, shared by its sync and its async face.

It holds what the pool was made with, and turns the advice of the catalog and the survey into
threads: each fetch and each reconciliation gets a short-lived daemon thread of its own, as an event
loop's executor may be full of callers who wait for that very fetch.
"""

from __future__ import annotations

import math
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from balancer.catalog import Advice, Catalog
from balancer.clock import Clock
from balancer.errors import BalancerError, LeaseLost, PoolClosed, SourceUnavailable, foreign
from balancer.ledger import Changes, Ledger
from balancer.lines import Waiter
from balancer.matching import Plan, Snapshot, match
from balancer.model import Listing, Reconciled, Table
from balancer.options import Options, Wish, account_id, job_text, seconds
from balancer.source import to_listing, to_table
from balancer.store.memory import MemoryStore
from balancer.survey import Survey
from balancer.tally import AMBIGUOUS, BOUND, Key, Row

_cores: weakref.WeakSet[Core] = weakref.WeakSet()
_announced: set[str] = set()
"""Retired services that this process has been told about."""


class Origin:
    """What the leases of one pool in one process have in common: the pool, and how their ids begin.

    A forked child gets a new one; so ids stay unique, and a lease that is not of the present origin
    is known to belong to the parent.
    """

    __slots__ = ("core", "host_pid", "prefix")

    def __init__(self, core: Core) -> None:
        self.core = core
        self.prefix = secrets.token_hex(6)
        self.host_pid = f"{os.uname().nodename}:{os.getpid()}"

    def text(self, key: Key) -> str:
        """Return the id of the lease with number ``key``."""
        return f"{self.prefix}-{key:x}"

    def key(self, text: str) -> int | None:
        """Return the number in a lease id, or None if it is not of this origin."""
        prefix, _, number = text.rpartition("-")
        try:
            return int(number, 16) if prefix == self.prefix else None
        except ValueError:
            return None


class Core:
    """One pool in one process."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.service = options.service
        self.source = options.source
        self.clock: Clock = options.clock
        self.now = options.clock.now
        self.draw = options.draw
        self.origin = Origin(self)
        self.closed = False
        self.catalog = self._new_catalog()
        lists = callable(getattr(self.source, "jobs", None)) and getattr(self.source, "lists_jobs", True)
        self.lists_jobs = lists
        self.survey = Survey(options.reconcile_every if lists else None)
        self.pending: Table | None = None
        """The first table, held back until the first list of running jobs is in."""
        self.watching: set[Waiter] = set()
        """Callers who wait for a fetch or for the first list."""
        self.warned: set[str] = set()
        """Warnings that are given once a pool."""
        self.store = MemoryStore(self._new_ledger, self.now, self.draw)
        self.store.other_due = self._due
        self.store.ttls = {BOUND: options.job_ttl, AMBIGUOUS: options.ambiguous_ttl}
        self.store.text = self.text
        self._customer = self._who()
        _cores.add(self)
        self.clock.watch(self.tick)

    def _who(self) -> tuple[str, str, str] | None:
        token = self.options.token
        if token is None or not token.fixed or not self.options.owns_source:
            return None
        return token.customer(), self.service.key, getattr(self.source, "base_url", "")

    def _new_catalog(self) -> Catalog:
        return Catalog(self.options.ttl, self.options.stale_if_error, self.now)

    def _new_ledger(self) -> Ledger:
        return Ledger(self.options.strategy, self.now, lower_only=self.service.max_jobs is None)

    def text(self, key: Key) -> str:
        """Return the id by which users know the lease ``key``."""
        return self.origin.text(key)

    # -- leases -------------------------------------------------------------------------------

    def release(self, lease_id: object, job_id: object) -> bool:
        """End a lease by its id or by its job's. True if this ended one."""
        if _one_of(lease_id, job_id) == "job_id":
            return self.store.release_job(job_text(job_id))
        key = self.origin.key(_lease_text(lease_id))
        return key is not None and self.store.release(key)

    def renew(self, lease_id: object, job_id: object, ttl: float | None) -> None:
        """Move the end of a lease. Raises LeaseLost if there is none."""
        life = None if ttl is None else seconds("ttl", ttl, above=True)
        if _one_of(lease_id, job_id) == "job_id":
            key = self.store.key_of_job(job_text(job_id))
        else:
            key = self.origin.key(_lease_text(lease_id))
        if key is None:
            raise LeaseLost(f"no lease {lease_id or job_id!r} is live", lease_id=str(lease_id or ""))
        self.store.renew(key, life)

    def cool(self, account: object, length: float, reason: str) -> None:
        """Put an account in a cooldown by hand."""
        if not isinstance(reason, str):
            raise TypeError(f"reason must be a string, not {type(reason).__name__}")
        id = account_id("account_id", account)
        if not self.store.cool(id, None, seconds("seconds", length), reason):
            raise ValueError(f"account_id {id!r} is not in the configuration")

    def reset(self, account: object) -> None:
        """Clear what verdicts made of an account."""
        id = account_id("account_id", account)
        if not self.store.reset(id):
            raise ValueError(f"account_id {id!r} is not in the configuration")

    # -- time ---------------------------------------------------------------------------------

    def _due(self, now: float) -> float:
        """When the catalog or the survey needs somebody next (under the lock)."""
        if self.closed:
            return -math.inf
        survey = self.survey.next_due(now, bool(self.store.lines.counted), self.store.ledger.loose.next)
        return min(self.catalog.next_due(now), survey)

    def tick(self) -> None:
        """Look around because the clock was moved: some may have waited long enough."""
        with self.store.lock:
            self.store.wake_all()
            self.store.outbox.extend(self.watching)
        self.store.flush()

    # -- fetching -----------------------------------------------------------------------------

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
            number = self.catalog.flight.start(now) if advice is Advice.START else 0
            survey = self._start_survey(now)
        if number:
            self._spawn("fetch", self._fetch, number)
        if survey:
            self._spawn("reconcile", self._list_jobs, *survey)
        if advice is Advice.USE and self.store.table is None and not self._open_when_ready():
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
        self._spawn("fetch", self._fetch, number)
        return True

    def trouble(self) -> BalancerError:
        """Return why there is no table, for one caller to raise."""
        trouble = self.catalog.trouble
        return SourceUnavailable("no configuration yet") if trouble is None else trouble.afresh()

    @property
    def in_flight(self) -> bool:
        """Whether a fetch, or the list that grants wait for, is under way."""
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

    def begin_fetch(self) -> int:
        """Start a fetch whatever the table's age, unless one is under way. Return the flight's number."""
        with self.store.lock:
            flight = self.catalog.flight
            running = flight.running and not flight.overdue(self.now())
            number = flight.number if running else flight.start(self.now())
        if not running:
            self._spawn("fetch", self._fetch, number)
        return number

    def _fetch(self, number: int) -> None:
        self.land_fetch(number, self._ask(self._read_table))

    def _read_table(self) -> Table:
        return to_table(self.source.accounts(), self.service, self.options.default_capacity)

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Return an answer of the source, or the error that it failed with, stripped of its frames."""
        try:
            return question()
        except BalancerError as error:
            return error.with_traceback(None)
        except Exception as error:
            failure = SourceUnavailable(f"the source failed with {type(error).__name__}")
            failure.__cause__ = foreign(error)
            return failure

    def land_fetch(self, number: int, outcome: Table | BalancerError) -> None:
        """Take over what a fetch brought, unless it was given up in the meantime."""
        survey = None
        with self.store.lock:
            now = self.now()
            if not self.catalog.land(number, outcome, now):
                return
            old = self.store.table
            if isinstance(outcome, Table):
                if old is None:
                    self.pending = outcome
                    survey = self._start_survey(now)
            else:
                self.store.wake_all()
            self._wake_watchers()
        if survey:
            self._spawn("reconcile", self._list_jobs, *survey)
        changes = Changes.between(old, outcome) if isinstance(outcome, Table) else Changes()
        self._report_fetch(outcome, changes)
        if old is not None and isinstance(outcome, Table):
            self.store.configure(changes, outcome)
        self._open_when_ready()
        self.store.step()

    def _report_fetch(self, outcome: Table | BalancerError, changes: Changes) -> None:
        note = self.store.note
        key = self.service.key
        if isinstance(outcome, Table):
            note("debug", "configuration_fetched", service=key, accounts=len(outcome))
            for account in changes.put:
                if account.broken is not None:
                    note("warning", "account_broken", service=key, account=account.id, reason=account.broken)
        else:
            note(
                "warning",
                "configuration_failed",
                service=key,
                error=str(outcome),
                kind=type(outcome).__name__,
            )

    # -- the server's list of running jobs ----------------------------------------------------

    def _start_survey(self, now: float) -> tuple[int, Snapshot] | None:
        """Begin a reconciliation if one is due (under the lock)."""
        first = self.pending is not None
        waiting = bool(self.store.lines.counted)
        if self.closed or not self.survey.due(now, first, waiting, self.store.ledger.loose.next):
            return None
        return self.survey.start(now), Snapshot.of(self.store.ledger, now)

    def begin_survey(self) -> int:
        """Start a reconciliation now, unless one is under way. Return the flight's number."""
        with self.store.lock:
            now = self.now()
            flight = self.survey.flight
            running = flight.running and not flight.overdue(now)
            number = flight.number if running else self.survey.start(now)
            before = Snapshot.of(self.store.ledger, now)
        if not running:
            self._spawn("reconcile", self._list_jobs, number, before)
        return number

    def _list_jobs(self, number: int, before: Snapshot) -> None:
        self.land_survey(number, before, self._ask(lambda: to_listing(self.source.jobs())))

    def land_survey(self, number: int, before: Snapshot, outcome: Listing | BalancerError) -> None:
        """Take over what the server listed; a failure changes nothing."""
        with self.store.lock:
            if not self.survey.land(number, outcome):
                return
        self._open_when_ready()
        if isinstance(outcome, Listing):
            interval = self.survey.every or 0.0
            plan = self.store.apply(lambda ledger, now: match(outcome, before, ledger, interval, self.text))
            self._report_survey(plan)
        else:
            self.store.note("warning", "reconcile_failed", service=self.service.key, error=str(outcome))
        with self.store.lock:
            self._wake_watchers()
        self.store.step()

    def _report_survey(self, plan: Plan) -> None:
        def ids(rows: list[Row]) -> tuple[str, ...]:
            return tuple(self.text(row.key) for row in rows)

        resolved = [*plan.resolve, *(row for row, _ in plan.bind)]
        self.survey.result = Reconciled(plan.external, ids(plan.reclaim), ids(resolved), ids(plan.keep))
        for row in plan.reclaim:
            self.store.note("warning", "lease_reclaimed", **self.store.facts(row))

    def _open_when_ready(self) -> bool:
        """Let grants begin once the first table is in, and the first list too or given up."""
        with self.store.lock:
            flight = self.survey.flight
            pending = self.pending
            if pending is None or (flight.running and not flight.overdue(self.now())):
                return pending is None
            self.pending = None
        self.store.configure(Changes.between(None, pending), pending)
        with self.store.lock:
            self._wake_watchers()
        self.store.flush()
        return True

    # -- life ---------------------------------------------------------------------------------

    def announce(self) -> None:
        """Warn about what is known to be wrong with this pool from the beginning."""
        if self.service.retired is not None and self.service.key not in _announced:
            _announced.add(self.service.key)
            self.store.note("warning", "service_retired", service=self.service.key, why=self.service.retired)
        if self.rivals():
            self.store.note(
                "warning",
                "duplicate_memory_pool",
                service=self.service.key,
                hint="each would use the whole capacity: share one pool, or a store",
            )
        self.store.flush()

    def rivals(self) -> bool:
        """Whether another open memory pool of this process counts the same customer's accounts."""
        return self._customer is not None and any(
            core is not self and not core.closed and core._customer == self._customer for core in _cores
        )

    def describe(self) -> str:
        """Return what a repr says of the pool."""
        with self.store.lock:
            ledger = self.store.ledger
            held, accounts, waiting = len(ledger.rows), len(ledger.tallies), self.store.lines.counted
        state = ", closed" if self.closed else ""
        return f"{self.service.key}: {held} in flight on {accounts} accounts, {waiting} waiting{state}"

    def expire(self) -> None:
        """Have the next caller fetch the configuration: an answer says that it has changed."""
        with self.store.lock:
            self.catalog.expire()
            self.store.quiet_until = -math.inf

    def warn_unbound(self, lease_id: str, job_id: str) -> None:
        """Log once that the slot of an accepted job was freed while the job may still run."""
        if "slot_ended_before_job" not in self.warned:
            self.warned.add("slot_ended_before_job")
            self.store.note(
                "warning",
                "slot_ended_before_job",
                service=self.service.key,
                lease=lease_id,
                job_id=job_id,
                hint="bind the lease to the job, and release it when the job is over",
            )

    def warn_long_wait(self, wish: Wish, seconds: float) -> None:
        """Log that a caller has been waiting for long."""
        self.store.note(
            "warning",
            "waiting_long",
            service=self.service.key,
            waited_s=seconds,
            label=wish.label,
            account=wish.account,
        )
        self.store.flush()

    def _spawn(self, what: str, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name=f"balancer-{what}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had
            failure = SourceUnavailable(f"no thread for a {what}: {error}")
            if what == "fetch":
                self.land_fetch(args[0], failure)
            else:
                self.land_survey(args[0], args[1], failure)

    def _wake_watchers(self) -> None:
        self.store.outbox.extend(self.watching)

    def close(self) -> None:
        """Refuse new callers and send those who wait away. Leases stay valid."""
        with self.store.lock:
            if self.closed:
                return
            self.closed = True
            self.store.quiet_until = -math.inf
            self.store.wake_all()
            self._wake_watchers()
        self.store.flush()
        close = getattr(self.source, "close", None)
        if close is not None and self.options.owns_source:
            close()

    def after_fork(self) -> None:
        """Begin anew in a child: its leases, its callers and its threads are the parent's."""
        self.origin = Origin(self)
        self.store.after_fork()
        self.watching.clear()
        self.catalog.abandon()
        self.survey.abandon()
        again = getattr(self.source, "after_fork", None)
        if again is not None:
            again()
        table = self.catalog.table
        self.pending = None
        if table is not None:
            self.store.configure(Changes.between(None, table), table)


def _after_fork_in_child() -> None:
    for core in list(_cores):
        core.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _one_of(lease_id: object, job_id: object) -> str:
    if (lease_id is None) is (job_id is None):
        raise TypeError("give either lease_id or job_id")
    return "lease_id" if job_id is None else "job_id"


def _lease_text(lease_id: object) -> str:
    if not isinstance(lease_id, str):
        raise TypeError(f"lease_id must be a string, not {type(lease_id).__name__}")
    return lease_id

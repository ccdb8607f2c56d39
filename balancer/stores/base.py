"""What every store keeps in this process, and what it promises.

One lock guards all that changes in a pool within a process: the ledger (where it is in this process),
the configuration, the queue, the totals. No I/O, no logging and no code of the user's runs under it; who
is to be woken and what is to be logged is noted here, and done by :meth:`Store.flush`.

**Re-entrance.** A garbage collection, a signal handler, a tracer may run code of the user's, or of this
library's, in the middle of any of our steps, in the thread that has the lock. The lock lets its own thread
in again, so nothing hangs; ``busy`` tells that a step is under way; and what must not be refused (ending
a lease, leaving a block or the queue, closing) is then noted and done by whoever is inside, on the way out.
Everything else is refused with a :class:`ReentrantCall`.
"""

from __future__ import annotations

import enum
import itertools
import math
import os
import secrets
import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from balancer import events
from balancer.errors import BalancerError
from balancer.models import AccountTable, JobList
from balancer.rules.freshness import Schedule
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.operations import Cool, LimitChange, Report
from balancer.rules.reconciliation import Plan
from balancer.rules.records import Key, LeaseRecord, SlotRequest
from balancer.useapi.verdicts import Verdict, VerdictDetails
from balancer.waiting.drivers import Step
from balancer.waiting.queue import Waiter, WaitQueue

T = TypeVar("T")
WaiterMaker = Callable[[LeaseRecord, float, float | None], Waiter]
"""Makes a waiter for a lease, of when it came and its timeout."""
WAITS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds, in seconds, of the classes that waiting times are counted in."""


class ReentrantCall(RuntimeError):
    """The pool was called in the middle of one of its own steps, by the very thread that is in it."""

    def __init__(self) -> None:
        super().__init__(
            "the pool was called from a finalizer, a signal handler or a tracer in the middle of a step "
            "of its own: from there leases can be released, and the pool be closed or asked for its stats, "
            "and nothing else; have a thread or the event loop do it a moment later"
        )


class Outcome(enum.Enum):
    """What became of one try to get a slot."""

    GRANTED = "the lease is held"
    QUEUED = "the caller stands in the queue"
    LOOK = "the configuration has to be looked at first"
    HOPELESS = "waiting cannot help, as far as is known"
    TIMED_OUT = "there is no slot, and no time left"


class Process:
    """One pool in one process: its leases' ids begin with its name. A forked child is another one."""

    __slots__ = ("host_pid", "name")

    def __init__(self) -> None:
        self.name = secrets.token_hex(6)
        self.host_pid = f"{os.uname().nodename}:{os.getpid()}"
        """For people."""

    def lease_id(self, key: Key) -> str:
        """Return the id of the lease that a store knows as ``key``."""
        return key if isinstance(key, str) else f"{self.name}-{key:x}"

    def number(self, lease_id: str) -> int | None:
        """Return the number in a lease id, or None if it is not of this process."""
        try:
            number = int(lease_id.removeprefix(self.name + "-"), 16)
        except ValueError:
            return None
        return number if lease_id == self.lease_id(number) else None  # int() takes much for a number


class Totals:
    """What this process has done since the pool was made."""

    __slots__ = ("acquired", "expired", "reclaimed", "timeouts", "waited", "waits")

    def __init__(self) -> None:
        self.acquired = self.expired = self.reclaimed = self.timeouts = 0
        self.waits = [0] * (len(WAITS) + 1)
        """Leases that were not granted at once, by how long that took."""
        self.waited = 0.0
        """Seconds that all of them took together."""

    def count_wait(self, seconds: float) -> None:
        """Count a lease that was not granted at once (under the lock)."""
        self.waits[bisect_left(WAITS, seconds)] += 1
        self.waited += seconds


def report_of(record: LeaseRecord, details: VerdictDetails) -> Report:
    """Return what a verdict has the store do."""
    return Report(
        key=record.key,
        account=record.account_state.id,
        accepted=details.verdict is Verdict.ACCEPTED,
        doubt=details.verdict is Verdict.AMBIGUOUS,
        adverse=details.verdict.adverse,
        seconds=None if details.pool_wide else details.seconds,
        scope=record.scope if details.scoped else None,
        reason=details.reason,
        worth_waiting=details.worth_waiting,
        named=details.named,
        # With a capacity of its own the server went by that; and after its job was taken, by something else.
        teaches=details.teaches and record.max_jobs is None and not record.accepted,
    )


class Outlook(NamedTuple):
    """What a caller is told who is turned away. Instants are the pool's clock's; infinity: never."""

    states: dict[str, str]
    """Account id -> its state, or why it is of no use to the caller."""
    detached: int
    """Bound and ambiguous leases."""
    detached_since: float
    """Since when the oldest of them has been so."""
    next_end: float
    """When a slot may come free by itself."""
    closed_until: float = -math.inf
    """Until when nothing is granted, as the store waits for all processes to say what they hold."""


def next_end(ledger: Ledger, slot_request: SlotRequest, most: int) -> float:
    """Return when something ends by itself that the request may hope for; infinity: nobody knows.

    Of more than ``most`` candidates it is the earliest end of anything, which may be of no use to it.
    """
    few = list(islice(ledger.candidates(slot_request), most + 1))
    if len(few) > most:
        return ledger.timers.next
    ends: list[float] = []
    for account_state in few:
        if account_state.usable:
            cooling = [each.until for each in account_state.cooldowns_for(slot_request.scope) if each.cooling]
            soon = [record.end for record in account_state.held.values() if record.end is not None]
            soon.append(account_state.changes_at)
            ends.append(max(cooling) if cooling else min(soon))
    return min(ends, default=math.inf)


class Store(ABC):
    """Who holds what, and who waits for it.

    Methods that return a :data:`balancer.waiting.drivers.Step` need I/O on shared stores: they return
    their result, or a flow that brings it. The others never do I/O, or run in threads made for it.

    Args:
        process: This pool in this process.
        now: Monotonic seconds.
        service: Key of the service, for events.
        ttls: State of a lease -> seconds until it ends by itself.
        schedule: When the configuration and the list of jobs are to be asked for.
        on_due_at: Told when something is due next, while anybody waits.
        on_abandoned: Told, from a finalizer, that there is a lease to be ended while anybody waits.
    """

    shared: bool
    """Whether other processes count their leases in it too."""
    take_over: Callable[[AccountTable, float], None]
    """Takes over a table, and its age, that another process has fetched (shared stores)."""
    here: Any = None
    """Its ``inside`` tells whether this thread is in the middle of an operation, where another would have to
    wait for that (shared stores)."""
    start_over: Callable[[], None]
    """Has the configuration loaded anew, as if for the first time: the store has lost it (shared stores)."""

    def __init__(
        self,
        *,
        process: Process,
        now: Callable[[], float],
        service: str,
        ttls: Mapping[str, float],
        schedule: Schedule,
        on_due_at: Callable[[float], None],
        on_abandoned: Callable[[], None],
    ) -> None:
        self.process, self.now, self.service, self.ttls = process, now, service, ttls
        self.schedule = schedule
        self._on_due_at, self._on_abandoned = on_due_at, on_abandoned
        self.serial = itertools.count(1).__next__
        """Numbers for leases, never given twice."""
        self.to_wake: deque[Waiter] = deque()
        self.dead_waiters: deque[Waiter] = deque()
        """Callers whose event loop is closed, to be withdrawn."""
        self.events: deque[tuple[str, str, dict[str, Any]]] = deque()
        self.deferred: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        """What is to be done by the next step: leases whose object was garbage collected, and what was
        asked for in the middle of a step. Who defers something only appends."""
        self._withdrawing = threading.local()
        self._start()

    def _start(self) -> None:
        """Begin with nothing: at first, and in a forked child."""
        self.lock = threading.RLock()
        self.busy = False
        """A step is under way (under the lock)."""
        self.wait_queue = WaitQueue()
        self.totals = Totals()
        self.table: AccountTable | None = None
        """The table that the accounts were made from."""
        self.version = 0
        """Counts the tables that were in force."""
        self.next_housekeeping_at = -math.inf
        """Until when a free slot may be handed out without any housekeeping."""

    def lease_id(self, key: Key) -> str:
        """Return the id by which users know the lease ``key``."""
        return self.process.lease_id(key)

    # -- what is done once the lock is free ---------------------------------------------------------

    def note(self, level: str, event: str, **keys: Any) -> None:
        """Have an event logged once the lock is free."""
        self.events.append((level, event, {"service": self.service, **keys}))

    def note_cooling(self, account: str, cause: Report | Cool) -> None:
        """Have it logged that an account cools down."""
        self.note(
            "info",
            "account_cooling",
            account=account,
            scope=cause.scope,
            seconds=cause.seconds,
            reason=cause.reason,
        )

    def note_limits(self, changes: Iterable[LimitChange]) -> None:
        """Have it logged what was learned about how many jobs accounts bear."""
        for change in changes:
            account, limit, capacity = change.account, change.limit, change.capacity
            if change.raised:
                self.note("info", "limit_raised", account=account, limit=limit, capacity=capacity)
            else:
                self.note("info", "limit_learned", account=account, limit=limit, capacity=capacity)

    def facts(self, record: LeaseRecord) -> dict[str, Any]:
        """Return what an event says about a lease."""
        place = {} if record.acquired_by is None else {"acquired_by": record.acquired_by}
        return place | {
            "lease": self.lease_id(record.key),
            "account": record.account_state.id,
            "job_id": record.job_id,
            "label": record.label,
            "state": record.state,
            "held_s": round(self.now() - record.held_since, 3),
        }

    def is_inside(self) -> bool:
        """Whether this thread is in the middle of a step, of a look at what is due, or of an operation."""
        has_lock: bool = self.lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001  # as Condition asks it
        return has_lock or (self.here is not None and self.here.inside)

    def flush(self) -> None:
        """Do what was deferred; wake and log what was noted. Who has the lock does not log: that may wait."""
        if self.deferred and not self.busy:
            self.step()
        to_wake = self.to_wake
        while to_wake:
            try:
                waiter = to_wake[0]
            except IndexError:  # another thread was quicker
                break
            try:
                waiter.wake()
            except RuntimeError:  # its event loop is closed: nobody will ever take what it was granted
                self.dead_waiters.append(waiter)
            try:
                to_wake.remove(
                    waiter
                )  # last: to wake it twice does no harm, an interruption in between would
            except ValueError:  # another thread did it
                pass
        if not (self.events or self.dead_waiters) or self.is_inside():
            return
        if self.dead_waiters and not getattr(self._withdrawing, "now", False):
            self._withdraw_dead()
        while self.events:
            try:
                level, event, keys = self.events.popleft()
            except IndexError:
                break
            events.emit(level, event, **keys)

    def _withdraw_dead(self) -> None:
        """Withdraw those whose loop is closed, one after the other: each may hand its slot to the next."""
        self._withdrawing.now = True
        try:
            while self.dead_waiters:
                try:
                    waiter = self.dead_waiters[0]
                except IndexError:
                    break
                self.withdraw(waiter)
                try:
                    self.dead_waiters.remove(waiter)
                except ValueError:  # another thread did it
                    pass
        finally:
            self._withdrawing.now = False

    def wake_all(self) -> None:
        """Have every waiter look around (under the lock)."""
        self.to_wake.extend(self.wait_queue.waiters)

    def look_again_at(self, at: float) -> None:
        """Have the timekeeper know when something is due next (under the lock)."""
        self.next_housekeeping_at = at
        if self.schedule.closed:  # it may have been closed since ``at`` was worked out
            self.next_housekeeping_at = -math.inf
        if self.wait_queue.waiters:
            self._on_due_at(at)

    # -- life -----------------------------------------------------------------------------------------

    @abstractmethod
    def close(self, *, wait: bool = True) -> None:
        """Let go of what is not needed to end the leases that are out.

        ``wait``: for what is still to be sent, for a moment. An event loop must not stand still for that.
        """

    def after_fork(self, process: Process) -> None:
        """Start empty in a child: a lock that another thread held at the fork is held for ever there."""
        self.process = process
        for queue in (self.to_wake, self.dead_waiters, self.events, self.deferred):
            queue.clear()
        self._start()

    # -- waiting ------------------------------------------------------------------------------

    @abstractmethod
    def try_again(self, waiter: Waiter, max_waiting: int | None) -> Step[Outcome]:
        """Grant the waiter its lease, or have it stand in the queue, at its place in time.

        Raises:
            TooManyWaiting: ``max_waiting`` wait already.
        """

    @abstractmethod
    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted goes to the next. No I/O."""

    @abstractmethod
    def defer_withdrawal(self, waiter: Waiter) -> None:
        """Have whoever comes next withdraw ``waiter``, should nobody do so before."""

    @abstractmethod
    def step(self) -> None:
        """Do what is due, for a clock that was moved or whoever keeps the time for those who wait."""

    # -- leases -------------------------------------------------------------------------------

    new_key: Callable[[], Key]
    """Returns a key for a lease, never given twice."""

    @abstractmethod
    def release(self, key: Key) -> Step[bool]:
        """End the lease ``key``, whatever its state. True once."""

    @abstractmethod
    def release_job(self, job_id: str) -> Step[bool]:
        """End the lease bound to a job; remember the job if there is none yet."""

    @abstractmethod
    def abandon(self, record: LeaseRecord) -> None:
        """Take note, from a finalizer, of a lease whose object is gone."""

    @abstractmethod
    def bind(self, key: Key, job_ids: tuple[str, ...], ttl: float) -> Step[bool]:
        """Tie a lease to its jobs for ``ttl`` seconds. False: all were over already, the slot is free.

        Raises:
            LeaseLost: the lease has ended. ValueError: a job is another lease's.
        """

    @abstractmethod
    def adopt(
        self, record: LeaseRecord, job_id: str, account_id: str, ttl: float
    ) -> Step[LeaseRecord | None]:
        """Write down, as ``record``, a job that runs for ``ttl`` seconds more, even over the bound.

        Return its lease, which is another one if the job is bound already, and has ended if it was released.
        None: the account is not in the configuration.
        """

    @abstractmethod
    def renew(self, key: Key | None, job_id: str | None, ttl: float | None) -> Step[bool]:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now. False: there is none."""

    @abstractmethod
    def report(self, record: LeaseRecord, details: VerdictDetails) -> Step[None]:
        """Put what an answer said about the account and the lease into effect."""

    def report_on_leaving(self, record: LeaseRecord, details: VerdictDetails) -> Step[None]:
        """Do as :meth:`report`, for a caller that leaves its block: it may be in the middle of a step."""
        return self.report(record, details)

    @abstractmethod
    def mark_ambiguous(self, key: Key) -> None:
        """Keep the slot of a lease whose job may run, without a verdict on its account.

        No I/O: the caller may be on its way out and unable to wait. A shared store is told soon.
        """

    # -- accounts -----------------------------------------------------------------------------

    @abstractmethod
    def cool(self, account_id: str, seconds: float, reason: str) -> Step[bool]:
        """Put an account in a cooldown by hand. False: there is no such account."""

    @abstractmethod
    def reset(self, account_id: str) -> Step[bool]:
        """Clear what verdicts made of an account. False: there is no such account."""

    @abstractmethod
    def configure(self, changes: Changes, table: AccountTable) -> None:
        """Bring the accounts of this process in line with the table now in force."""

    # -- what is asked of the source, in a thread made for it ---------------------------------------

    @abstractmethod
    def fetch(
        self, ask: Callable[[], AccountTable | BalancerError], max_age: float
    ) -> tuple[AccountTable | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds.

        One that another process fetched less than ``max_age`` seconds ago will do.
        """

    @abstractmethod
    def reconcile(
        self,
        ask: Callable[[], JobList | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        max_age: float,
    ) -> Plan | BalancerError:
        """Have the server's list read and put into effect, unless it is no longer ``wanted`` by then.

        One that another process read less than ``max_age`` seconds ago will do.
        """

    # -- reading ------------------------------------------------------------------------------

    @abstractmethod
    def inspect(self, look: Callable[[Ledger], T], *, patience: float = math.inf) -> Step[T]:
        """Return what ``look`` reads from the ledger, at one moment.

        ``patience``: seconds for which a store that is busy is asked again, and for some of which one that
        is away is. Raises StoreUnavailable.
        """

    def outlook(self, slot_request: SlotRequest, most: int) -> Step[Outlook]:
        """Return what a caller is told who is turned away: of at most ``most`` accounts that it could use."""

        def look(ledger: Ledger) -> Outlook:
            shown = islice(ledger.candidates(slot_request), most)
            return Outlook(
                states={each.id: ledger.state_for(slot_request, each) for each in shown},
                detached=len(ledger.detached_since),
                detached_since=ledger.detached_since.next,
                next_end=next_end(ledger, slot_request, most),
            )

        return self.inspect(look, patience=0.0)

    @property
    @abstractmethod
    def oldest_detached_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so; infinity: none is (under the lock)."""

    @property
    @abstractmethod
    def released(self) -> int:
        """Leases that were ended by this process, since the pool was made."""

    @abstractmethod
    def describe(self) -> str:
        """Return what a repr says of the store, without I/O."""

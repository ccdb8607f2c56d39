"""What every store keeps in this process: the lock, the lines of callers, and whom to wake.

One lock guards all that changes in a pool within a process: the ledger (where it is in this process),
the catalog, the lines, the totals. (One way goes without it, see :mod:`balancer.stores.memory_fast_path`.) No I/O,
no logging and no code of the user's runs under it; what is to be logged and who is to be woken is noted
here, and done by :meth:`Desk.flush`.
"""

from __future__ import annotations

import itertools
import math
import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from balancer import events
from balancer.errors import TooManyWaiting
from balancer.models import AccountTable
from balancer.rules.records import Key, LeaseRecord
from balancer.stores.origin import Origin
from balancer.waiting.queue import Waiter, WaitQueue

WAITS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds, in seconds, of the classes that waiting times are counted in."""


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


class Desk(ABC):
    """The part of a store that is in this process, whatever the store."""

    shared = False
    """Whether other processes count their leases in it too."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.lock = threading.Lock()
        self.wait_queue = WaitQueue()
        self.totals = Totals()
        self.to_wake: deque[Waiter] = deque()
        self.dead_waiters: deque[Waiter] = deque()
        """Callers whose event loop is closed, to be withdrawn."""
        self._here = threading.local()
        self.events: deque[tuple[str, str, dict[str, Any]]] = deque()
        self.abandoned_leases: deque[LeaseRecord] = deque()
        """Rows whose handle was garbage collected. A finalizer may only append: it can run while
        its own thread holds the lock."""
        self.next_housekeeping_at = -math.inf
        """Until when a free slot may be handed out without any housekeeping."""
        self.external_deadline: Callable[[float], float] = _never
        """When something outside the store is due next."""
        self.ttls: Mapping[str, float] = {}
        """State of a lease -> seconds until it ends by itself."""
        self.text: Callable[[Key], str] = str
        """The id that users know a key by."""
        self.adopt: Callable[[AccountTable, float], None] = _ignore
        """Takes over a table, and its age, that another process has fetched."""
        self.start_over: Callable[[], None] = _nothing
        """Has the configuration loaded anew, as if for the first time: the store has lost it."""
        self.service = ""
        """Key of the service, for events."""
        self.keeper_until = math.inf
        self.serial = itertools.count(1).__next__
        """Numbers for leases, never given twice."""
        self.table: AccountTable | None = None
        """The table that the accounts were made from."""

    @property
    @abstractmethod
    def released(self) -> int:
        """Leases that were ended by this process, since the pool was made."""

    def join(self, waiter: Waiter) -> None:
        """Put ``waiter`` in the line of its ticket, unless that was worked out from another table."""
        with self.lock:
            if not waiter.served and waiter.table is self.table:
                self.wait_queue.step_aside(waiter)
                self.wait_queue.join(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of its line (under the lock). Its duty to keep time passes on."""
        lines = self.wait_queue
        kept = lines.keeper is waiter
        if waiter.line is lines.plain and not kept:
            lines.leave_plain(waiter)
            return
        lines.leave(waiter)
        if kept and (heir := lines.last()) is not None:
            lines.keeper = heir  # at once: it may leave too before it looks around
            self.keeper_until = -math.inf
            self.to_wake.append(heir)

    def admit(self, waiter: Waiter, most: int | None) -> None:
        """Count ``waiter`` among those who wait for a slot.

        Raises:
            TooManyWaiting: ``most`` wait already.
        """
        with self.lock:
            if waiter.line is None or waiter.counted:
                return
            if most is not None and self.wait_queue.counted >= most:
                raise TooManyWaiting(
                    f"{self.wait_queue.counted} callers of {self.service} wait already, and max_waiting is {most}"
                )
            self.wait_queue.count(waiter)

    def keep_time(self, waiter: Waiter, until: float) -> float:
        """Return when ``waiter`` is to wake up: at ``until``, or earlier if it keeps time for all."""
        with self.lock:
            lines = self.wait_queue
            if waiter.served or waiter.line is None or self.abandoned_leases:
                return -math.inf
            if lines.keeper is None:
                lines.keeper = waiter
            if lines.keeper is not waiter:
                return until
            now = self.now()
            late, more = lines.long_waits(now)
            self.to_wake.extend(late)
            # Not only what the last step saw coming: somebody's wait is itself a reason to look around.
            self.keeper_until = min(until, self.next_housekeeping_at, self.external_deadline(now), more)
            return self.keeper_until

    def drop(self, record: LeaseRecord) -> None:
        """Take note, from a finalizer, of a lease whose handle is gone; who keeps the time sees to it."""
        self.abandoned_leases.append(record)
        keeper = self.wait_queue.keeper
        if keeper is not None:
            keeper.nudge()

    def rouse_keeper(self) -> None:
        """Wake the keeper if something has become due before it means to wake up (under the lock)."""
        keeper = self.wait_queue.keeper
        if keeper is not None and self.next_housekeeping_at < self.keeper_until:
            self.keeper_until = -math.inf
            self.to_wake.append(keeper)

    def wake_all(self) -> None:
        """Have every waiter look around (under the lock)."""
        self.to_wake.extend(self.wait_queue.waiters)

    def note(self, level: str, event: str, **keys: Any) -> None:
        """Have an event logged once the lock is free."""
        self.events.append((level, event, {"service": self.service, **keys}))

    def facts(self, record: LeaseRecord) -> dict[str, Any]:
        """Return what an event says about a lease."""
        return {
            "lease": self.text(record.key),
            "account": record.account_state.id,
            "job_id": record.job_id,
            "label": record.label,
            "state": record.state,
            "held_s": round(self.now() - record.held_since, 3),
        }

    def flush(self) -> None:
        """Wake and log what was noted under the lock."""
        while self.to_wake:
            try:
                self._wake(self.to_wake[0])
            except IndexError:  # another thread was quicker
                break
        if self.dead_waiters and not getattr(self._here, "clearing", False):
            self._clear_lost()
        while self.events:
            try:
                level, event, keys = self.events.popleft()
            except IndexError:
                break
            events.emit(level, event, **keys)

    def _wake(self, waiter: Waiter) -> None:
        """Wake a waiter, and only then cross it off: twice does no harm, an interruption in between would."""
        try:
            waiter.wake()
        except RuntimeError:  # its event loop is closed: nobody will ever take what it was granted
            self.dead_waiters.append(waiter)
        _cross_off(self.to_wake, waiter)

    def _clear_lost(self) -> None:
        """Withdraw those whose loop is closed, one after the other: each may hand its slot to the next."""
        self._here.clearing = True
        try:
            while self.dead_waiters:
                try:
                    waiter = self.dead_waiters[0]
                except IndexError:
                    break
                self.withdraw(waiter)
                _cross_off(self.dead_waiters, waiter)
        finally:
            self._here.clearing = False

    @abstractmethod
    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted goes to the next. No I/O."""

    def close(self) -> None:  # noqa: B027  # most have nothing to let go of
        """Let go of what is not needed to end the leases that are out."""

    def after_fork(self, _: Origin) -> None:
        """Start empty in a child: a lock that another thread held at the fork is held for ever there."""
        self.lock = threading.Lock()
        self.wait_queue = WaitQueue()
        for queue in (self.to_wake, self.dead_waiters, self.events, self.abandoned_leases):
            queue.clear()
        self.next_housekeeping_at, self.keeper_until = -math.inf, math.inf
        self.totals = Totals()
        self.table = None


def _never(_: float) -> float:
    return math.inf


def _nothing() -> None:
    pass


def _ignore(_: AccountTable, __: float) -> None:
    pass


def _cross_off(queue: deque[Waiter], waiter: Waiter) -> None:
    try:
        queue.remove(waiter)
    except ValueError:  # another thread did it
        pass

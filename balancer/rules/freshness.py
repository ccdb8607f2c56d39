"""Which accounts there are, how fresh that knowledge is, and when to ask again.

Mutable, as are the ledger and the wait queue. It decides and never acts: no thread, no request, no
waiting in here. Its owner calls it under a lock, starts what it asks for, and tells it the outcome.

Two windows, as for credentials that expire: until ``ttl`` the table is fresh and nobody asks. From
there until ``stale_if_error`` later one caller asks while the others go on with the old table.
After that nobody goes on without an answer.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any

from cachetools import TLRUCache

from balancer.errors import BalancerError, SourceError, SourceUnavailable, SubscriptionRequired, Unauthorized
from balancer.models import AccountTable

FETCH_DEADLINE = 60.0
"""Seconds after which a fetch is given up, whatever it is doing."""
PATIENCE = 5.0
"""Seconds that the caller who started a refresh waits for it before it goes on with the old table."""
CONFIRMED = 5.0
"""Age in seconds up to which a table is recent enough to turn a caller away by it."""
LEAST_TTL = 1.0
"""Seconds for which any table is fresh: who awaited it goes on with it, and nobody asks at speed."""
RECONCILE_DEADLINE = 30.0
"""Seconds after which a reconciliation is given up."""
BELIEVED, BELIEVED_AT_MOST = 600.0, 3600.0
"""Seconds for which a server that asks to wait is left alone: without a table to go by, and with one."""
_BACKOFF_FIRST, _BACKOFF_MOST = 1.0, 30.0


class SingleFlight:
    """One thing that is asked for at most once at a time, and given up after a while.

    The outcome of an attempt that was given up is not taken: a newer one may have landed.
    """

    __slots__ = ("_most", "deadline", "number", "running")

    def __init__(self, most: float) -> None:
        self._most = most
        self.number = 0
        self.running = False
        self.deadline = math.inf

    def start(self, now: float) -> int:
        """Begin an attempt and return its number."""
        self.number += 1
        self.running, self.deadline = True, now + self._most
        return self.number

    def land(self, number: int) -> bool:
        """End an attempt. False: it had been given up, and what it brings is void."""
        if not self.running or number != self.number:
            return False
        self.running, self.deadline = False, math.inf
        return True

    def overdue(self, now: float) -> bool:
        """Give the attempt up if it is over its deadline; True if it was."""
        return self.running and now >= self.deadline and self.land(self.number)


class Freshness(enum.Enum):
    """What a caller who needs the table should do."""

    USE = "go on with the table in force"
    START = "start a fetch and wait for it for a while"
    WAIT = "wait for the fetch that is under way"
    RAISE = "raise the trouble"


class ConfigurationCache:
    """The table in force and its freshness."""

    def __init__(
        self, ttl: float, stale_if_error: float, timer: Callable[[], float], asked: str = "the source"
    ) -> None:
        self.asked = asked
        """What errors say was asked."""
        self.ttl, self.stale_if_error = max(ttl, LEAST_TTL), stale_if_error
        self.single_flight = SingleFlight(FETCH_DEADLINE)
        self._kept: TLRUCache[str, AccountTable] = TLRUCache(1, self._kept_until, timer)
        """The table, until it is too old to be used even when no newer one can be had."""
        self.fetched_at: float | None = None
        self.fresh_until = -math.inf
        self.retry_at = -math.inf
        self.failures = 0
        """Failures in a row."""
        self.refreshes = self.refresh_failures = 0
        self.trouble: BalancerError | None = None
        """Why the last fetch failed; None after one that succeeded."""

    @property
    def table(self) -> AccountTable | None:
        """The table in force, or None while there is none that may be used."""
        return self._kept.get("table")

    def _kept_until(self, *_: object) -> float:
        fetched_at = -math.inf if self.fetched_at is None else self.fetched_at
        return fetched_at + self.ttl + self.stale_if_error

    @property
    def denied(self) -> bool:
        """Whether the server refuses the token: no outage, so the old table does not help."""
        return isinstance(self.trouble, Unauthorized | SubscriptionRequired)

    def age(self, now: float) -> float | None:
        """Seconds since the table in force was read."""
        return None if self.fetched_at is None else max(0.0, now - self.fetched_at)

    def advise(self, now: float) -> Freshness:
        """Say what a caller who needs the table should do at ``now``."""
        if self.single_flight.overdue(now):
            self._fail(SourceUnavailable(f"{self.asked}: no answer within {FETCH_DEADLINE:.0f} s"), now)
        if now < self.fresh_until and self.trouble is None:
            return Freshness.USE  # what is fresh is kept, and most calls need not look it up
        usable = self.table is not None and not self.denied
        if usable and (now < self.fresh_until or self.single_flight.running or now < self.retry_at):
            return Freshness.USE
        if self.denied and self.single_flight.running:
            return Freshness.RAISE
        if self.single_flight.running:
            return Freshness.WAIT
        return Freshness.RAISE if now < self.retry_at else Freshness.START

    def may_confirm(self, now: float) -> bool:
        """Whether the table is old enough, and the source in shape, to be asked once more."""
        age = self.age(now)
        return age is not None and age > CONFIRMED and now >= self.retry_at

    def expire(self) -> None:
        """Have the next caller ask again: something says that the table is out of date."""
        self.fresh_until = -math.inf

    def next_due(self) -> float:
        """Return until when :meth:`advise` says USE without a change of its own."""
        if self.fetched_at is None or self.denied:
            return -math.inf
        end = self._kept_until()
        if self.single_flight.running:
            return min(end, self.single_flight.deadline)
        return min(end, max(self.fresh_until, self.retry_at))

    def land(self, number: int, outcome: AccountTable | BalancerError, now: float, age: float = 0.0) -> bool:
        """Take over what a fetch brought. False: that fetch had been given up, and nothing changed.

        ``age`` is in seconds: another process may have fetched the table a while ago.
        """
        if not self.single_flight.land(number):
            return False
        if isinstance(outcome, AccountTable):
            self.adopt(outcome, now - age)
            self.refreshes += 1
        else:
            self._fail(outcome, now)
        return True

    def adopt(self, table: AccountTable, fetched_at: float) -> None:
        """Put a table in force that was fetched at ``fetched_at``."""
        self.fetched_at, self.fresh_until = fetched_at, fetched_at + self.ttl
        self._kept["table"] = table
        self.failures, self.trouble, self.retry_at = 0, None, -math.inf

    def forget(self) -> None:
        """Be as before the first fetch, but for the totals: the table in force is void."""
        self._kept.clear()
        self.fetched_at, self.fresh_until, self.retry_at = None, -math.inf, -math.inf

    def abandon(self) -> None:
        """Forget a fetch that will never land: its thread stayed behind in the parent of a fork."""
        self.single_flight.land(self.single_flight.number)

    def _fail(self, error: BalancerError, now: float) -> None:
        pause = min(_BACKOFF_MOST, _BACKOFF_FIRST * 2.0 ** min(self.failures, 10))
        asked = error.retry_after if isinstance(error, SourceError) else None
        # One answer shuts nobody out for long: the old table may serve meanwhile, and no longer.
        asked = min(asked or 0.0, max(BELIEVED, min(BELIEVED_AT_MOST, self._kept_until() - now)))
        self.failures += 1
        self.refresh_failures += 1
        self.trouble = error
        self.retry_at = now + max(pause, asked)


class ReconcileSchedule:
    """Reconciliation's timetable: every so often, but only for a reason."""

    def __init__(self, every: float | None, asked: str = "the source") -> None:
        self.asked = asked
        """What errors say was asked."""
        self.every = every
        """Seconds between two reconciliations; None: never by itself."""
        self.single_flight = SingleFlight(RECONCILE_DEADLINE)
        self.started_at = -math.inf
        self.trouble: BalancerError | None = None
        """Why the last one failed; None after one that succeeded."""
        self.result: Any = None
        """The last plan that was put into effect."""

    def due(self, now: float, first: bool, waiting: bool, oldest_detached_since: float) -> bool:
        """Whether to ask now.

        Reasons: the first table has just come; somebody waits; a bound or ambiguous lease (the
        oldest is so since ``oldest_detached_since``) is older than one interval.
        """
        self.expire(now)
        if self.every is None or self.single_flight.running:
            return False
        if first:
            return self.started_at == -math.inf
        return now >= self.next_due(now, waiting, oldest_detached_since)

    def expire(self, now: float) -> None:
        """Give up a reconciliation that is over its deadline."""
        if self.single_flight.overdue(now):
            self.trouble = SourceUnavailable(f"{self.asked}: no answer within {RECONCILE_DEADLINE:.0f} s")

    def next_due(self, now: float, waiting: bool, oldest_detached_since: float) -> float:
        """Return when :meth:`due` will hold if nothing changes."""
        if self.every is None:
            return math.inf
        if self.single_flight.running:
            return self.single_flight.deadline
        reason_since = now if waiting else oldest_detached_since + self.every
        return max(reason_since, self.started_at + self.every)

    def start(self, now: float) -> int:
        """Begin a reconciliation and return its number."""
        self.started_at = now
        return self.single_flight.start(now)

    def land(self, number: int, outcome: object) -> bool:
        """End a reconciliation. False: it had been given up."""
        if not self.single_flight.land(number):
            return False
        self.trouble = outcome if isinstance(outcome, BalancerError) else None
        return True

    def abandon(self) -> None:
        """Forget a reconciliation whose thread stayed behind in the parent of a fork."""
        self.single_flight.land(self.single_flight.number)
        self.forget()

    def forget(self) -> None:
        """Be as before the first reconciliation: one is due with the next first table."""
        self.started_at = -math.inf


class Schedule:
    """When the source is to be asked for anything; and whether the pool is closed."""

    def __init__(self, configuration: ConfigurationCache, reconcile_schedule: ReconcileSchedule) -> None:
        self.configuration, self.reconcile_schedule = configuration, reconcile_schedule
        self.closed = False

    def next_due(self, now: float, waiting: bool, oldest_detached_since: float) -> float:
        """Return when somebody has to look at it again."""
        if self.closed:
            return -math.inf
        due = self.reconcile_schedule.next_due(now, waiting, oldest_detached_since)
        return min(self.configuration.next_due(), due)

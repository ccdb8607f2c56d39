"""When to ask the server what is running. It decides and never acts, as the catalog does."""

from __future__ import annotations

import math
from typing import Any

from balancer.errors import BalancerError, SourceUnavailable
from balancer.rules.freshness import SingleFlight

RECONCILE_DEADLINE = 30.0
"""Seconds after which a reconciliation is given up."""


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
        oldest is so since ``loose_since``) is older than one interval.
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

"""Asking the source in threads of its own, and waiting for one of them to land.

Each fetch and each reconciliation gets a short-lived daemon thread, as an event loop's executor may be
full of callers who wait for that very fetch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from balancer.clock import Clock
from balancer.config import PoolConfig
from balancer.errors import BalancerError, SourceUnavailable, sanitized
from balancer.rules.freshness import ConfigurationCache
from balancer.rules.reconcile_schedule import ReconcileSchedule
from balancer.stores.base import Store
from balancer.useapi.http_client import what_failed
from balancer.useapi.sources import describe
from balancer.waiting.queue import Waiter


class BackgroundTasks:
    """What is under way: a fetch, a reconciliation, and who waits for either.

    Mutable, all of it under the store's lock: the catalog, the survey, and who is to be woken.
    """

    def __init__(self, options: PoolConfig, store: Store) -> None:
        self.store = store
        self.clock: Clock = options.clock
        self.now = options.clock.now
        source = options.source
        self.configuration = ConfigurationCache(
            options.ttl, options.stale_if_error, self.now, describe(source, jobs=False)
        )
        jobs = getattr(source, "jobs", None)
        self.lists_jobs = callable(jobs) and bool(getattr(source, "lists_jobs", True))
        self.reconcile_schedule = ReconcileSchedule(
            options.reconcile_every if self.lists_jobs else None, describe(source, jobs=True)
        )
        self.watching: set[Waiter] = set()
        """Callers who wait for a fetch or a list to land."""

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

    def _send(self, errand: Callable[[], None], name: str, failed: Callable[[BalancerError], Any]) -> None:
        """Run an errand in a thread of its own; have it said ``failed`` if there is none to be had."""
        thread = threading.Thread(target=errand, name=f"balancer-{name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            failed(SourceUnavailable(f"no thread to be had: {error}"))


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

"""Asking the source in threads of its own, and waiting for one of them to land.

Each fetch and each reconciliation gets a short-lived daemon thread, as an event loop's executor may be
full of callers who wait for that very fetch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from balancer.catalog import Catalog
from balancer.clock import Clock
from balancer.errors import BalancerError, SourceUnavailable, foreign
from balancer.http import what_failed
from balancer.lines import Waiter
from balancer.options import Options
from balancer.source import describe
from balancer.store.base import Store
from balancer.survey import Survey


class Errands:
    """What is under way: a fetch, a reconciliation, and who waits for either.

    Mutable, all of it under the store's lock: the catalog, the survey, and who is to be woken.
    """

    def __init__(self, options: Options, store: Store) -> None:
        self.store = store
        self.clock: Clock = options.clock
        self.now = options.clock.now
        source = options.source
        self.catalog = Catalog(options.ttl, options.stale_if_error, self.now, describe(source, jobs=False))
        jobs = getattr(source, "jobs", None)
        self.lists_jobs = callable(jobs) and bool(getattr(source, "lists_jobs", True))
        self.survey = Survey(
            options.reconcile_every if self.lists_jobs else None, describe(source, jobs=True)
        )
        self.watching: set[Waiter] = set()
        """Callers who wait for a fetch or a list to land."""

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
        failure.__cause__ = foreign(error)
        return failure

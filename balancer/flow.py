"""Every algorithm that may wait, once, for threads and tasks alike.

A flow is a generator. It yields what it cannot do itself, a :class:`Park`, and its driver does that
in its own way: ``drive`` blocks the thread, ``adrive`` awaits. A flow that never yields never
suspends. What a driver raises at a yield (KeyboardInterrupt, CancelledError) arrives in the flow,
which puts everything back before it lets it pass.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from balancer.catalog import PATIENCE, Advice
from balancer.core import Core
from balancer.errors import BalancerError
from balancer.lines import Waiter
from balancer.model import Account, Reconciled
from balancer.options import Wish
from balancer.refusal import no_accounts, timed_out
from balancer.tally import Ticket
from balancer.waiting import TaskWaiter, ThreadWaiter

T = TypeVar("T")
LONG_WAIT = 60.0
"""Seconds after which a waiting caller is logged, once."""


@dataclass(frozen=True, slots=True)
class Park:
    """Sleep until woken, or until the clock reads ``until``."""

    until: float


Flow = Generator[Park, None, T]


def drive(core: Core, waiter: ThreadWaiter, flow: Flow[T]) -> T:
    """Run a flow in this thread."""
    try:
        park = next(flow)
        while True:
            try:
                waiter.park(core.clock.sleep_for(park.until))
            except BaseException as error:
                park = flow.throw(error)
            else:
                park = next(flow)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def adrive(core: Core, waiter: TaskWaiter, flow: Flow[T]) -> T:
    """Run a flow in this task."""
    try:
        park = next(flow)
        while True:
            try:
                await waiter.park(core.clock.sleep_for(park.until))
            except BaseException as error:
                park = flow.throw(error)
            else:
                park = next(flow)
    except StopIteration as stop:
        result: T = stop.value
        return result


class Acquiring:
    """One call of ``acquire`` that could not be served at once."""

    __slots__ = ("core", "deadline", "draw", "waiter", "warn_at", "wish")

    def __init__(self, core: Core, wish: Wish, draw: float, waiter: Waiter) -> None:
        self.core, self.wish, self.draw, self.waiter = core, wish, draw, waiter
        now = core.now()
        self.deadline = math.inf if wish.timeout is None else now + wish.timeout
        self.warn_at = now + LONG_WAIT

    def run(self) -> Flow[None]:
        """Wait for a lease, in line with everybody else.

        Raises what :meth:`balancer.AccountPool.acquire` documents. Whatever is raised, no slot
        stays taken and no waiter stays in line.
        """
        core, waiter = self.core, self.waiter
        try:
            while not waiter.served:
                self.aim()
                advice = core.consult()
                if advice is Advice.RAISE:
                    raise core.trouble()
                if advice is Advice.START:
                    yield from self.watch_flight(min(core.now() + PATIENCE, self.deadline))
                elif advice is Advice.WAIT:
                    yield from self.wait_for_table()
                elif waiter.table is core.store.table and not core.store.attempt(waiter):
                    yield from self.wait_for_slot()
        except BaseException:
            core.store.withdraw(waiter)
            raise

    def aim(self) -> None:
        """Work out, in the caller's own thread, which accounts would do, and stand in that line."""
        core, waiter, wish = self.core, self.waiter, self.wish
        while waiter.table is not core.store.table and not waiter.served:
            table = core.store.table
            known = table.accounts if table else {}
            ids = wish.accounts(known)
            self.check_max_jobs([known[id] for id in (known if ids is None else ids) if id in known])
            waiter.ticket = Ticket(waiter.row, self.draw, ids, wish.max_jobs)
            waiter.table = table
            core.store.join(waiter)

    def check_max_jobs(self, candidates: list[Account]) -> None:
        """Refuse a figure that the request could not carry to the server."""
        asked = self.wish.max_jobs
        if asked is None or self.core.service.max_jobs is not None or not candidates:
            return
        most = max(account.capacity for account in candidates)
        if asked > most:
            raise ValueError(
                f"max_jobs must be at most {most}, not {asked}: requests to {self.core.service.key} "
                "cannot raise an account's capacity"
            )

    def wait_for_table(self) -> Flow[None]:
        """Wait for the first configuration: within the timeout, or with ``timeout=0`` as long as it takes."""
        core = self.core
        patient = self.wish.timeout == 0
        if not patient and core.now() >= self.deadline:
            raise self.timed_out()
        yield from self.watch_flight(math.inf if patient else self.deadline)

    def watch_flight(self, until: float) -> Flow[None]:
        """Sleep until a fetch or a list has landed or is given up, a slot was granted, or ``until``."""
        core, waiter = self.core, self.waiter
        with core.watched_by(waiter):
            if not waiter.served and core.in_flight and core.now() < until:
                yield Park(min(until, core.flights_end))

    def wait_for_slot(self) -> Flow[None]:
        """Sleep until something has changed, or turn the caller away."""
        core, waiter = self.core, self.waiter
        now = core.now()
        if core.store.hopeless(waiter):
            if now < self.deadline and core.confirm():
                yield from self.watch_flight(self.deadline)
                return
            raise no_accounts(core, self.wish, waiter.ticket)
        if now >= self.deadline:
            raise self.timed_out()
        core.store.admit(waiter, core.options.max_waiting)
        if now >= self.warn_at:
            self.warn_at = math.inf
            core.warn_long_wait(self.wish, LONG_WAIT)
        yield Park(core.store.keep_time(waiter, min(self.deadline, self.warn_at)))

    def timed_out(self) -> BalancerError:
        """Return the error for a wait that was too long."""
        self.core.store.totals.timeouts += 1
        return timed_out(self.core, self.wish, self.waiter.ticket)


def loaded(core: Core, waiter: Waiter) -> Flow[None]:
    """Wait for the first configuration if none has been asked for yet. A failure is not raised."""
    while core.store.table is None:
        advice = core.consult()
        if advice is Advice.RAISE:
            return
        yield from _landing(core, waiter)


def refresh(core: Core, waiter: Waiter) -> Flow[None]:
    """Fetch the configuration now, and wait for it.

    Raises:
        Unauthorized, SubscriptionRequired, SourceError: what the fetch failed with.
    """
    number = core.begin_fetch()
    while core.catalog.flight.number == number and core.catalog.flight.running:
        yield from _landing(core, waiter)
        core.expire_flights()
    if core.catalog.trouble is not None:
        raise core.trouble()
    while core.store.table is None and core.in_flight:
        yield from _landing(core, waiter)
        core.consult()


def reconcile(core: Core, waiter: Waiter) -> Flow[Reconciled]:
    """Compare with the server's list now, and return what that did.

    Raises:
        SourceError: the list could not be had.
        ValueError: the source has no list of jobs.
    """
    if not core.lists_jobs:
        raise ValueError(f"the source of {core.service.key} cannot list running jobs")
    yield from loaded(core, waiter)
    number = core.begin_survey()
    while core.survey.flight.number == number and core.survey.flight.running:
        yield from _landing(core, waiter)
        core.expire_flights()
    if core.survey.trouble is not None:
        raise core.survey.trouble.afresh()
    return core.survey.result


def _landing(core: Core, waiter: Waiter) -> Flow[None]:
    with core.watched_by(waiter):
        if core.in_flight:
            yield Park(core.flights_end)

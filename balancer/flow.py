"""Every algorithm that may wait, once, for threads and tasks alike. See :mod:`balancer.effect`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from balancer.catalog import PATIENCE, Advice, Flight
from balancer.core import Core
from balancer.effect import Flow, Park, Sleep
from balancer.errors import BalancerError, StoreUnavailable
from balancer.lease import Handle
from balancer.lines import LONG_WAIT, Waiter
from balancer.model import Account, Reconciled
from balancer.origin import LineUp
from balancer.refusal import no_accounts, timed_out
from balancer.tally import NEW, Row, Ticket
from balancer.wish import Asked, Wish

H = TypeVar("H", bound=Handle)
WaiterMaker = Callable[[Row], Waiter]
_AGAIN = 0.1
"""Seconds between two looks at whether a store that is away is back."""


def acquire(core: Core, wish: Wish, lease: type[H], waiter: WaiterMaker) -> Flow[H]:
    """Return a new lease for ``wish``. Raises what :meth:`balancer.AccountPool.acquire` documents."""
    row, begun = core.new_row(wish), core.now()
    handle = object.__new__(lease)
    handle.tie(core.origin, row, wish.max_jobs)
    if core.store.shared and wish.free and wish.max_jobs is None and wish.scope is None:
        if (yield from core.store.take_directly(row, core.draw())):
            return handle
        row = core.new_row(wish)
        handle.tie(core.origin, row, None)
    yield from Acquiring(core, wish, core.draw(), waiter(row), begun).run()
    return handle


def queue(core: Core, line_up: LineUp, asked: Asked, waiter: Waiter) -> Flow[None]:
    """Wait for the lease of ``waiter``, on any account, which could not be granted at once.

    Raises what :meth:`balancer.AccountPool.acquire` documents.
    """
    waiter.row.state = NEW
    try:
        until = line_up(waiter, asked.get("timeout"))
        if until is not None:
            yield Park(waiter, until, core.clock)
        if not waiter.served:
            yield from Acquiring(core, Wish.make(**asked), core.draw(), waiter).run()
    except BaseException as error:
        try:  # twice, for the reason that Acquiring.run gives
            withdraw(core, waiter, error)
        except BaseException:
            withdraw(core, waiter, error)
            raise
        raise


def withdraw(core: Core, waiter: Waiter, error: BaseException) -> None:
    """Take a caller that was left by ``error`` out of the queue, with what it may have been granted."""
    if error.__class__ is GeneratorExit and waiter.row.state is not NEW and core.store.lock.locked():
        # A task that is garbage may be collected while this very thread has the lock: but then it
        # is out of line with a lease, and the finalizer of its handle sees to that.
        return
    core.store.withdraw(waiter)


class Acquiring:
    """One call of ``acquire`` that could not be served at once."""

    __slots__ = ("came", "core", "deadline", "draw", "waiter", "wish")

    def __init__(
        self, core: Core, wish: Wish, draw: float, waiter: Waiter, begun: float | None = None
    ) -> None:
        self.core, self.wish, self.draw, self.waiter = core, wish, draw, waiter
        self.came = time.monotonic()
        if waiter.warn_at == math.inf:
            waiter.begin(core.now() if begun is None else begun)
        self.deadline = math.inf if wish.timeout is None else waiter.begun + wish.timeout

    def run(self) -> Flow[None]:
        """Wait for a lease, in line with everybody else.

        Raises what :meth:`balancer.AccountPool.acquire` documents. Whatever is raised, no slot
        stays taken and no waiter stays in line.
        """
        core, waiter = self.core, self.waiter
        try:
            while not waiter.served:
                self.aim()
                advice = core.upkeep.consult()
                if advice is Advice.RAISE:
                    yield from self.bear(core.upkeep.trouble())
                elif advice is Advice.START:
                    yield from self.wait_for_fetch()
                elif advice is Advice.WAIT:
                    yield from self.wait_for_table()
                elif waiter.table is core.store.table:
                    patience = max(0.0, self.deadline - core.now())
                    served = yield from core.store.attempt(waiter, patience)
                    if not served and waiter.table is core.store.table:
                        yield from self.wait_for_slot()
        except BaseException as error:
            # Twice if an interruption comes at that very moment: who stayed in line would be handed a
            # slot for nobody. That is for each caller to do: the first step of a helper could be the moment.
            try:
                withdraw(core, waiter, error)
            except BaseException:
                withdraw(core, waiter, error)
                raise
            raise

    def bear(self, trouble: BalancerError) -> Flow[None]:
        """Raise why there is no table; but a store that is away may be back before patience ends."""
        patience = min(PATIENCE, self.deadline - self.waiter.begun)
        # An outage goes by real time, whatever clock the pool was given.
        if not isinstance(trouble, StoreUnavailable) or time.monotonic() >= self.came + patience:
            raise trouble
        yield Sleep(_AGAIN)

    def aim(self) -> None:
        """Work out, in the caller's own thread, which accounts would do, and stand in that line."""
        core, waiter, wish = self.core, self.waiter, self.wish
        while waiter.table is not core.store.table and not waiter.served:
            table = core.store.table
            known = table.accounts if table else {}
            ids = wish.accounts(known)
            if table is None and wish.max_jobs is not None:
                ids = frozenset()  # it looks again once there is a table to hold the figure against
            if wish.max_jobs is not None:
                self.check_max_jobs([known[id] for id in (known if ids is None else ids) if id in known])
            waiter.ticket = Ticket(waiter.row, self.draw, ids, wish.max_jobs)
            waiter.table = table
            core.store.join(waiter)

    def check_max_jobs(self, candidates: list[Account]) -> None:
        """Refuse a figure that the request could not carry to the server."""
        asked = self.wish.max_jobs or 0
        if self.core.service.max_jobs is not None or not candidates:
            return
        most = max(account.capacity for account in candidates)
        if asked > most:
            raise ValueError(
                f"max_jobs must be at most {most}, not {asked}: requests to {self.core.service.key} "
                "cannot raise an account's capacity"
            )

    def wait_for_fetch(self) -> Flow[None]:
        """Wait a while for a fetch that was begun; who keeps the time for others goes on doing that."""
        core = self.core
        if core.store.lines.keeper is not self.waiter:
            yield from self.watch_flight(min(core.now() + PATIENCE, self.deadline))

    def wait_for_table(self) -> Flow[None]:
        """Wait for the first configuration: within the timeout, or with ``timeout=0`` as long as it takes."""
        core = self.core
        patient = self.wish.timeout == 0
        if not patient and core.now() >= self.deadline:
            raise (yield from self.timed_out())
        yield from self.watch_flight(math.inf if patient else self.deadline)

    def watch_flight(self, until: float) -> Flow[None]:
        """Sleep until a fetch or a list has landed or is given up, a slot was granted, or ``until``."""
        core, waiter = self.core, self.waiter
        with core.upkeep.watched_by(waiter):
            if not waiter.served and core.upkeep.in_flight and core.now() < until:
                yield Park(waiter, min(until, core.upkeep.flights_end), core.clock)

    def wait_for_slot(self) -> Flow[None]:
        """Sleep until something has changed, or turn the caller away."""
        core, waiter = self.core, self.waiter
        hopeless = yield from core.store.hopeless(waiter)
        if waiter.table is not core.store.table:
            return  # another one has come to light meanwhile: begin again
        now = core.now()
        if hopeless:
            if now < self.deadline and core.upkeep.confirm():
                yield from self.watch_flight(core.store.keep_time(waiter, self.deadline))
                return
            raise (yield from no_accounts(core, self.wish, waiter.ticket))
        if now >= self.deadline:
            raise (yield from self.timed_out())
        core.store.admit(waiter, core.options.max_waiting)
        if now >= waiter.warn_at:
            waiter.warn_at = math.inf
            core.warn_long_wait(self.wish, LONG_WAIT)
        until = core.store.keep_time(waiter, min(self.deadline, waiter.warn_at))
        core.store.flush()  # the others whose wait has become long
        yield Park(waiter, until, core.clock)

    def timed_out(self) -> Flow[BalancerError]:
        """Return the error for a wait that was too long."""
        self.core.store.totals.timeouts += 1
        return (yield from timed_out(self.core, self.wish, self.waiter.ticket))


def loaded(core: Core, waiter: Waiter) -> Flow[None]:
    """Wait for the first configuration if none has been asked for yet. A failure is not raised."""
    while core.store.table is None:
        if core.closed or core.upkeep.consult() is Advice.RAISE:
            return
        yield from _landing(core, waiter)


def refresh(core: Core, waiter: Waiter) -> Flow[None]:
    """Fetch the configuration now, and wait for it.

    Raises:
        Unauthorized, SubscriptionRequired, SourceError: what the fetch failed with.
    """
    upkeep = core.upkeep
    flight = upkeep.catalog.flight
    yield from _end_of(core, waiter, flight, flight.number)  # it may have asked before we were called
    yield from _end_of(core, waiter, flight, upkeep.begin_fetch())
    if upkeep.catalog.trouble is not None:
        raise upkeep.trouble()
    while core.store.table is None and upkeep.in_flight:
        yield from _landing(core, waiter)
        upkeep.open_when_ready()


def reconcile(core: Core, waiter: Waiter) -> Flow[Reconciled]:
    """Compare with the server's list now, and return what that did.

    Raises:
        SourceError: the list could not be had.
        ValueError: the source has no list of jobs.
    """
    upkeep = core.upkeep
    if not upkeep.lists_jobs:
        raise ValueError(f"the source of {core.service.key} cannot list running jobs")
    yield from loaded(core, waiter)
    flight = upkeep.survey.flight
    yield from _end_of(core, waiter, flight, flight.number)  # it may have asked before we were called
    yield from _end_of(core, waiter, flight, upkeep.begin_survey())
    if upkeep.survey.trouble is not None:
        raise upkeep.survey.trouble.afresh()
    result: Reconciled = upkeep.survey.result
    return result


def _end_of(core: Core, waiter: Waiter, flight: Flight, number: int) -> Flow[None]:
    """Wait until an attempt has landed or is given up."""
    while flight.number == number and flight.running:
        yield from _landing(core, waiter)
        core.upkeep.expire_flights()


def _landing(core: Core, waiter: Waiter) -> Flow[Any]:
    with core.upkeep.watched_by(waiter):
        if core.upkeep.in_flight:
            yield Park(waiter, core.upkeep.flights_end, core.clock)

"""Every algorithm that may wait, once, for threads and tasks alike. See :mod:`balancer.waiting.drivers`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from balancer.engine.pool_core import PoolCore
from balancer.engine.refusals import no_accounts, timed_out
from balancer.errors import BalancerError, StoreUnavailable
from balancer.lease import BaseLease
from balancer.models import Account, ReconcileResult
from balancer.request import AcquireOptions, AcquireRequest
from balancer.rules.freshness import PATIENCE, Freshness, SingleFlight
from balancer.rules.records import NEW, LeaseRecord, SlotRequest
from balancer.stores.origin import LineUp
from balancer.waiting.drivers import Flow, Sleep, WaitForWake
from balancer.waiting.queue import LONG_WAIT, Waiter

H = TypeVar("H", bound=BaseLease)
WaiterMaker = Callable[[LeaseRecord], Waiter]
_AGAIN = 0.1
"""Seconds between two looks at whether a store that is away is back."""


def acquire(core: PoolCore, request: AcquireRequest, lease: type[H], waiter: WaiterMaker) -> Flow[H]:
    """Return a new lease for ``wish``. Raises what :meth:`balancer.AccountPool.acquire` documents."""
    record, begun = core.new_record(request), core.now()
    handle = object.__new__(lease)
    handle.tie(core.origin, record, request.max_jobs)
    if core.store.shared and request.free and request.max_jobs is None and request.scope is None:
        if (yield from core.store.take_directly(record, core.draw())):
            return handle
        record = core.new_record(request)
        handle.tie(core.origin, record, None)
    yield from Acquiring(core, request, core.draw(), waiter(record), begun).run()
    return handle


def queue(core: PoolCore, line_up: LineUp, asked: AcquireOptions, waiter: Waiter) -> Flow[None]:
    """Wait for the lease of ``waiter``, on any account, which could not be granted at once.

    Raises what :meth:`balancer.AccountPool.acquire` documents.
    """
    waiter.record.state = NEW
    try:
        until = line_up(waiter, asked.get("timeout"))
        if until is not None:
            yield WaitForWake(waiter, until, core.clock)
        if not waiter.served:
            yield from Acquiring(core, AcquireRequest.make(**asked), core.draw(), waiter).run()
    except BaseException as error:
        try:  # twice, for the reason that Acquiring.run gives
            withdraw(core, waiter, error)
        except BaseException:
            withdraw(core, waiter, error)
            raise
        raise


def withdraw(core: PoolCore, waiter: Waiter, error: BaseException) -> None:
    """Take a caller that was left by ``error`` out of the queue, with what it may have been granted."""
    if error.__class__ is GeneratorExit and waiter.record.state is not NEW and core.store.lock.locked():
        # A task that is garbage may be collected while this very thread has the lock: but then it
        # is out of line with a lease, and the finalizer of its handle sees to that.
        return
    core.store.withdraw(waiter)


class Acquiring:
    """One call of ``acquire`` that could not be served at once."""

    __slots__ = ("came", "core", "deadline", "draw", "request", "waiter")

    def __init__(
        self, core: PoolCore, request: AcquireRequest, draw: float, waiter: Waiter, begun: float | None = None
    ) -> None:
        self.core, self.request, self.draw, self.waiter = core, request, draw, waiter
        self.came = time.monotonic()
        if waiter.warn_at == math.inf:
            waiter.begin(core.now() if begun is None else begun)
        self.deadline = math.inf if request.timeout is None else waiter.begun + request.timeout

    def run(self) -> Flow[None]:
        """Wait for a lease, in line with everybody else.

        Raises what :meth:`balancer.AccountPool.acquire` documents. Whatever is raised, no slot
        stays taken and no waiter stays in line.
        """
        core, waiter = self.core, self.waiter
        try:
            while not waiter.served:
                self.aim()
                advice = core.refresher.consult()
                if advice is Freshness.RAISE:
                    yield from self.bear(core.refresher.trouble())
                elif advice is Freshness.START:
                    yield from self.wait_for_fetch()
                elif advice is Freshness.WAIT:
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
        core, waiter, request = self.core, self.waiter, self.request
        while waiter.table is not core.store.table and not waiter.served:
            table = core.store.table
            known = table.accounts if table else {}
            ids = request.accounts(known)
            if table is None and request.max_jobs is not None:
                ids = frozenset()  # it looks again once there is a table to hold the figure against
            if request.max_jobs is not None:
                self.check_max_jobs([known[id] for id in (known if ids is None else ids) if id in known])
            waiter.slot_request = SlotRequest(waiter.record, self.draw, ids, request.max_jobs)
            waiter.table = table
            core.store.join(waiter)

    def check_max_jobs(self, candidates: list[Account]) -> None:
        """Refuse a figure that the request could not carry to the server."""
        asked = self.request.max_jobs or 0
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
        if core.store.wait_queue.keeper is not self.waiter:
            yield from self.watch_flight(min(core.now() + PATIENCE, self.deadline))

    def wait_for_table(self) -> Flow[None]:
        """Wait for the first configuration: within the timeout, or with ``timeout=0`` as long as it takes."""
        core = self.core
        patient = self.request.timeout == 0
        if not patient and core.now() >= self.deadline:
            raise (yield from self.timed_out())
        yield from self.watch_flight(math.inf if patient else self.deadline)

    def watch_flight(self, until: float) -> Flow[None]:
        """Sleep until a fetch or a list has landed or is given up, a slot was granted, or ``until``."""
        core, waiter = self.core, self.waiter
        with core.refresher.watched_by(waiter):
            if not waiter.served and core.refresher.in_flight and core.now() < until:
                yield WaitForWake(waiter, min(until, core.refresher.first_deadline), core.clock)

    def wait_for_slot(self) -> Flow[None]:
        """Sleep until something has changed, or turn the caller away."""
        core, waiter = self.core, self.waiter
        hopeless = yield from core.store.hopeless(waiter)
        if waiter.table is not core.store.table:
            return  # another one has come to light meanwhile: begin again
        now = core.now()
        if hopeless:
            if now < self.deadline and core.refresher.confirm():
                yield from self.watch_flight(core.store.keep_time(waiter, self.deadline))
                return
            raise (yield from no_accounts(core, self.request, waiter.slot_request))
        if now >= self.deadline:
            raise (yield from self.timed_out())
        core.store.admit(waiter, core.options.max_waiting)
        if now >= waiter.warn_at:
            waiter.warn_at = math.inf
            core.warn_long_wait(self.request, LONG_WAIT)
        until = core.store.keep_time(waiter, min(self.deadline, waiter.warn_at))
        core.store.flush()  # the others whose wait has become long
        yield WaitForWake(waiter, until, core.clock)

    def timed_out(self) -> Flow[BalancerError]:
        """Return the error for a wait that was too long."""
        self.core.store.totals.timeouts += 1
        return (yield from timed_out(self.core, self.request, self.waiter.slot_request))


def loaded(core: PoolCore, waiter: Waiter) -> Flow[None]:
    """Wait for the first configuration if none has been asked for yet. A failure is not raised."""
    while core.store.table is None:
        if core.closed or core.refresher.consult() is Freshness.RAISE:
            return
        yield from _landing(core, waiter)


def refresh(core: PoolCore, waiter: Waiter) -> Flow[None]:
    """Fetch the configuration now, and wait for it.

    Raises:
        Unauthorized, SubscriptionRequired, SourceError: what the fetch failed with.
    """
    refresher = core.refresher
    single_flight = refresher.configuration.single_flight
    yield from _end_of(
        core, waiter, single_flight, single_flight.number
    )  # it may have asked before we were called
    yield from _end_of(core, waiter, single_flight, refresher.begin_fetch())
    if refresher.configuration.trouble is not None:
        raise refresher.trouble()
    while core.store.table is None and refresher.in_flight:
        yield from _landing(core, waiter)
        refresher.open_when_ready()


def reconcile(core: PoolCore, waiter: Waiter) -> Flow[ReconcileResult]:
    """Compare with the server's list now, and return what that did.

    Raises:
        SourceError: the list could not be had.
        ValueError: the source has no list of jobs.
    """
    refresher = core.refresher
    if not refresher.lists_jobs:
        raise ValueError(f"the source of {core.service.key} cannot list running jobs")
    yield from loaded(core, waiter)
    single_flight = refresher.reconcile_schedule.single_flight
    yield from _end_of(
        core, waiter, single_flight, single_flight.number
    )  # it may have asked before we were called
    yield from _end_of(core, waiter, single_flight, refresher.begin_survey())
    if refresher.reconcile_schedule.trouble is not None:
        raise refresher.reconcile_schedule.trouble.copy_for_raise()
    result: ReconcileResult = refresher.reconcile_schedule.result
    return result


def _end_of(core: PoolCore, waiter: Waiter, single_flight: SingleFlight, number: int) -> Flow[None]:
    """Wait until an attempt has landed or is given up."""
    while single_flight.number == number and single_flight.running:
        yield from _landing(core, waiter)
        core.refresher.expire_overdue()


def _landing(core: PoolCore, waiter: Waiter) -> Flow[Any]:
    with core.refresher.watched_by(waiter):
        if core.refresher.in_flight:
            yield WaitForWake(waiter, core.refresher.first_deadline, core.clock)

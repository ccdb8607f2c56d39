"""Getting a lease: at once, or in the queue; and the other algorithms that wait for the source.

Each is written once, for threads and tasks: see :mod:`balancer.waiting.drivers`.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from balancer.engine.pool_core import PoolCore
from balancer.engine.reports import no_accounts, timed_out
from balancer.errors import BalancerError, StoreUnavailable
from balancer.models import ReconcileResult
from balancer.request import AcquireRequest
from balancer.rules.freshness import PATIENCE, Freshness, SingleFlight
from balancer.rules.records import LeaseRecord, SlotRequest
from balancer.stores.base import Outcome, WaiterMaker
from balancer.waiting.drivers import Flow, Sleep, Step, WaitForWake, result_of
from balancer.waiting.queue import LONG_WAIT, Waiter

if TYPE_CHECKING:
    from balancer.stores.shared import SharedStore

_AGAIN = 0.1
"""Seconds between two looks at whether a store that is away is back."""
_WITHOUT_TIMEKEEPER = 1.0
"""Seconds after which a caller looks around by itself where no thread is to be had for that."""


def acquire(core: PoolCore, lease: Any, request: AcquireRequest, make_waiter: WaiterMaker) -> Step[None]:
    """Have ``lease`` granted: at once, where that is possible; else return the flow that waits for it.

    Raises what :meth:`balancer.AccountPool.acquire` documents.
    """
    store = core.store
    record: LeaseRecord | None = getattr(lease, "_record", None) if store.shared else None
    if record is None or not record.refused:  # else the face has asked the store, and it can be asked again
        record = _new_record(core, request)
    lease._core, lease._record = core, record  # noqa: SLF001  # first: a finalizer gives back what is lost
    if request.by_table or (store.shared and (record.refused or request.exclude)):
        new = make_waiter(record, core.now(), request.timeout)
        return Acquisition.by_table(core, request, new).run(Outcome.LOOK)
    pinned = None if request.account is None else frozenset((request.account,))
    slot_request = SlotRequest(
        record, core.draw(), pinned, request.max_jobs, request.exclude, request.priority
    )
    if store.shared is True:
        return _acquire_shared(core, store, lease, request, slot_request, make_waiter=make_waiter)
    most = core.options.max_waiting
    outcome, waiter = store.try_acquire(slot_request, make_waiter, request.timeout, most)
    return None if waiter is None else Acquisition(core, request, slot_request.draw, waiter).run(outcome)


def _new_record(core: PoolCore, request: AcquireRequest) -> LeaseRecord:
    record = LeaseRecord(core.store.new_key(), request.label, request.scope)
    if request.max_jobs is not None:
        record.max_jobs = request.max_jobs
    if core.spaced:
        least, most = core.options.spacing
        record.spacing = least + (most - least) * core.draw()
    return record


def _acquire_shared(
    core: PoolCore,
    store: SharedStore,
    lease: Any,
    request: AcquireRequest,
    slot_request: SlotRequest,
    *,
    make_waiter: WaiterMaker,
) -> Flow[None]:
    """Ask a shared store at once, with one operation, while nothing else is going on; else wait."""
    record, begun = slot_request.record, core.now()
    if (yield from store.take_directly(slot_request)):
        return
    if not record.refused:
        record = lease._record = _new_record(core, request)  # noqa: SLF001  # the first key may be barred now
    waiter = make_waiter(record, begun, request.timeout)
    yield from Acquisition.by_table(core, request, waiter).run(Outcome.LOOK)


class Acquisition:
    """One call of ``acquire`` that could not be served at once."""

    __slots__ = ("came", "core", "draw", "request", "waiter")

    def __init__(self, core: PoolCore, request: AcquireRequest, draw: float, waiter: Waiter) -> None:
        self.core, self.request, self.draw, self.waiter = core, request, draw, waiter
        self.came = time.monotonic()

    @classmethod
    def by_table(cls, core: PoolCore, request: AcquireRequest, waiter: Waiter) -> Acquisition:
        """Make one whose accounts are worked out from the account table, and anew from each other table."""
        waiter.by_table = True
        return cls(core, request, core.draw(), waiter)

    def run(self, outcome: Outcome) -> Flow[None]:
        """Wait for the lease. Whatever is raised, no slot stays taken and no waiter stays in the queue."""
        core, waiter = self.core, self.waiter
        try:
            while outcome is not Outcome.GRANTED:
                if outcome is Outcome.QUEUED:
                    yield WaitForWake(waiter, self.prepare_sleep(), core.clock)
                    outcome = Outcome.GRANTED if waiter.served else self.woken()
                elif outcome is Outcome.LOOK:
                    outcome = yield from self.look_around()
                elif outcome is Outcome.HOPELESS:
                    outcome = yield from self.confirm()
                else:
                    raise (yield from self.timed_out())  # noqa: TRY301  # it leaves the queue like any other
        except BaseException:
            # First a note, which takes the fewest steps: an interruption, or a stack that is used up, may
            # come at this very moment, and who stayed in the queue would be handed a slot for nobody.
            core.store.defer_withdrawal(waiter)
            core.store.withdraw(waiter)
            raise

    def prepare_sleep(self) -> float:
        """See to it that somebody keeps the time for this caller; return when it wakes by itself."""
        core, waiter = self.core, self.waiter
        if waiter.warn_at < core.long_wait_at:
            core.long_wait_at = waiter.warn_at
            core.timekeeper.arm(waiter.warn_at)
        if core.timekeeper.ensure_running():
            return waiter.deadline
        return min(waiter.deadline, waiter.warn_at, core.now() + _WITHOUT_TIMEKEEPER)

    def woken(self) -> Outcome:
        """Go on after a sleep that has brought no lease: something has changed for this caller."""
        if self.core.now() >= self.waiter.warn_at:
            self.waiter.warn_at = math.inf
            self.core.warn_long_wait(self.request, LONG_WAIT)
        return Outcome.LOOK

    def look_around(self) -> Flow[Outcome]:
        """See to it that there is a configuration to go by, and try again."""
        core, waiter = self.core, self.waiter
        if waiter.served:
            return Outcome.GRANTED
        freshness = core.refresher.consult()
        if freshness is Freshness.RAISE:
            yield from self.raise_unless_transient(core.refresher.trouble())
        elif freshness is Freshness.START:
            if waiter.can_sleep:  # else it goes on with the old table, where there is one
                yield from self.watch_flight(min(core.now() + PATIENCE, waiter.deadline))
        elif freshness is Freshness.WAIT:
            yield from self.wait_for_table()
        else:
            self.resolve()
            return (yield from result_of(core.store.try_again(waiter, core.options.max_waiting)))
        return Outcome.LOOK

    def raise_unless_transient(self, trouble: BalancerError) -> Flow[None]:
        """Raise why there is no table; but a store that is away may be back before patience ends."""
        patience = min(PATIENCE, self.waiter.deadline - self.waiter.begun)
        # An outage goes by real time, whatever clock the pool was given.
        if not isinstance(trouble, StoreUnavailable) or time.monotonic() >= self.came + patience:
            raise trouble
        yield Sleep(_AGAIN)

    def resolve(self) -> None:
        """Work out, in the caller's own thread, which accounts would do, where the table says so."""
        core, waiter, request = self.core, self.waiter, self.request
        while waiter.by_table and waiter.version != core.store.version:
            version, table = core.store.version, core.store.table
            known = {} if table is None else table.accounts
            ids = request.accounts(known)
            if (
                request.max_jobs is not None
            ):  # else nobody's capacity need be looked at, however many there are
                core.check_max_jobs(
                    request, [known[id] for id in (known if ids is None else ids) if id in known]
                )
            waiter.slot_request = SlotRequest(
                waiter.record, self.draw, ids, request.max_jobs, priority=request.priority
            )
            waiter.version = version

    def wait_for_table(self) -> Flow[None]:
        """Wait for the first configuration: within the timeout, or with ``timeout=0`` as long as it takes."""
        core, waiter = self.core, self.waiter
        patient = self.request.timeout == 0
        if not patient and core.now() >= waiter.deadline:
            raise (yield from self.timed_out())
        yield from self.watch_flight(math.inf if patient else waiter.deadline)

    def watch_flight(self, until: float) -> Flow[None]:
        """Sleep until a fetch or a list has landed or is given up, a slot was granted, or ``until``."""
        core, waiter = self.core, self.waiter
        with core.refresher.watched_by(waiter):
            if not waiter.served and core.refresher.in_flight and core.now() < until:
                yield WaitForWake(waiter, min(until, core.refresher.first_deadline), core.clock)

    def confirm(self) -> Flow[Outcome]:
        """Turn the caller away by what is recent: have the configuration read again if it is not."""
        core, waiter = self.core, self.waiter
        if core.now() < waiter.deadline and core.refresher.confirm():
            yield from self.watch_flight(waiter.deadline)
            return Outcome.LOOK
        trouble = yield from no_accounts(core, self.request, waiter.slot_request)
        # A store may have lost its memory, and have accounts again by now.
        current = not waiter.by_table or waiter.version == core.store.version
        if trouble is not None and current and core.store.table is not None:
            raise trouble
        return Outcome.LOOK

    def timed_out(self) -> Flow[BalancerError]:
        """Return the error for a wait that was too long."""
        self.core.store.totals.timeouts += 1
        return (yield from timed_out(self.core, self.request, self.waiter.slot_request))


def loaded(core: PoolCore, waiter: Waiter) -> Flow[None]:
    """Wait for the first configuration if none has been asked for yet. A failure is not raised."""
    while core.store.table is None and not core.store.is_inside():
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
    yield from _end_of(core, waiter, single_flight, refresher.begin_reconciliation())
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

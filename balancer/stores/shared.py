"""A store that other processes share: one process in front of a database.

The database knows who holds what (see :mod:`balancer.rules.operations`). What this process has beside it
are six parts, none of which knows the store: the :class:`BackendClient` asks the database and takes in
what every reply tells; :class:`HeldLeases` is what this process keeps alive; the :class:`ProcessQueue`
is who waits here; the :class:`Worker` is the thread that sends what is left in the :class:`Outbox`, says
that the process lives and takes offers; :class:`FleetTasks` fetches and reconciles for all processes.

While the store is away nothing is refused that can be made up for later: what a user says of a lease is
noted here at once, and the worker tells the store when it is back.

Mutable, all under the lock: the accounts by id, and what the parts keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from random import getrandbits
from typing import Any, Literal, TypeVar

from balancer.errors import BalancerError, LeaseLost, StoreUnavailable
from balancer.models import Account, AccountTable, JobList
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.operations import (
    Acquire,
    Adopt,
    Adopted,
    Backend,
    Bind,
    Configured,
    Cool,
    EndedLease,
    Inspect,
    Operation,
    Owner,
    ReadAll,
    ReadSome,
    ReadTable,
    Release,
    Renew,
    Reply,
    Report,
    Reported,
    Reset,
    SetWanted,
    State,
)
from balancer.rules.reconciliation import Plan
from balancer.rules.records import ANY, BOUND, ENDED, HELD, AccountState, Alike, Key, LeaseRecord, SlotRequest
from balancer.stores.backend_client import AT_LEAST, NOT_NOW, PATIENCE, BackendClient, is_busy
from balancer.stores.base import Outcome, Outlook, Process, ReentrantCall, Store, next_end, report_of
from balancer.stores.fleet_tasks import FleetTasks
from balancer.stores.heartbeat import Heart
from balancer.stores.held_leases import HeldLeases
from balancer.stores.offers import Offers
from balancer.stores.outbox import Outbox
from balancer.stores.process_queue import ProcessQueue
from balancer.stores.snapshot import fill
from balancer.stores.worker import Worker
from balancer.useapi.verdicts import VerdictDetails
from balancer.waiting.drivers import BackendCall, Flow, drive, result_of
from balancer.waiting.queue import Waiter

T = TypeVar("T")
_FIRST = 0x10000
"""Before the first number of a key: those of one length are in order as texts, and a file adds at its end."""


class SharedStore(Store):
    """Leases counted in a database, for all processes that use it.

    Args:
        backend: Carries out operations.
        new_ledger: Makes an empty ledger, to be filled with what the database holds.
        draw: Returns [0, 1).
        lease_ttl: Seconds for which a process may be silent.
        spaced: Each grant leaves its account alone for a while, of which the short way knows nothing.
        state: What every store takes.
    """

    shared: Literal[True] = True

    def __init__(
        self,
        backend: Backend,
        new_ledger: Callable[[], Ledger],
        draw: Callable[[], float],
        lease_ttl: float,
        *,
        spaced: bool,
        **state: Any,
    ) -> None:
        super().__init__(**state)
        self.backend, self.lease_ttl = backend, lease_ttl
        self._new_ledger, self._draw = new_ledger, draw
        self._spaced = spaced
        self._replica: bool = getattr(backend, "replica", False)
        """Whether the backend has all of it at hand, so that nothing need be copied to be looked at."""
        self.here = getattr(backend, "here", None)
        self._worker_limit = min(PATIENCE, max(AT_LEAST, lease_ttl / 6))
        """Seconds that the worker waits for an answer: so that it is back in time after an outage."""
        self._make_parts()

    def _make_parts(self) -> None:
        """Begin with nothing: at first, and in a forked child."""
        self.account_states: dict[str, AccountState] = {}
        lock, now, note, flush = self.lock, self.now, self.note, self.flush
        self.outbox = Outbox()
        self.held = HeldLeases(lock=lock, now=now, totals=self.totals, facts=self.facts, note=note)
        self.client = BackendClient(
            self.backend,
            self.held,
            self.outbox,
            self.wait_queue,
            lock=lock,
            now=now,
            catch_up=self._catch_up,
            reschedule=self._reschedule,
            note=note,
            note_limits=self.note_limits,
            flush=flush,
        )
        self.queue = ProcessQueue(
            self.wait_queue,
            self.client,
            self.held,
            self.outbox,
            lock=lock,
            draw=self._draw,
            account_state=self._account_state,
            inspect=self.inspect,
            totals=self.totals,
            to_wake=self.to_wake,
            flush=flush,
        )
        self.worker = Worker(
            self.backend,
            self.outbox,
            Heart(
                self.backend,
                self.held,
                self.outbox,
                lease_ttl=self.lease_ttl,
                claims=lambda: self.fleet.claims,
                ask=self._ask_as_worker,
                note=note,
                flush=flush,
            ),
            Offers(
                self.queue,
                self.client,
                self.outbox,
                lock=lock,
                now=now,
                lease_ttl=self.lease_ttl,
                ask=self._ask_as_worker,
                flush=flush,
            ),
            held=self.held,
            wait_queue=self.wait_queue,
            send=self._send,
            limit=self._worker_limit,
            collect=self.collect,
            tell_wanted=self._tell_wanted,
        )
        self.fleet = FleetTasks(
            call=self.client.call,
            ledger=self.as_ledger,
            now=now,
            keep_alive=self.worker.ensure_running,
            on_reconciled=self._on_reconciled,
        )

    # -- what the parts are given -------------------------------------------------------------------

    def _reschedule(self) -> None:
        """Have the timekeeper know when the source is to be asked next (under the lock)."""
        waits = bool(self.wait_queue.counted)
        self.look_again_at(self.schedule.next_due(self.now(), waits, self.client.detached_since))

    def _catch_up(self, within: float) -> Flow[None]:
        """Read the table that another process has put in force."""
        try:
            reply: Reply = yield BackendCall(self.backend, ReadTable(), within)
        except NOT_NOW:
            return  # the next reply tells again
        configured = reply.result
        if isinstance(configured, Configured):
            self.take_over(replace(configured.table, version=configured.version), configured.age)
        else:
            self.note("warning", "store_emptied", leases=len(self.held.held))
            self.outbox.request_heartbeat()
            self.start_over()

    def _ask_as_worker(self, operation: Operation) -> Any:
        return drive(self.client.ask(operation, limit=self._worker_limit))

    def _send(self, operation: Operation, record: LeaseRecord | None, limit: float) -> None:
        drive(self.client.ask_about(record, operation, limit=limit))

    def _tell_wanted(self) -> None:
        with self.lock:
            wanted = self.queue.wanted()
        self._ask_as_worker(SetWanted(*wanted))
        self.queue.on_told(wanted)

    def collect(self) -> None:
        """Have the leases ended whose objects were garbage collected."""
        while (record := self.held.first_abandoned()) is not None:
            if (end := self.held.end_abandoned(record)) is not None:
                self.outbox.send(end)
            self.held.strike_off(record)

    # -- a slot at once: one operation, while nothing else is going on --------------------------------

    def take_directly(self, slot_request: SlotRequest) -> Flow[bool]:
        """Grant a lease. False: that takes more than this, and another record unless this one is refused."""
        if self._is_busy():
            return False
        record, accounts = slot_request.record, slot_request.accounts
        try:
            operation = Acquire(
                str(record.key),
                slot_request.draw,
                accounts=None if accounts is None else tuple(accounts),
                max_jobs=slot_request.max_jobs,
                scope=record.scope,
                label=record.label,
                spacing=record.spacing,
            )
            reply: Reply = yield BackendCall(self.backend, operation, AT_LEAST)
            if self.client.take_in(reply):
                yield from self._catch_up(AT_LEAST)
            return self._is_granted(record, slot_request.alike, reply)
        except BaseException as error:
            self._give_up(record, error)
            if not isinstance(error, StoreUnavailable):
                raise
        return False

    def take_blocking(self, core: Any, lease: Any, label: str | None) -> bool:
        """Do so in a thread that may block: on one machine a flow would cost half of what this does."""
        if self._spaced or self._is_busy():
            return False
        record = LeaseRecord(self.new_key(), label)
        lease._core, lease._record = core, record  # noqa: SLF001  # before the grant: a finalizer gives it back
        try:
            operation = Acquire(str(record.key), self._draw(), label=label)
            reply = self.backend.call(operation, AT_LEAST)
            if self.client.take_in(reply):
                drive(self._catch_up(AT_LEAST))
            return self._is_granted(record, ANY, reply)
        except BaseException as error:
            self._give_up(record, error)
            if not isinstance(error, StoreUnavailable):
                raise
        return False

    def _is_busy(self) -> object:
        """Whether anything but the operation itself is to be done."""
        return (
            self.queue.full
            or self.held.abandoned
            or self.wait_queue.waiters
            or self.table is None
            or self.now() >= self.next_housekeeping_at
        )

    def _is_granted(self, record: LeaseRecord, alike: Alike, reply: Reply) -> bool:
        if self.wait_queue.waiters:
            self.queue.check_wanted((None, 0))
        if reply.result is None:
            self.queue.on_refused(record, alike, reply)
            return False
        with self.lock:
            self.held.add(record, self._account_state(reply.result.account))
        self.outbox.ensure_running()
        if self.events or self.to_wake or self.dead_waiters:
            self.flush()
        return True

    def _give_up(self, record: LeaseRecord, error: BaseException) -> None:
        if is_busy(error) or isinstance(error, ReentrantCall):
            return  # nothing was done, and the others shall not wait for our saying so
        self.queue.full = True
        self.outbox.send(Release(str(record.key)))  # nobody knows whether it was granted
        with self.lock:
            self.held.forget(record.key)
        self.outbox.request_wanted()

    # -- waiting ------------------------------------------------------------------------------------

    def try_again(self, waiter: Waiter, max_waiting: int | None) -> Flow[Outcome]:
        """Take a lease for ``waiter``, or have it stand at its place in time."""
        with self.lock:
            if not waiter.served and waiter.version == self.version:
                self.wait_queue.join(waiter)
        patience = max(0.0, waiter.deadline - self.now())
        if (yield from self.queue.attempt(waiter, patience)):
            with self.lock:
                self._reschedule()
            return Outcome.GRANTED
        if self.held.abandoned:
            self.collect()
        hopeless = waiter.version == self.version and (yield from self.queue.hopeless(waiter, patience))
        if waiter.served:
            return Outcome.GRANTED
        if waiter.version != self.version:
            return Outcome.LOOK  # another table has come to light meanwhile
        if hopeless:
            return Outcome.HOPELESS
        if self.now() >= waiter.deadline:
            return Outcome.TIMED_OUT
        with self.lock:
            if len(self.wait_queue.waiters) < 2 or not self.queue.must_look_again(waiter):
                if waiter.group is not None:
                    self.wait_queue.count(waiter, max_waiting, self.service)
                self._reschedule()
        return Outcome.QUEUED

    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted is given back."""
        self.queue.withdraw(waiter)
        if waiter in self.dead_waiters:
            self.dead_waiters.remove(waiter)
        self.flush()

    def defer_withdrawal(self, waiter: Waiter) -> None:
        """Have ``waiter`` withdrawn by whoever flushes next, should nobody do so before."""
        self.dead_waiters.append(waiter)

    def step(self) -> None:
        """Have the worker look around, and the next caller ask for what may be due."""
        self.queue.look_afresh()
        self.next_housekeeping_at = -math.inf
        self.outbox.request_poll()
        self.flush()

    # -- the end of a lease ---------------------------------------------------------------------------

    def new_key(self) -> str:
        """Return a key for a lease, never given twice by any process.

        Its last four digits are drawn: ending a key that is not there yet bars it, and a slip of the finger
        must not hit the next one.
        """
        return f"{self.process.name}-{_FIRST + self.serial():x}{getrandbits(16):04x}"

    def release(self, key: Key) -> Flow[bool]:
        """End the lease ``key``. True: this ended it, or will as soon as the store is back."""
        return self._release(Release(str(key)))

    def release_job(self, job_id: str) -> Flow[bool]:
        """End the lease bound to a job; remember the job if there is none yet."""
        return self._release(Release(job_id=job_id))

    def _release(self, release: Release) -> Flow[bool]:
        try:
            if release.key is not None:
                with self.lock:  # first: what is being ended is neither kept alive nor registered again
                    self.held.forget(release.key)
            gone = yield from self.client.ask(release)
        except NOT_NOW:
            return self._release_later(release)
        except BaseException:
            self._release_later(release)
            raise
        return self._on_released(release, gone)

    def give_back_blocking(self, record: LeaseRecord) -> bool:
        """End a held lease, in a thread that may block. False: it had ended, or that takes more than this."""
        if record.state is not HELD or record.accepted_job is not None or self.held.abandoned:
            return False
        release = Release(str(record.key))
        try:
            with self.lock:  # first: what is being ended is neither kept alive nor registered again
                self.held.forget(record.key)
            reply = self.backend.call(release, AT_LEAST)
            if self.client.take_in(reply):
                drive(self._catch_up(AT_LEAST))
            if self.events or self.to_wake or self.dead_waiters:
                self.flush()
        except NOT_NOW:
            return self._release_later(release)
        except BaseException:
            self._release_later(release)
            raise
        return self._on_released(release, reply.result)

    def _on_released(self, release: Release, gone: EndedLease | None) -> bool:
        if gone is None:
            return False
        with self.lock:
            if gone.key != release.key:
                self.held.forget(gone.key)
            self.held.released += 1
            self.queue.full = False
        if self.schedule.closed:
            self.worker.close_when_idle()
        return True

    def _release_later(self, release: Release) -> bool:
        with self.lock:
            new = self.outbox.put_once(release)
            self.held.released += new
        self.outbox.wake()
        return new

    # -- jobs -----------------------------------------------------------------------------------------

    def bind(self, key: Key, job_ids: tuple[str, ...], ttl: float) -> Flow[bool]:
        """Tie a lease to its jobs for ``ttl`` seconds; the store is told later if it stays away."""
        bind, record = Bind(str(key), job_ids, ttl), self.held.held.get(key)
        try:
            said = yield from self.client.ask_about(record, bind, math.inf)
        except NOT_NOW:
            self.note("warning", "bind_delayed", lease=key, job_id=", ".join(job_ids))
            self._bind_later(bind, record)
            return True
        except BaseException:
            self._bind_later(bind, record)
            raise
        if said == "taken":
            told = ", ".join(map(repr, job_ids))
            raise ValueError(f"job_id {told} is bound to another lease already")
        self._on_bound(bind, BOUND if said == "bound" else ENDED)
        if said == "lost":
            raise LeaseLost("the lease has ended", lease_id=str(key))
        self.held.released += said == "over"
        return bool(said == "bound")

    def _bind_later(self, bind: Bind, record: LeaseRecord | None) -> None:
        self.outbox.send(bind, record)
        self._on_bound(bind, BOUND)

    def _on_bound(self, bind: Bind, state: str) -> None:
        self.held.detach(bind.key, state, bind.job_ids)
        self.flush()
        self.worker.close_when_idle()

    def adopt(
        self, record: LeaseRecord, job_id: str, account_id: str, ttl: float
    ) -> Flow[LeaseRecord | None]:
        """Write down a job that runs already, and return its lease. None: there is no such account."""
        self.queue.look_afresh()
        adopt = Adopt(str(record.key), job_id, account_id, ttl)
        adopted: Adopted | None = yield from self.client.ask(adopt, math.inf)
        if adopted is None:
            return None
        with self.lock:
            return self.held.add_detached(adopted, self._account_state(adopted.account))

    def renew(self, key: Key | None, job_id: str | None, ttl: float | None) -> Flow[bool]:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now. False: there is none."""
        renew = Renew(None if key is None else str(key), job_id, ttl)
        return bool((yield from self.client.ask_about(self.held.held.get(key), renew, math.inf)))

    # -- verdicts -------------------------------------------------------------------------------------

    def report(self, record: LeaseRecord, details: VerdictDetails) -> Flow[None]:
        """Put what an answer said about the account and the lease into effect."""
        report, held = report_of(record, details), self.held.held.get(record.key)
        record.adverse, record.accepted = record.adverse or report.adverse, record.accepted or report.accepted
        record.declined = not (record.accepted or report.doubt)
        self.queue.look_afresh()
        if report.doubt:
            # Before the store is asked: whatever becomes of that, leaving the block must not free the slot.
            self.held.mark_ambiguous(record.key)
        try:
            reported: Reported = yield from self.client.ask_about(held, report, math.inf)
        except NOT_NOW:
            self.outbox.send(report, held)
            return
        except BaseException:
            self.outbox.send(report, held)
            raise
        if reported.cooling:
            self._on_cooling(report.account, report)

    def mark_ambiguous(self, key: Key) -> None:
        """Keep the slot of a lease whose job may run; the store is told by the worker."""
        record = self.held.held.get(key)
        self.held.mark_ambiguous(key)
        if record is not None:
            self.outbox.send(Report(key=key, account=record.account_state.id, doubt=True), record)

    def _on_cooling(self, account: str, cause: Report | Cool) -> None:
        self.note_cooling(account, cause)
        if not cause.worth_waiting and self.wait_queue.waiters:
            self.outbox.doubt_hope()
        self.flush()

    # -- by hand ----------------------------------------------------------------------------------------

    def cool(self, account_id: str, seconds: float, reason: str) -> Flow[bool]:
        """Put an account in a cooldown by hand. False: there is no such account."""
        self.queue.look_afresh()
        cool = Cool(account=account_id, seconds=seconds, reason=reason)
        known = bool((yield from self.client.ask(cool, math.inf)))
        if known:
            self._on_cooling(account_id, cool)
        return known

    def reset(self, account_id: str) -> Flow[bool]:
        """Clear what verdicts made of an account. False: there is no such account."""
        self.queue.look_afresh()
        return bool((yield from self.client.ask(Reset(account_id), math.inf)))

    # -- accounts, and what is asked of the source --------------------------------------------------------

    def configure(self, changes: Changes, table: AccountTable) -> None:
        """Show the accounts of this process as the table has them; callers look around."""
        with self.lock:
            self.table, self.next_housekeeping_at = table, -math.inf
            self.client.version = table.version
            self.version += 1
            self.queue.look_afresh()
            for account in changes.put:
                if (account_state := self.account_states.get(account.id)) is not None:
                    account_state.account = account  # the others are made when they are needed
            for waiter in list(self.wait_queue.waiters):
                self.wait_queue.step_aside(waiter)
            self.wake_all()
        self.flush()

    def _account_state(self, id: str) -> AccountState:
        account_state = self.account_states.get(id)
        if account_state is None:
            known = self.table.accounts.get(id) if self.table else None
            account_state = self.account_states[id] = AccountState(known or Account(id))
        return account_state

    def fetch(
        self, ask: Callable[[], AccountTable | BalancerError], max_age: float
    ) -> tuple[AccountTable | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds."""
        return self.fleet.fetch(ask, max_age)

    def reconcile(
        self,
        ask: Callable[[], JobList | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        max_age: float,
    ) -> Plan | BalancerError:
        """Have the server's list read and put into effect, unless it is no longer ``wanted`` by then."""
        self.queue.look_afresh()
        return self.fleet.reconcile(ask, wanted, interval, max_age)

    def _on_reconciled(self, plan: Plan, ended: frozenset[str]) -> None:
        with self.lock:
            self.totals.reclaimed += len(ended)
            self.held.on_reconciled(((str(record.key), job_id) for record, job_id in plan.bind), ended)
        for record in plan.reclaim:
            if str(record.key) in ended:
                self.note("warning", "lease_reclaimed", **self.facts(record))
        self.flush()

    # -- reading ------------------------------------------------------------------------------------------

    def inspect(self, look: Callable[[Ledger], T], *, patience: float = math.inf) -> Flow[T]:
        """Return what ``look`` reads of what the store holds: from the backend's replica, or from a copy."""
        if self._replica:
            found: T = yield from self.client.ask(Inspect(look), patience)
            return found
        ledger = yield from self._copy(patience)
        self.queue.on_seen(ledger)
        return look(ledger)

    def outlook(self, slot_request: SlotRequest, most: int) -> Flow[Outlook]:
        """Return what a caller is told who is turned away: of at most ``most`` accounts that it could use."""
        if self._replica:
            seen: Outlook = yield from result_of(super().outlook(slot_request, most))
            return seen
        known = self.table.accounts if self.table else {}
        ids = tuple(islice(known if slot_request.accounts is None else slot_request.accounts, most))
        state: State = yield from self.client.ask(ReadSome(ids))
        ledger, now = self.as_ledger(state), self.now()
        every = slot_request.accounts is not None and len(slot_request.accounts) <= most
        soon = math.inf if state.next_end is None else now + state.next_end
        shown = [ledger.account_states[id] for id in ids if id in ledger.account_states]
        return Outlook(
            states={each.id: ledger.state_for(slot_request, each) for each in shown},
            detached=state.detached,
            detached_since=self.client.detached_since,
            next_end=next_end(ledger, slot_request, most) if every else soon,
            closed_until=-math.inf if state.closed is None else now + state.closed,
        )

    def _copy(self, patience: float) -> Flow[Ledger]:
        state: State = yield from self.client.ask(ReadAll(), patience)
        if state.table is None and self.table is not None:
            # It had lost its memory, and another process has filled it since: nobody is judged by that.
            state = yield from self.client.ask(ReadAll(), patience)
        return self.as_ledger(state)

    def as_ledger(self, state: State) -> Ledger:
        """Return what the store holds, as a ledger by this process's clock."""
        return fill(self._new_ledger(), state, self.now())

    @property
    def oldest_detached_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so, as the last reply told."""
        return self.client.detached_since

    @property
    def released(self) -> int:
        """Leases that were ended by this process."""
        return self.held.released

    def describe(self) -> str:
        """Return what a repr says of the store, without I/O."""
        accounts = len(self.table.accounts) if self.table else 0
        return f"{len(self.held.held)} held by this process, {accounts} accounts"

    # -- life -------------------------------------------------------------------------------------

    def abandon(self, record: LeaseRecord) -> None:
        """Take note, from a finalizer, of a lease whose object is gone."""
        self.held.abandoned.append(record)
        if self.wait_queue.waiters:
            self._on_abandoned()
        if self.schedule.closed and self.worker.thread is not None:
            self.backend.poke()  # no operation comes any more that would end it

    def close(self, *, wait: bool = True) -> None:
        """Send what is still to be sent; connections are closed once no lease is out."""
        self.collect()
        inside = self.is_inside()  # then the queue may be half changed, and the worker wait for this thread
        if not inside:
            with self.lock:
                for waiter in list(self.wait_queue.waiters):
                    self.wait_queue.step_aside(waiter)  # it is on its way out, and is to be served no more
        if self.wait_queue.waiters:
            self.outbox.request_wanted()
        self.worker.close(wait=wait and not inside)

    def after_fork(self, process: Process) -> None:
        """Start empty in a child: leases, callers and connections are the parent's."""
        super().after_fork(process)
        self.held.disinherit()
        self.worker.disinherit()
        self._make_parts()
        self.backend.after_fork(Owner(process.name, process.host_pid))

"""The store of one process: the ledger itself, and the callers who wait for it.

Every operation is one step under one lock, at one moment. A freed slot is handed to the first caller who
can use it in the same step that frees it: nobody is woken to race, and no newcomer can slip in between. So
at rest no waiter could use any free slot, and a caller who finds a slot free may take it without looking at
the queue. (One account may be kept for a caller who needs it emptier than others leave it.) A step that was
cut short is made good by the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any, Literal, TypeVar

from balancer.errors import BalancerError, LeaseLost, SourceUnavailable, TooManyWaiting
from balancer.models import AccountTable, JobList
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.operations import Cool, Report
from balancer.rules.reconciliation import Plan, Snapshot, reconcile_jobs
from balancer.rules.records import (
    AMBIGUOUS,
    BOUND,
    ENDED,
    HELD,
    AccountState,
    Key,
    LeaseRecord,
    SlotRequest,
)
from balancer.stores.base import Outcome, Process, ReentrantCall, Store, WaiterMaker, report_of
from balancer.stores.memory_fast_path import FastPath, never, open_fast_path
from balancer.useapi.verdicts import VerdictDetails
from balancer.waiting.queue import KEEP_AFTER, Waiter

T = TypeVar("T")
_REFUSALS = (ValueError, LeaseLost, TooManyWaiting, ReentrantCall)
"""What a step raises on purpose, before it changes anything."""

_KEEP_AGAIN = 1.0
"""Seconds after which to look again for an account that could be kept, if there was none."""


class MemoryStore(Store):
    """Leases of one process, gone with it.

    Mutable, all under the lock but for what the fast path does: the ledger, whether a step was cut short,
    and for whom an account is kept.
    """

    shared: Literal[False] = False

    def __init__(
        self, new_ledger: Callable[[], Ledger], draw: Callable[[], float], *, spaced: bool, **state: Any
    ) -> None:
        self._new_ledger, self.draw = new_ledger, draw
        self.spaced = spaced
        """Each grant leaves its account alone for a while: something is due after each."""
        super().__init__(**state)
        self.new_key = self.serial

    def _start(self) -> None:
        self.fast = FastPath()
        super()._start()
        self.ledger = self._new_ledger()
        self.inconsistent = False
        """A step was cut short in its middle, and the next one must recount."""
        self._kept: AccountState | None = None
        """The account that is kept for the first who needs one emptier than others leave it."""
        self.take = self.give_back = never
        if not self.spaced:
            self._open_fast_path()

    def _open_fast_path(self) -> None:
        self.take, self.give_back = open_fast_path(
            self.fast,
            self.ledger,
            draw=self.draw,
            now=self.now,
            serial=self.serial,
            deferred=self.deferred,
            waiters=self.wait_queue.waiters,
            totals=self.totals,
            mark_inconsistent=self.mark_inconsistent,
        )

    @property
    def next_housekeeping_at(self) -> float:
        """Until when a free slot may be handed out without any housekeeping."""
        return self.fast.next_housekeeping_at

    @next_housekeeping_at.setter
    def next_housekeeping_at(self, at: float) -> None:
        self.fast.next_housekeeping_at = at

    # -- steps --------------------------------------------------------------------------------

    def _step(self, act: Callable[..., T], *args: Any) -> T:
        """Do what is due, then ``act(now, *args)``, under the lock; then wake and log whom it concerns.

        Raises:
            ReentrantCall: this thread is in the middle of a step.
        """
        inside, fast = False, self.fast
        try:
            with self.lock:
                inside = self.busy
                if inside:
                    raise ReentrantCall
                try:
                    fast.closed = True  # before the look: who enters does both the other way round
                    if fast.busy:
                        fast.wait_until_free()
                    self.busy = True
                    now = self.now()
                    if now >= fast.next_housekeeping_at or self.deferred or self.inconsistent:
                        self._do_what_is_due(now)
                    result = act(now, *args)
                    if self.spaced:
                        self._look_ahead(now)
                    return result
                except _REFUSALS:
                    raise
                except BaseException:
                    self.mark_inconsistent()
                    raise
                finally:
                    self.busy = False
                    fast.closed = self.inconsistent
        finally:
            if not inside and (self.to_wake or self.events or self.deferred or self.dead_waiters):
                self.flush()

    def step(self) -> None:
        """Do what is due."""
        try:
            self._step(self._look_ahead)
        except ReentrantCall:  # whoever is inside does it
            pass

    def mark_inconsistent(self) -> None:
        """Note that a step was cut short."""
        self.inconsistent = self.fast.closed = True

    def _later(self, act: Callable[..., Any], *args: Any) -> None:
        """Have the step that this thread is in the middle of do this too, before it lets go."""
        self.deferred.append((act, args))

    def _do_what_is_due(self, now: float) -> None:
        if self.inconsistent:
            self._rebuild(now)
        while self.deferred:
            act, args = self.deferred[0]
            act(now, *args)
            self.deferred.popleft()  # last: an interruption must not lose it, and once more does no harm
        expired, changed = self.ledger.due(now)
        for record in expired:
            self.totals.expired += 1
            was = AMBIGUOUS if record.job_id is None else BOUND
            self.note("warning", "lease_expired", **{**self.facts(record), "state": was})
        self._serve(changed, now)
        self._keep_an_account(now)
        self._look_ahead(now)

    def _rebuild(self, now: float) -> None:
        """Make good for a step that was cut short: recount, go on serving, have everybody look around."""
        self.ledger.recount()
        self.wait_queue.rebuild()
        self.inconsistent = False
        for waiter in [waiter for waiter in self.wait_queue.waiters if waiter.served]:
            self._granted(waiter)
        self._stop_keeping()
        self._serve_all(now)
        self.wake_all()

    def _look_ahead(self, now: float) -> None:
        """See when something is due next, and have it told what was learned."""
        if self.ledger.limit_changes:
            self.note_limits(self.ledger.limit_changes)
            self.ledger.limit_changes.clear()
        waiting = bool(self.wait_queue.counted)
        due = self.schedule.next_due(now, waiting, self.ledger.detached_since.next)
        first = self.wait_queue.first_to_keep_for() if self.wait_queue.own_capacity else None
        keep_at = math.inf if first is None or self._kept is not None else first.begun + KEEP_AFTER
        if keep_at <= now:
            keep_at = now + _KEEP_AGAIN
        self.look_again_at(min(due, keep_at, self.ledger.timers.next))

    # -- waiting ------------------------------------------------------------------------------

    def try_acquire(
        self, request: SlotRequest, make_waiter: WaiterMaker, timeout: float | None, max_waiting: int | None
    ) -> tuple[Outcome, Waiter | None]:
        """Grant a lease, or have its caller stand in the queue, in one step."""
        return self._step(self._grant_or_queue, request, make_waiter, timeout, max_waiting)

    def try_again(self, waiter: Waiter, max_waiting: int | None) -> Outcome:
        """Grant ``waiter`` its lease if there is room by now; else have it stand at its place in time."""
        return self._step(self._grant_or_requeue, waiter, max_waiting)

    def _grant_or_queue(
        self,
        now: float,
        request: SlotRequest,
        make_waiter: WaiterMaker,
        timeout: float | None,
        max_waiting: int | None,
    ) -> tuple[Outcome, Waiter | None]:
        look_first = self.table is None or now >= self.fast.next_housekeeping_at
        if not look_first and self.ledger.take(request, now):
            self.totals.acquired += 1
            return Outcome.GRANTED, None
        waiter = make_waiter(request.record, now, timeout)
        waiter.slot_request = request
        if not look_first:
            return self._queue(now, waiter, max_waiting), waiter
        if self.table is None:
            self.wait_queue.join(waiter)  # the first table serves those who came for it in their order
        return Outcome.LOOK, waiter

    def _grant_or_requeue(self, now: float, waiter: Waiter, max_waiting: int | None) -> Outcome:
        if waiter.served:
            return Outcome.GRANTED
        if waiter.by_table and waiter.version != self.version:
            return Outcome.LOOK  # what it may use was worked out from another table
        if waiter.group is None and self.ledger.take(waiter.slot_request, now):
            self._granted(waiter)
            return Outcome.GRANTED
        return self._queue(now, waiter, max_waiting)

    def _queue(self, now: float, waiter: Waiter, max_waiting: int | None) -> Outcome:
        """Have a caller wait whom no account can serve just now, if that can help it."""
        if self.ledger.hopeless(waiter.slot_request):
            return Outcome.HOPELESS
        if now >= waiter.deadline:
            return Outcome.TIMED_OUT
        queue, new = self.wait_queue, not waiter.counted
        queue.count(waiter, max_waiting, self.service)
        if waiter.group is None:
            queue.join(waiter)
        if new and waiter.slot_request.max_jobs is not None:
            self._look_ahead(now)  # an account may have to be kept for it
        return Outcome.QUEUED

    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted goes to the next."""
        try:
            self._step(self._withdraw, waiter)
        except ReentrantCall:
            self._later(self._withdraw, waiter)

    def defer_withdrawal(self, waiter: Waiter) -> None:
        """Have the next step withdraw ``waiter``, should nobody do so before."""
        self.deferred.append((self._withdraw, (waiter,)))

    def _withdraw(self, now: float, waiter: Waiter) -> None:
        self.wait_queue.leave(waiter)
        if self._kept is not None and self._kept.kept_for is waiter.record:
            self._serve([self._stop_keeping()], now)
        if waiter.record.state is HELD:
            self._end(now, waiter.record)

    # -- serving those who wait ---------------------------------------------------------------

    def _serve(self, states: Sequence[AccountState | None], now: float) -> None:
        """Hand out the free slots of accounts that changed, caller by caller in their order."""
        if not self.wait_queue.waiters or not states:
            return
        if len(states) > 1:
            self._serve_all(now)
        elif states[0] is not None:
            self._serve_from(states[0], now)

    def _serve_from(self, state: AccountState, now: float) -> None:
        """Hand out the free slots of one account. One who cannot be served holds up only its like."""
        queue, ledger = self.wait_queue, self.ledger
        while state.left > 0 or queue.own_capacity:
            for group in queue.groups_for(state.id):
                waiter = group.first
                if ledger.take_on(waiter.slot_request, state, now):
                    self._granted(waiter)
                    break
            else:
                return

    def _serve_all(self, now: float) -> None:
        """Hand out the free slots of all accounts, caller by caller in their order: chance decides where."""
        ranked = [(group.turn, group) for group in self.wait_queue.groups()]  # in order, so a heap
        while ranked:
            _, group = heappop(ranked)
            if self.ledger.take(group.first.slot_request, now):
                self._granted(group.first)
                if group.queue:
                    heappush(ranked, (group.turn, group))

    def _granted(self, waiter: Waiter) -> None:
        """Have a caller who was granted a lease leave the queue, and be told."""
        self.to_wake.append(waiter)  # first: who is out of the queue and not told would sleep for ever
        self.wait_queue.leave(waiter)
        self.totals.acquired += 1
        self.totals.count_wait(waiter.record.held_since - waiter.begun)
        if self._kept is not None and self._kept.kept_for is waiter.record:
            self._stop_keeping()

    def _keep_an_account(self, now: float) -> None:
        """Keep one account for the first who has waited long for one that is emptier than others leave it.

        First come, first served holds for callers with a low ``max_jobs`` too: without this, those behind
        them would fill every account again for ever.
        """
        if self._kept is not None:
            if self._kept.usable and not self._kept.cooldowns:
                return
            self._serve([self._stop_keeping()], now)
        waiter = self.wait_queue.first_to_keep_for() if self.wait_queue.own_capacity else None
        if waiter is None or now < waiter.begun + KEEP_AFTER:
            return
        request = waiter.slot_request
        fitting = [each for each in self.ledger.candidates(request) if each.usable and not each.cooldowns]
        if fitting:
            emptiest = min(fitting, key=lambda each: len(each.held) + each.external)
            emptiest.kept_for, self._kept = waiter.record, emptiest
            self.ledger.update_selector(emptiest)

    def _stop_keeping(self) -> AccountState | None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.kept_for = None
            if kept.id in self.ledger.account_states:
                self.ledger.update_selector(kept)
        return kept

    def _wake_hopeless(self, state: AccountState) -> None:
        """Wake those for whom nothing is left to wait for, now that less is to be expected of an account."""
        for group in self.wait_queue.groups_for(state.id):
            request = group.first.slot_request
            if request.admits(state.id) and self.ledger.hopeless(request):
                self.to_wake.extend(group.queue)

    # -- leases -------------------------------------------------------------------------------

    def release(self, key: Key) -> bool:
        """End the lease ``key``, whatever its state. True once."""
        try:
            return self._step(self._release, key)
        except ReentrantCall:
            record = self.ledger.records.get(key)
            self._later(self._release, key)
            return record is not None and record.state is not ENDED

    def _release(self, now: float, key: Key) -> bool:
        record = self.ledger.records.get(key)
        return record is not None and self._end(now, record)

    def release_job(self, job_id: str) -> bool:
        """End the lease bound to a job; remember the job if there is none yet."""
        try:
            return self._step(self._release_job, job_id)
        except ReentrantCall:
            self._later(self._release_job, job_id)
            record = self.ledger.jobs.get(job_id)
            return record is not None and len(record.running_jobs) == 1

    def _release_job(self, now: float, job_id: str) -> bool:
        record, last = self.ledger.end_job(job_id, now)
        return last and self._end(now, record)

    def _end(self, now: float, record: LeaseRecord | None) -> bool:
        if record is None or self.ledger.records.get(record.key) is not record:
            return False
        state = self.ledger.end(record, now, released=True)
        if self.wait_queue.waiters:
            self._serve_from(state, now)
            if state.limit is not None:
                self._look_ahead(now)  # should it have been a trial, the time of the next is known now
        return True

    def abandon(self, record: LeaseRecord) -> None:
        """Take note, from a finalizer, of a lease whose object is gone."""
        self.deferred.append((self._end_abandoned, (record,)))
        if self.wait_queue.waiters:
            self._on_abandoned()

    def _end_abandoned(self, now: float, record: LeaseRecord) -> None:
        if record.waiter is not None:
            self._withdraw(now, record.waiter)
        elif record.state is HELD and self.ledger.records.get(record.key) is record:
            self.note("warning", "lease_abandoned", **self.facts(record))
            self._serve([self.ledger.end(record, now)], now)

    def bind(self, key: Key, job_ids: tuple[str, ...], ttl: float) -> bool:
        """Tie a lease to its job for ``ttl`` seconds. False: the job was over already, the slot is free.

        Raises:
            LeaseLost: the lease has ended. ValueError: the job is another lease's.
        """
        return self._step(self._bind, key, job_ids, ttl)

    def _bind(self, now: float, key: Key, job_ids: tuple[str, ...], ttl: float) -> bool:
        record = self.ledger.records.get(key)
        if record is None:
            raise LeaseLost("the lease has ended", lease_id=self.lease_id(key))
        bound = self.ledger.bind(record, job_ids, now + ttl, now)
        self._serve([record.account_state], now)
        self._look_ahead(now)
        return bound

    def adopt(self, record: LeaseRecord, job_id: str, account_id: str, ttl: float) -> LeaseRecord | None:
        """Write down a job that runs already, and return its lease. None: there is no such account."""
        return self._step(self._adopt, record, job_id, account_id, ttl)

    def _adopt(
        self, now: float, record: LeaseRecord, job_id: str, account_id: str, ttl: float
    ) -> LeaseRecord | None:
        state = self.ledger.account_states.get(account_id)
        known = self.ledger.jobs.get(job_id)
        if known is None and state is not None and not state.draining:
            known = self.ledger.adopt(record, job_id, state, now + ttl, now)
            self._serve([state], now)  # somebody else's job may have become ours
            self._look_ahead(now)
        return known

    def renew(self, key: Key | None, job_id: str | None, ttl: float | None) -> bool:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now. False: there is none."""
        return self._step(self._renew, key, job_id, ttl)

    def _renew(self, now: float, key: Key | None, job_id: str | None, ttl: float | None) -> bool:
        record = self.ledger.records.get(key) if job_id is None else self.ledger.jobs.get(job_id)
        if record is not None and record.end is not None:
            self.ledger.set_end(record, now + (self.ttls[record.state] if ttl is None else ttl))
            self._look_ahead(now)
        return record is not None

    def report(self, record: LeaseRecord, details: VerdictDetails) -> None:
        """Put what an answer said about the account and the lease into effect."""
        self._step(self._report, record, details)

    def report_on_leaving(self, record: LeaseRecord, details: VerdictDetails) -> None:
        """Do as :meth:`report`, for a caller that leaves its block: it may be in the middle of a step."""
        try:
            self._step(self._report, record, details)
        except ReentrantCall:
            self._later(self._report, record, details)

    def _report(self, now: float, record: LeaseRecord, details: VerdictDetails) -> None:
        report, state = report_of(record, details), record.account_state
        if self.ledger.report(report, now, now + self.ttls[AMBIGUOUS]):
            self._on_cooling(now, state, report)
        elif report.accepted:
            self._serve([state], now)
        self._look_ahead(now)

    def mark_ambiguous(self, key: Key) -> None:
        """Keep the slot of a lease whose job may run, without a verdict on its account."""
        try:
            self._step(self._mark_ambiguous, key)
        except ReentrantCall:
            self._later(self._mark_ambiguous, key)

    def _mark_ambiguous(self, now: float, key: Key) -> None:
        record = self.ledger.records.get(key)
        if record is not None:
            self.ledger.doubt(record, now + self.ttls[AMBIGUOUS], now)
            self._look_ahead(now)

    # -- accounts -----------------------------------------------------------------------------

    def cool(self, account_id: str, seconds: float, reason: str) -> bool:
        """Put an account in a cooldown by hand. False: there is no such account."""
        return self._step(self._cool, Cool(account=account_id, seconds=seconds, reason=reason))

    def _cool(self, now: float, cool: Cool) -> bool:
        state = self.ledger.account_states.get(cool.account)
        if state is None:
            return False
        self.ledger.cool(state, cool.scope, now + cool.seconds, cool.reason, cool.worth_waiting)
        self._on_cooling(now, state, cool)
        self._look_ahead(now)
        return True

    def _on_cooling(self, now: float, state: AccountState, cause: Report | Cool) -> None:
        self.note_cooling(state.id, cause)
        if not cause.worth_waiting:
            self._wake_hopeless(state)
        self._keep_an_account(now)

    def reset(self, account_id: str) -> bool:
        """Clear what verdicts made of an account. False: there is no such account."""
        return self._step(self._reset, account_id)

    def _reset(self, now: float, account_id: str) -> bool:
        state = self.ledger.account_states.get(account_id)
        if state is not None:
            self.ledger.reset(state)
            self._serve([state], now)
        return state is not None

    def configure(self, changes: Changes, table: AccountTable) -> None:
        """Bring the accounts in line with a new table.

        Callers who say by a function what they may use step aside: that was worked out from the old
        table, and only they themselves can work it out again.
        """
        self._step(self._configure, changes, table)

    def _configure(self, now: float, changes: Changes, table: AccountTable) -> None:
        changed = self.ledger.configure(changes)
        self.table = table  # only now: should this be cut short, the next table makes it good
        self.version += 1
        for waiter in list(self.wait_queue.waiters):
            if waiter.by_table:
                self.wait_queue.step_aside(waiter)
                self.to_wake.append(waiter)
        self._serve(changed, now)
        self._keep_an_account(now)
        for group in self.wait_queue.groups():
            if self.ledger.hopeless(group.first.slot_request):
                self.to_wake.extend(group.queue)
        self._look_ahead(now)

    # -- what is asked of the source ------------------------------------------------------------

    def fetch(
        self, ask: Callable[[], AccountTable | BalancerError], _: float
    ) -> tuple[AccountTable | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds."""
        return ask(), 0.0

    def reconcile(
        self,
        ask: Callable[[], JobList | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        _: float,
    ) -> Plan | BalancerError:
        """Have the server's list read and put into effect, unless it is no longer ``wanted`` by then."""
        before = self._step(lambda now: Snapshot.of(self.ledger, now))
        listed = ask()
        if isinstance(listed, BalancerError):
            return listed
        return self._step(self._reconcile, listed, wanted, before, interval)

    def _reconcile(
        self, now: float, listed: JobList, wanted: Callable[[], bool], before: Snapshot, interval: float
    ) -> Plan | BalancerError:
        if not wanted():
            return SourceUnavailable("the list of jobs came too late")
        plan = reconcile_jobs(listed, before, self.ledger, interval, self.lease_id)
        changed = self.ledger.set_external(plan.external, plan.listed, before.requested_at)
        for record, job_id in plan.bind:
            self.ledger.bind(record, (job_id,), now + self.ttls[BOUND], now)
        for record in plan.prolong:
            self.ledger.prolong(record, now + self.ttls[BOUND])
        for record in (*plan.reclaim, *plan.resolve):
            changed.append(self.ledger.end(record, now))
        self.totals.reclaimed += len(plan.reclaim) + len(plan.resolve)
        for record in plan.reclaim:
            self.note("warning", "lease_reclaimed", **{**self.facts(record), "state": BOUND})
        self._serve(changed, now)
        self._look_ahead(now)
        return plan

    # -- reading ------------------------------------------------------------------------------

    def inspect(self, look: Callable[[Ledger], T], *, patience: float = math.inf) -> T:  # noqa: ARG002
        """Return what ``look`` reads from the ledger, at one moment: from inside a step, at that one."""
        try:
            result: T = self._step(self._look, look)
        except ReentrantCall:
            return look(self.ledger)
        return result

    def _look(self, _: float, look: Callable[[Ledger], T]) -> T:
        return look(self.ledger)

    @property
    def oldest_detached_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so; infinity: none is (under the lock)."""
        return self.ledger.detached_since.next

    @property
    def released(self) -> int:
        """What was granted, and has neither ended otherwise nor is live: so the fast path counts less."""
        totals, records = self.totals, self.ledger.records
        with self.lock:
            while True:
                acquired, live = totals.acquired, len(records)
                if acquired == totals.acquired:
                    return acquired - live - totals.expired - totals.reclaimed

    def describe(self) -> str:
        """Return what a repr says of the store, without I/O."""
        return f"{len(self.ledger.records)} in flight on {len(self.ledger.account_states)} accounts"

    # -- life ---------------------------------------------------------------------------------

    def close(self, *, wait: bool = True) -> None:  # nothing is to be sent
        """Do nothing: there is nothing beside what leases need."""

    def after_fork(self, process: Process) -> None:
        """Start empty in a child: the leases and the callers who wait are the parent's."""
        for record in self.ledger.records.values():
            record.lease_id = self.lease_id(record.key)
            record.state, record.inherited = ENDED, True
        super().after_fork(process)

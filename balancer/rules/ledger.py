"""Who holds what, who cools down, who probes: the rules of the library, without locks, clocks or I/O.

MUTABLE 1 of 2 (the other is the catalog). ``now`` and the random number are arguments, so that
every decision can be repeated. Whoever owns a ledger sees to it that one thread at a time is in it
and that ``due(now)`` was called before it decides anything at ``now``.

The rows are what is true. Everything else that changes in here is derived from them and can be
worked out again: see :meth:`Ledger.recount`.
"""

from __future__ import annotations

from collections.abc import Callable

from cachetools import TTLCache

from balancer.rules.accounts import Accounts, Changes
from balancer.rules.records import (
    AMBIGUOUS,
    BOUND,
    ENDED,
    HELD,
    NEW,
    OUT,
    AccountState,
    Key,
    LeaseRecord,
    SlotRequest,
)
from balancer.rules.timer_queue import TimerQueue

__all__ = ["EARLY_RELEASES", "EARLY_RELEASE_TTL", "Changes", "Ledger"]

EARLY_RELEASES = 10_000
EARLY_RELEASE_TTL = 600.0


class Ledger(Accounts):
    """Leases and accounts of one pool."""

    def __init__(self, strategy: str, timer: Callable[[], float], *, lower_only: bool = False) -> None:
        super().__init__(strategy, lower_only=lower_only)
        self.records: dict[Key, LeaseRecord] = {}
        self.jobs: dict[str, LeaseRecord] = {}
        """The rows that are bound, by job id."""
        self.early: TTLCache[str, bool] = TTLCache(EARLY_RELEASES, EARLY_RELEASE_TTL, timer)
        """Jobs that were released before anybody bound them."""
        self.done: TTLCache[str, float] = TTLCache(EARLY_RELEASES, EARLY_RELEASE_TTL, timer)
        """Jobs that were released, and when: the server's list may lag behind."""
        self.detached_since: TimerQueue[LeaseRecord] = TimerQueue()
        """Bound and ambiguous rows by since when: no block of code will end them."""

    # -- time ---------------------------------------------------------------------------------

    def due(self, now: float) -> tuple[list[LeaseRecord], list[AccountState]]:
        """End what has ended by ``now``. Return the expired rows and the accounts that changed."""
        expired: list[LeaseRecord] = []
        changed: list[AccountState] = []
        for thing in self.timers.due(now):
            changed.append(thing.account_state)
            if isinstance(thing, LeaseRecord):
                expired.append(thing)
                self.end(thing)
            else:
                thing.cooling = False
                self.update_cooldowns(thing.account_state)
        return expired, changed

    # -- leases -------------------------------------------------------------------------------

    def take(self, request: SlotRequest, now: float) -> bool:
        """Grant the request's lease on an account that chance picks among those that fit, if any does."""
        if request.record.key in self.records:
            return True
        account_state = self.choose(request)
        if account_state is None:
            return False
        self.grant(request.record, account_state, now)
        return True

    def take_on(self, request: SlotRequest, account_state: AccountState, now: float) -> bool:
        """Grant the request's lease on this account, if it may be served there."""
        if request.record.key in self.records:
            return True
        if not request.admits(account_state.id) or not self.fits(request, account_state):
            return False
        self.grant(request.record, account_state, now)
        return True

    def grant(self, record: LeaseRecord, account_state: AccountState, now: float) -> None:
        """Put a lease on an account. Its state is set last, so that before there is no grant.

        Who finds a key live already leaves it where it is: the step that granted it was cut short before
        its caller was out of the queue.
        """
        record.account_state, record.held_since = account_state, now
        if account_state.cooldowns:
            for cooldown in account_state.cooldowns_for(record.scope):
                cooldown.probe = record.key
        self.records[record.key] = account_state.held[record.key] = record
        account_state.left -= 1
        record.state = HELD
        self.update_selector(account_state)

    def end(self, record: LeaseRecord) -> AccountState:
        """End a live lease, whatever its state, and return its account."""
        account_state = record.account_state
        record.state = ENDED
        del self.records[record.key], account_state.held[record.key]
        account_state.left += 1
        if record.job_id is not None:
            self.jobs.pop(record.job_id, None)
        self.timers.drop(record)
        self.detached_since.drop(record)
        if account_state.cooldowns:
            self.conclude(record, well=not record.adverse)
        self.update_selector(account_state)
        return account_state

    def finish(self, record: LeaseRecord, now: float) -> AccountState:
        """End a lease because its user says that the job is over."""
        if record.job_id is not None:
            self.done[record.job_id] = now
        return self.end(record)

    def bind(self, record: LeaseRecord, job_id: str, end: float, now: float) -> bool:
        """Tie a live lease to its job until ``end``. False: the job was released already, so it ended.

        Raises:
            ValueError: the job is another lease's, or the lease another job's.
        """
        if self.jobs.get(job_id, record) is not record:
            raise ValueError(f"job_id {job_id!r} is bound to another lease already")
        if record.state == BOUND and record.job_id != job_id:
            raise ValueError(f"job_id {job_id!r}: the lease is bound to {record.job_id!r} already")
        if job_id in self.early:
            record.job_id = job_id
            self.conclude(record, well=True)
            self.finish(record, now)
            self.early.pop(job_id, None)
            return False
        record.job_id, record.missed = job_id, 0
        self.jobs[job_id] = record
        self._loosen(record, BOUND, end, now)
        self.conclude(record, well=True)
        return True

    def doubt(self, record: LeaseRecord, end: float, now: float) -> None:
        """Keep the slot of a lease of which nobody knows whether its job runs, until ``end``."""
        if record.state != BOUND:
            self._loosen(record, AMBIGUOUS, end, now)

    def _loosen(self, record: LeaseRecord, state: str, end: float, now: float) -> None:
        record.end, record.state_since, record.state = end, now, state
        self.detached_since.set(record, now)
        self.timers.set(record, end)

    def set_end(self, record: LeaseRecord, end: float) -> None:
        """Have a live lease end by itself at ``end``."""
        record.end = end
        self.timers.set(record, end)

    def prolong(self, record: LeaseRecord, end: float) -> None:
        """Have a lease whose job still runs end at ``end``, unless its user gave it longer."""
        if record.end is not None and record.end < end:
            self.set_end(record, end)

    def forget_job(self, job_id: str) -> LeaseRecord | None:
        """Return the lease bound to a job; remember the job as released if there never was one.

        A callback may come twice: what was released already, and ended a lease, frees no later one.
        """
        record = self.jobs.get(job_id)
        if record is None and job_id not in self.done:
            self.early[job_id] = True
        return record

    # -- cooldowns and probing ----------------------------------------------------------------

    def accept(self, record: LeaseRecord) -> None:
        """The account took the job: if this lease probes, the probing is over."""
        self.conclude(record, well=True)

    # -- derived state ------------------------------------------------------------------------

    def recount(self) -> None:
        """Derive everything from the rows again, after an operation was cut short in its middle.

        An exception such as KeyboardInterrupt can arrive between any two steps. A row's state is what
        counts: it is the last thing that a grant or a bind sets, and the first that an end does.
        """
        for key in [key for key, record in self.records.items() if record.state in (NEW, ENDED)]:
            del self.records[key]
        self.jobs, self.timers, self.detached_since = {}, TimerQueue(), TimerQueue()
        self.selector.clear()
        self.forget_hopes()
        for account_state in self.account_states.values():
            account_state.held, account_state.place = {}, OUT
        for record in self.records.values():
            self._recount_row(record)
        for account_state in list(self.account_states.values()):
            self.recount_cooldowns(account_state)
            self.recompute(account_state)

    def _recount_row(self, record: LeaseRecord) -> None:
        record.account_state.held[record.key] = record
        if record.state != BOUND:
            record.job_id = None
        elif record.job_id is not None:
            self.jobs[record.job_id] = record
        if record.state == HELD:
            record.end = None
        elif record.end is not None:
            self.timers.set(record, record.end)
            self.detached_since.set(record, record.state_since)

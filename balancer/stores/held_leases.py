"""The leases that this process has in a shared store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import RLock
from typing import Any

from cachetools import LRUCache

from balancer.rules.operations import Adopted, EndedLease, LeaseState, Release
from balancer.rules.records import AMBIGUOUS, BOUND, ENDED, HELD, AccountState, Key, LeaseRecord
from balancer.stores.base import Totals

_REMEMBERED = 10_000


class HeldLeases:
    """What this process keeps alive, and what it is told of leases that the store keeps by itself.

    Mutable, under the lock. The store may know better at any time: it may have ended a lease for somebody
    else, or have forgotten it.
    """

    def __init__(
        self,
        *,
        lock: RLock,
        now: Callable[[], float],
        totals: Totals,
        facts: Callable[[LeaseRecord], dict[str, Any]],
        note: Callable[..., None],
    ) -> None:
        self._lock, self._now, self._totals = lock, now, totals
        self._facts, self._note = facts, note
        self.held: dict[Key, LeaseRecord] = {}
        """Unbound leases: what is registered again if the store forgets us."""
        self.detached: LRUCache[Key, LeaseRecord] = LRUCache(_REMEMBERED)
        """Bound and ambiguous ones: the store keeps them, their lease objects want to know the end."""
        self.abandoned: deque[LeaseRecord] = deque()
        """Records whose lease object was garbage collected. A finalizer may only append."""
        self.released = 0
        """Leases that were ended by this process."""

    def add(self, record: LeaseRecord, account_state: AccountState) -> None:
        """Take in a lease that was granted (under the lock)."""
        self.held[record.key] = record
        record.account_state, record.held_since, record.state = account_state, self._now(), HELD
        self._totals.acquired += 1

    def forget(self, key: Key | None) -> None:
        """Take note that a lease has ended (under the lock)."""
        record = self.held.pop(key, None) or self.detached.pop(key, None)
        if record is not None:
            record.state = ENDED

    def add_detached(self, adopted: Adopted, account_state: AccountState) -> LeaseRecord:
        """Take in the lease of a job that ran already (under the lock)."""
        known = self.detached.get(adopted.key)
        if known is not None and adopted.live:
            return known
        record = LeaseRecord(adopted.key, adopted.label)
        record.account_state, record.held_since = account_state, self._now() - adopted.age
        record.job_id, *others = adopted.job_ids
        record.other_jobs, record.accepted = tuple(others), True
        record.state = BOUND if adopted.live else ENDED
        if adopted.live:
            self.detached[adopted.key] = record
        return record

    def detach(self, key: Key, state: str, job_ids: tuple[str, ...]) -> None:
        """Take note that the store keeps a lease by itself now, or that it has ended."""
        with self._lock:
            record = self.held.pop(key, None) or self.detached.pop(key, None)
            if record is not None:
                record.job_id, record.other_jobs = job_ids[0], job_ids[1:]
                record.accepted, record.state = True, state
                if state is not ENDED:
                    self.detached[key] = record

    def mark_ambiguous(self, key: Key) -> None:
        """Keep the slot of a held lease, whatever becomes of telling the store."""
        with self._lock:
            record = self.held.pop(key, None)
            if record is not None:
                record.state, record.state_since = AMBIGUOUS, self._now()
                self.detached[key] = record

    def states(self, also: LeaseRecord | None = None) -> tuple[LeaseState, ...]:
        """Return what the store is to register again: all that is held, and ``also``."""
        with self._lock:
            records = dict(self.held) if also is None else {**self.held, also.key: also}
            return tuple(self._state(record) for record in records.values())

    def _state(self, record: LeaseRecord) -> LeaseState:
        return LeaseState(
            key=str(record.key),
            account=record.account_state.id,
            state=HELD,
            age=self._now() - record.held_since,
            label=record.label,
            scope=record.scope,
            adverse=record.adverse,
            accepted=record.accepted,
            declined=record.declined,
        )

    # -- what the store tells --------------------------------------------------------------------

    def on_expired(self, gone: EndedLease) -> bool:
        """Take in that a lease ended by itself (under the lock). False: it is held here, and lives."""
        if gone.state == HELD and gone.key in self.held:
            return False
        self.forget(gone.key)
        self._totals.expired += 1
        self._note(
            "warning",
            "lease_expired",
            lease=gone.key,
            account=gone.account,
            job_id=gone.job_id,
            label=gone.label,
            state=gone.state,
            held_s=round(gone.age, 3),
        )
        return True

    def on_ended_elsewhere(self, keys: Iterable[str]) -> None:
        """Take in that somebody else has ended these leases on purpose."""
        with self._lock:
            for key in keys:
                record = self.held.get(key)
                self.forget(key)
                if record is not None:
                    self._note("warning", "lease_lost", **self._facts(record))

    def on_reconciled(self, found: Iterable[tuple[str, str]], ended: Iterable[str]) -> None:
        """Take in what the server's list told of leases: jobs found, and ends (under the lock)."""
        for key, job_id in found:
            if (record := self.detached.get(key)) is not None:
                record.job_id, record.state = job_id, BOUND
        for key in ended:
            self.forget(key)

    # -- leases whose object is gone ----------------------------------------------------------------

    def first_abandoned(self) -> LeaseRecord | None:
        """Return a lease that is to be ended as its object was garbage collected."""
        try:
            return self.abandoned[0] if self.abandoned else None
        except IndexError:  # another thread was quicker
            return None

    def end_abandoned(self, record: LeaseRecord) -> Release | None:
        """Let go of an abandoned lease, and return what ends it; None: its job has it by now."""
        with self._lock:
            if record.state is HELD and self.held.get(record.key) is record:
                facts = self._facts(record)
                record.state = ENDED  # first: who comes after an interruption goes by it
                self.released += 1
                self._note("warning", "lease_abandoned", **facts)
            if record.state is not ENDED:
                return None
            self.forget(record.key)
            return Release(str(record.key))

    def strike_off(self, record: LeaseRecord) -> None:
        """Take an abandoned lease off the list. Last: to end it twice does no harm, to lose it would."""
        with suppress(ValueError):
            self.abandoned.remove(record)

    def disinherit(self) -> None:
        """Let go of everything, in a forked child: it is the parent's."""
        for record in (*self.held.values(), *self.detached.values()):
            record.state, record.inherited = ENDED, True
        self.abandoned.clear()

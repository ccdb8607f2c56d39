"""One step of the ledger in memory: under the lock, at one moment, whole or mended by the next.

A freed slot is handed to the first caller who can use it, in the same step that frees it: nobody is
woken to race, and no newcomer can slip in between. So at rest no waiter could use any free slot,
and a caller who finds a slot free may take it without looking at the queue.

Decisions are made under the lock; who is to be woken is noted in the outbox and woken outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from balancer.errors import LeaseLost
from balancer.rules.ledger import Ledger
from balancer.rules.records import AMBIGUOUS, BOUND, ENDED, HELD, AccountState, Key, LeaseRecord
from balancer.stores.base import Store
from balancer.stores.memory_fast_path import Road, open_road
from balancer.stores.origin import Origin
from balancer.waiting.queue import Waiter, WaiterGroup

T = TypeVar("T")


class Stepping(Store):
    """The ledger of this process, and what keeps its steps apart.

    Mutable, all under the lock but for what the straight road does: the ledger, and whether it is torn.
    """

    def __init__(
        self, ledger: Callable[[], Ledger], now: Callable[[], float], draw: Callable[[], float]
    ) -> None:
        self.road = Road()
        super().__init__(now)
        self._new_ledger = ledger
        self.draw = draw
        self.inconsistent = False
        """A step was cut short in its middle, and the next one must recount."""
        self.ledger = ledger()

    def _step(self, act: Callable[[float], T]) -> T:
        """Settle what is due, act, see when something is due next; then wake whom it concerns."""
        try:
            with self.lock:
                try:
                    self.road.close()
                    now = self.now()
                    if now >= self.next_housekeeping_at or self.abandoned_leases or self.inconsistent:
                        self._settle(now)
                    result = act(now)
                    self._look_ahead(now)
                    return result
                except (ValueError, LeaseLost):
                    raise
                except BaseException:
                    self.mark_inconsistent()
                    raise
                finally:
                    self.road.closed = self.inconsistent
        finally:
            self.flush()

    def mark_inconsistent(self) -> None:
        """Note that a step was cut short."""
        self.inconsistent = self.road.closed = True

    def _settle(self, now: float) -> None:
        if self.inconsistent:
            self._mend(now)
        while self.abandoned_leases:
            self._abandon(self.abandoned_leases.popleft(), now)
        expired, changed = self.ledger.due(now)
        for record in expired:
            self.totals.expired += 1
            was = AMBIGUOUS if record.job_id is None else BOUND
            self.note("warning", "lease_expired", **{**self.facts(record), "state": was})
        if changed and self.wait_queue.waiters:
            self._serve(self.wait_queue.served_by({account_state.id for account_state in changed}), now)

    def _mend(self, now: float) -> None:
        """Make good for a step that was cut short: recount, go on serving, have everybody look around."""
        self.ledger.recount()
        self.inconsistent = False
        for waiter in [waiter for waiter in self.wait_queue.waiters if waiter.served]:
            self.hand_over(waiter)
        self._serve(self.wait_queue.all(), now)
        self.wake_all()

    def _look_ahead(self, now: float) -> None:
        self.next_housekeeping_at = min(self.ledger.timers.next, self.external_deadline(now))
        self.rouse_keeper()

    def _serve(self, lines: Iterable[WaiterGroup], now: float) -> None:
        """Hand out free slots, oldest caller first; one that cannot be served holds up only its like."""
        waiting = [line for line in lines if line]
        while waiting:
            line = min(waiting, key=_arrival)
            waiter = line.first
            if not self.ledger.take(waiter.slot_request, now):
                waiting.remove(line)
                continue
            self.hand_over(waiter)
            if not line:
                waiting.remove(line)

    def hand_over(self, waiter: Waiter) -> None:
        """Have a caller who was granted a lease leave the queue, and be told (under the lock)."""
        self.to_wake.append(waiter)  # first: who is out of line and not told would sleep for ever
        self.leave(waiter)
        self.totals.acquired += 1
        self.totals.count_wait(waiter.record.held_since - waiter.begun)

    def _offer(self, account_states: Iterable[AccountState], now: float) -> None:
        if self.wait_queue.waiters:
            self._serve(
                self.wait_queue.served_by({account_state.id for account_state in account_states}), now
            )

    def _abandon(self, record: LeaseRecord, now: float) -> None:
        if record.state is HELD and self.ledger.records.get(record.key) is record:
            self.note("warning", "lease_abandoned", **self.facts(record))
            self._offer([self.ledger.end(record)], now)

    @property
    def released(self) -> int:
        """What was granted, and has neither ended otherwise nor is live: so the straight road counts less."""
        totals, records = self.totals, self.ledger.records
        with self.lock:
            while True:
                acquired, live = totals.acquired, len(records)
                if acquired == totals.acquired:
                    return acquired - live - totals.expired - totals.reclaimed

    @property
    def next_housekeeping_at(self) -> float:
        """Until when a free slot may be handed out without any housekeeping."""
        return self.road.next_housekeeping_at

    @next_housekeeping_at.setter
    def next_housekeeping_at(self, until: float) -> None:
        self.road.next_housekeeping_at = until

    def describe(self) -> str:
        """Return what a repr says of the store, without I/O."""
        with self.lock:
            return f"{len(self.ledger.records)} in flight on {len(self.ledger.account_states)} accounts"

    def new_key(self) -> Key:
        """Return a key for a lease, never given twice."""
        return self.serial()

    def step(self) -> None:
        """Settle what is due, for a clock that was moved or a caller that keeps the time for others."""
        self._step(lambda _: None)

    def after_fork(self, origin: Origin) -> None:
        """Start empty in a child: the leases and the callers who wait are the parent's."""
        self.road = Road()
        super().after_fork(origin)
        for record in self.ledger.records.values():
            record.state = ENDED
        self.ledger = self._new_ledger()
        self.inconsistent = False
        open_road(self, origin)


def _arrival(line: WaiterGroup) -> float:
    return line.arrival

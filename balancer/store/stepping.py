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
from balancer.ledger import Ledger
from balancer.lines import Line, Waiter
from balancer.origin import Origin
from balancer.store.base import Store
from balancer.store.straight import Road, open_road
from balancer.tally import AMBIGUOUS, BOUND, ENDED, HELD, Key, Row, Tally

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
        self.torn = False
        """A step was cut short in its middle, and the next one must recount."""
        self.ledger = ledger()

    def _step(self, act: Callable[[float], T]) -> T:
        """Settle what is due, act, see when something is due next; then wake whom it concerns."""
        try:
            with self.lock:
                try:
                    self.road.close()
                    now = self.now()
                    if now >= self.quiet_until or self.dropped or self.torn:
                        self._settle(now)
                    result = act(now)
                    self._look_ahead(now)
                    return result
                except (ValueError, LeaseLost):
                    raise
                except BaseException:
                    self.tear()
                    raise
                finally:
                    self.road.closed = self.torn
        finally:
            self.flush()

    def tear(self) -> None:
        """Note that a step was cut short."""
        self.torn = self.road.closed = True

    def _settle(self, now: float) -> None:
        if self.torn:
            self._mend(now)
        while self.dropped:
            self._abandon(self.dropped.popleft(), now)
        expired, changed = self.ledger.due(now)
        for row in expired:
            self.totals.expired += 1
            was = AMBIGUOUS if row.job_id is None else BOUND
            self.note("warning", "lease_expired", **{**self.facts(row), "state": was})
        if changed and self.lines.waiters:
            self._serve(self.lines.served_by({tally.id for tally in changed}), now)

    def _mend(self, now: float) -> None:
        """Make good for a step that was cut short: recount, go on serving, have everybody look around."""
        self.ledger.recount()
        self.torn = False
        for waiter in [waiter for waiter in self.lines.waiters if waiter.served]:
            self.hand_over(waiter)
        self._serve(self.lines.all(), now)
        self.wake_all()

    def _look_ahead(self, now: float) -> None:
        self.quiet_until = min(self.ledger.agenda.next, self.other_due(now))
        self.rouse_keeper()

    def _serve(self, lines: Iterable[Line], now: float) -> None:
        """Hand out free slots, oldest caller first; one that cannot be served holds up only its like."""
        waiting = [line for line in lines if line]
        while waiting:
            line = min(waiting, key=_arrival)
            waiter = line.first
            if not self.ledger.take(waiter.ticket, now):
                waiting.remove(line)
                continue
            self.hand_over(waiter)
            if not line:
                waiting.remove(line)

    def hand_over(self, waiter: Waiter) -> None:
        """Have a caller who was granted a lease leave the queue, and be told (under the lock)."""
        self.outbox.append(waiter)  # first: who is out of line and not told would sleep for ever
        self.leave(waiter)
        self.totals.acquired += 1
        self.totals.count_wait(waiter.row.held_since - waiter.begun)

    def _offer(self, tallies: Iterable[Tally], now: float) -> None:
        if self.lines.waiters:
            self._serve(self.lines.served_by({tally.id for tally in tallies}), now)

    def _abandon(self, row: Row, now: float) -> None:
        if row.state is HELD and self.ledger.rows.get(row.key) is row:
            self.note("warning", "lease_abandoned", **self.facts(row))
            self._offer([self.ledger.end(row)], now)

    @property
    def released(self) -> int:
        """What was granted, and has neither ended otherwise nor is live: so the straight road counts less."""
        totals, rows = self.totals, self.ledger.rows
        with self.lock:
            while True:
                acquired, live = totals.acquired, len(rows)
                if acquired == totals.acquired:
                    return acquired - live - totals.expired - totals.reclaimed

    @property
    def quiet_until(self) -> float:
        """Until when a free slot may be handed out without any housekeeping."""
        return self.road.quiet_until

    @quiet_until.setter
    def quiet_until(self, until: float) -> None:
        self.road.quiet_until = until

    def describe(self) -> str:
        """Return what a repr says of the store, without I/O."""
        with self.lock:
            return f"{len(self.ledger.rows)} in flight on {len(self.ledger.tallies)} accounts"

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
        for row in self.ledger.rows.values():
            row.state = ENDED
        self.ledger = self._new_ledger()
        self.torn = False
        open_road(self, origin)


def _arrival(line: Line) -> float:
    return line.arrival

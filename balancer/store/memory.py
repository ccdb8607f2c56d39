"""The store of one process: the ledger itself, under a lock, with the callers who wait for it.

A freed slot is handed to the first caller who can use it, in the same step that frees it: nobody is
woken to race, and no newcomer can slip in between. So at rest no waiter could use any free slot,
and a caller who finds a slot free may take it without looking at the queue.

Decisions are made under the lock; who is to be woken is noted in the outbox and woken outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from balancer.effect import instant
from balancer.errors import BalancerError, LeaseLost, SourceUnavailable
from balancer.ledger import Changes, Ledger
from balancer.lines import Line, Waiter
from balancer.matching import Plan, Snapshot, match
from balancer.model import Listing, Table
from balancer.origin import Origin
from balancer.store.base import Store
from balancer.store.straight import Road, open_road
from balancer.tally import AMBIGUOUS, BOUND, ENDED, HELD, Key, Row, Tally
from balancer.verdict import Ruling, Verdict

T = TypeVar("T")


class MemoryStore(Store):
    """Leases of one process, gone with it."""

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

    # -- one step -----------------------------------------------------------------------------

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

    # -- waiting ------------------------------------------------------------------------------

    @instant
    def attempt(self, waiter: Waiter, _: float) -> bool:
        """Serve the line of ``waiter`` as far as there is room. True: it has got a lease."""

        def act(now: float) -> bool:
            if waiter.line is not None:
                self._serve([waiter.line], now)
            return waiter.served

        return self._step(act)

    @instant
    def hopeless(self, waiter: Waiter) -> bool:
        """Whether waiting cannot help ``waiter``, as far as is known."""
        with self.lock:  # no step of its own: nothing that the straight road changes is looked at
            return not waiter.served and self.ledger.hopeless(waiter.ticket)

    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted goes to the next."""

        def act(_: float) -> None:
            self.leave(waiter)
            if waiter.row.state is HELD:
                self._release(waiter.row)

        self._step(act)

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

    # -- leases -------------------------------------------------------------------------------

    @instant
    def release(self, key: Key) -> bool:
        """End the lease ``key``, whatever its state. True once."""
        return self._step(lambda _: self._release(self.ledger.rows.get(key)))

    @instant
    def release_job(self, job_id: str) -> bool:
        """End the lease bound to a job; remember the job if there is none yet."""
        return self._step(lambda _: self._release(self.ledger.forget_job(job_id)))

    @instant
    def bind(self, key: Key, job_id: str, ttl: float) -> bool:
        """Tie a lease to its job for ``ttl`` seconds. False: the job was over already, the slot is free.

        Raises:
            LeaseLost: the lease has ended. ValueError: the job is another lease's.
        """

        def act(now: float) -> bool:
            row = self._live(key)
            bound = self.ledger.bind(row, job_id, now + ttl, now)
            self._offer([row.tally], now)
            return bound

        return self._step(act)

    @instant
    def renew(self, key: Key | None, job_id: str | None, ttl: float | None) -> bool:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now. False: there is none."""

        def act(now: float) -> bool:
            row = self.ledger.rows.get(key) if job_id is None else self.ledger.jobs.get(job_id)
            if row is not None and row.end is not None:
                self.ledger.set_end(row, now + (self.ttls[row.state] if ttl is None else ttl))
            return row is not None

        return self._step(act)

    @instant
    def judge(self, row: Row, ruling: Ruling) -> None:
        """Put what an answer said about the account and the lease into effect."""

        def act(now: float) -> None:
            if self.ledger.rows.get(row.key) is row:
                self._judge(row, ruling, now)

        self._step(act)

    def doubt(self, key: Key) -> None:
        """Keep the slot of a lease whose job may run, without a verdict on its account."""

        def act(now: float) -> None:
            row = self.ledger.rows.get(key)
            if row is not None:
                self.ledger.doubt(row, now + self.ttls[AMBIGUOUS], now)

        self._step(act)

    def _judge(self, row: Row, ruling: Ruling, now: float) -> None:
        if ruling.verdict is Verdict.ACCEPTED:
            self.ledger.accept(row)
            self._offer([row.tally], now)
        if ruling.verdict is Verdict.AMBIGUOUS:
            self.ledger.doubt(row, now + self.ttls[AMBIGUOUS], now)
        row.adverse = row.adverse or ruling.verdict.adverse
        self._cool(row.tally, ruling, row.scope if ruling.scoped else None, now)

    def _live(self, key: Key) -> Row:
        row = self.ledger.rows.get(key)
        if row is None:
            raise LeaseLost("the lease has ended", lease_id=self.text(key))
        return row

    def _release(self, row: Row | None) -> bool:
        if row is None or self.ledger.rows.get(row.key) is not row:
            return False
        now = self.now()
        heir = self.lines.sole_first()
        if heir is not None and self.ledger.exchange(row, heir.row, now):
            self.hand_over(heir)
        else:
            self._offer([self.ledger.finish(row, now)], now)
        return True

    def _abandon(self, row: Row, now: float) -> None:
        if row.state is HELD and self.ledger.rows.get(row.key) is row:
            self.note("warning", "lease_abandoned", **self.facts(row))
            self._offer([self.ledger.end(row)], now)

    # -- accounts -----------------------------------------------------------------------------

    @instant
    def cool(self, account_id: str, seconds: float, reason: str) -> bool:
        """Put an account in a cooldown by hand. False: there is no such account."""

        def act(now: float) -> bool:
            tally = self.ledger.tallies.get(account_id)
            if tally is not None:
                self._cool(
                    tally, Ruling(Verdict.BUSY, seconds=seconds, reason=reason, worth_waiting=True), None, now
                )
            return tally is not None

        return self._step(act)

    @instant
    def reset(self, account_id: str) -> bool:
        """Clear what verdicts made of an account. False: there is no such account."""

        def act(now: float) -> bool:
            tally = self.ledger.tallies.get(account_id)
            if tally is not None:
                self.ledger.reset(tally)
                self._offer([tally], now)
            return tally is not None

        return self._step(act)

    def configure(self, changes: Changes, table: Table) -> None:
        """Bring the accounts in line with a new table.

        Callers with constraints step aside: what they may use was worked out from the old one, and
        only they themselves can work it out again.
        """

        def act(now: float) -> None:
            changed = self.ledger.configure(changes)
            self.table = table  # only now: should this be cut short, the next table makes it good
            for waiter in [w for w in self.lines.waiters if w.ticket.accounts is not None]:
                self.lines.step_aside(waiter)
            self._offer(changed, now)
            self.wake_all()

        self._step(act)

    # -- what is asked of the source ------------------------------------------------------------

    def fetch(
        self, ask: Callable[[], Table | BalancerError], _: float
    ) -> tuple[Table | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds."""
        return ask(), 0.0

    def survey(
        self,
        ask: Callable[[], Listing | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        _: float,
    ) -> Plan | BalancerError:
        """Have the server's list read and put it into effect, unless it is no longer ``wanted`` by then."""
        before = self._step(lambda now: Snapshot.of(self.ledger, now))
        listing = ask()
        if isinstance(listing, BalancerError):
            return listing

        def act(now: float) -> Plan | BalancerError:
            if not wanted():
                return SourceUnavailable("the list of jobs came too late")
            plan = match(listing, before, self.ledger, interval, self.text)
            self._apply(plan, now)
            return plan

        return self._step(act)

    def _apply(self, plan: Plan, now: float) -> None:
        changed = self.ledger.set_external(plan.external)
        for row, job_id in plan.bind:
            self.ledger.bind(row, job_id, now + self.ttls[BOUND], now)
        for row in plan.prolong:
            self.ledger.prolong(row, now + self.ttls[BOUND])
        for row in (*plan.reclaim, *plan.resolve):
            changed.append(self.ledger.end(row))
        self.totals.reclaimed += len(plan.reclaim) + len(plan.resolve)
        for row in plan.reclaim:
            self.note("warning", "lease_reclaimed", **{**self.facts(row), "state": BOUND})
        self._offer(changed, now)

    def _cool(self, tally: Tally, ruling: Ruling, scope: str | None, now: float) -> None:
        if ruling.seconds is None or ruling.pool_wide:
            return
        self.ledger.cool(tally, scope, now + ruling.seconds, ruling.reason, ruling.worth_waiting)
        self.note(
            "info",
            "account_cooling",
            account=tally.id,
            scope=scope,
            seconds=ruling.seconds,
            reason=ruling.reason,
        )
        if not ruling.worth_waiting:
            self.wake_all()

    # -- reading ------------------------------------------------------------------------------

    @instant
    def inspect(self, look: Callable[[Ledger], T], *, patient: bool = True) -> T:  # noqa: ARG002
        """Return what ``look`` reads from the ledger, at one moment."""
        return self._step(lambda _: look(self.ledger))

    @property
    def loose_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so; infinity: none is (under the lock)."""
        return self.ledger.loose.next

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

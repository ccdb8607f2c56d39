"""A store that other processes share: the queue of this process in front of a database.

The database knows who holds what (see :mod:`balancer.store.operations`). In this process stand the
callers who wait, in the same lines as over memory, and one :class:`balancer.store.courier.Courier`,
a thread that takes what is offered to the process and hands it to the first caller who can use it.
Callers who find a free slot take it themselves, with one operation.

Mutable, all under the lock: ``mine`` (the leases that this process keeps alive), the accounts by id,
the last dump, and what the courier is still to send.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from balancer.effect import Flow, Io, Sleep
from balancer.errors import BalancerError, LeaseLost, StoreUnavailable
from balancer.ledger import Changes, Ledger
from balancer.lines import Waiter
from balancer.matching import Plan
from balancer.model import Account, Listing, Table
from balancer.origin import Origin
from balancer.store import fleet
from balancer.store.base import Store
from balancer.store.courier import Courier
from balancer.store.operations import (
    Backend,
    Bind,
    Configured,
    Cool,
    Dump,
    End,
    Gone,
    Granted,
    Judge,
    Operation,
    Owner,
    ReadTable,
    Register,
    Renew,
    Reply,
    Reset,
    RowState,
    State,
    Take,
    Wants,
)
from balancer.store.snapshot import fill
from balancer.tally import AMBIGUOUS, BOUND, ENDED, HELD, NEW, Row, Tally
from balancer.verdict import Ruling, Verdict

T = TypeVar("T")
PATIENCE = 5.0
"""Seconds for which an operation is tried again while the store is away."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_SEEN_FOR = 1.0
"""Seconds for which a dump is recent enough to tell whether there is hope."""
_MOST_WANTED = 8
"""More accounts than these are told to the store as any."""


class SharedStore(Store):
    """Leases counted in a database, for all processes that use it."""

    shared = True

    def __init__(
        self,
        backend: Backend,
        ledger: Callable[[], Ledger],
        now: Callable[[], float],
        origin: Origin,
        lease_ttl: float,
    ) -> None:
        super().__init__(now)
        self.backend = backend
        self.lease_ttl = lease_ttl
        self._new_ledger = ledger
        self._origin = origin
        self.mine: dict[Any, Row] = {}
        """Held leases by key: what is registered again if the store forgets us."""
        self.tallies: dict[str, Tally] = {}
        self.version = 0
        """Of the table that this process has read last."""
        self.due_at = math.inf
        """When something in the store ends by itself, as far as is known."""
        self._loose = math.inf
        self._seen: tuple[float, Ledger] | None = None
        """Until when the last dump is recent, and the dump."""
        self.fleet = fleet.Fleet(self)
        self.courier = Courier(self)

    # -- operations -------------------------------------------------------------------------------

    def ask(self, operation: Operation, patience: float = 0.0) -> Flow[Any]:
        """Return what the store answers, trying again for ``patience`` seconds while it is away.

        Raises:
            StoreUnavailable: it stayed away.
        """
        self.drain()
        pause, end = _FIRST_PAUSE, time.monotonic() + min(patience, PATIENCE)
        while True:
            try:
                reply: Reply = yield Io(self.backend, operation)
                break
            except StoreUnavailable:
                if time.monotonic() + pause > end:
                    raise
            yield Sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if self.heed(reply):
            yield from self._catch_up()
        self.flush()
        return reply.result

    def do(self, operation: Operation) -> Any:
        """Carry out an operation in a thread that may block."""
        reply = self.backend.call(operation)
        self.heed(reply)
        self.flush()
        return reply.result

    def heed(self, reply: Reply) -> bool:
        """Take in what every reply tells. True: another table is in force than this process knows."""
        with self.lock:
            now = self.now()
            self.due_at = math.inf if reply.due is None else now + reply.due
            self._loose = math.inf if reply.loose is None else now - reply.loose
            self.quiet_until = self.other_due(now)
            self.rouse_keeper()
            for gone in reply.expired:
                self._forget(gone.key)
                self.totals.expired += 1
                self.note("warning", "lease_expired", **_facts(gone))
            return reply.version != self.version and self.table is not None

    def _catch_up(self) -> Flow[None]:
        """Read the table that another process has put in force."""
        try:
            reply: Reply = yield Io(self.backend, ReadTable())
        except StoreUnavailable:
            return  # the next reply tells again
        configured = reply.result
        if isinstance(configured, Configured):
            self.version = configured.version
            self.adopt(configured.table, configured.age)

    def later(self, operation: Operation) -> None:
        """Have the courier carry out an operation as soon as it can, and keep trying."""
        self.courier.send(operation)

    # -- waiting ------------------------------------------------------------------------------

    def attempt(self, waiter: Waiter, patience: float) -> Flow[bool]:
        """Take a lease for ``waiter`` if it is the first of its line. True: it has got one."""
        with self.lock:
            self.quiet_until = self.other_due(self.now())
            waiter.hopes = patience > 0
            line = waiter.line
            if waiter.served or line is None or line.first is not waiter:
                return waiter.served
            take = self.take_for(waiter, offered=False)
        try:
            granted = yield from self.ask(take, patience)
        except BaseException:
            self.later(End(take.key))  # nobody knows whether it was granted
            raise
        if granted is None and patience:
            self.courier.ensure()
        return granted is not None and self.hand_over(waiter, granted)

    def take_for(self, waiter: Waiter, *, offered: bool) -> Take:
        """Return the operation that takes a lease for ``waiter`` (under the lock)."""
        ticket = waiter.ticket
        accounts = (
            None if ticket.accounts is None else fleet.shuffled(ticket.accounts, self._origin.core.draw)
        )
        return Take(
            key=self.text(waiter.row.key),
            draw=ticket.draw,
            accounts=accounts,
            max_jobs=ticket.max_jobs,
            scope=ticket.scope,
            label=waiter.row.label,
            offered=offered,
            then_wants=self.wants(without=waiter),
            else_wants=self.wants(),
        )

    def wants(self, *, without: Waiter | None = None) -> Wants | None:
        """Return what the callers of this process wait for, but for one of them (under the lock).

        Who is just having a try does not wait: a slot that was reserved for it would be missing elsewhere.
        """
        wanted: set[str] = set()
        for line in self.lines.all():
            others = len(line) - (without is not None and without.line is line)
            if not (others > 1 or (others and (line.first.hopes or line.first is without))):
                continue
            accounts = line.alike[0]
            if accounts is None or len(accounts) > _MOST_WANTED:
                return ()
            wanted |= accounts
        return tuple(sorted(wanted)[:_MOST_WANTED]) or None

    def hand_over(self, waiter: Waiter, granted: Granted) -> bool:
        """Give ``waiter`` what was granted, unless it has gone; then the slot is given back."""
        row = waiter.row
        with self.lock:
            if row.state is not NEW:
                return waiter.served
            here = waiter in self.lines.waiters
            if here:
                row.tally, row.held_since, row.state = self._tally(granted.account), self.now(), HELD
                self.mine[row.key] = row
                self.totals.acquired += 1
                self.leave(waiter)
                self.outbox.append(waiter)
        if here:
            self.courier.ensure()
        else:
            self.later(End(self.text(row.key)))
        return here

    def hopeless(self, waiter: Waiter) -> Flow[bool]:
        """Whether waiting cannot help ``waiter``, by a look at the store that is a second old at most."""
        if waiter.served:
            return False
        seen = self._seen
        if seen is None or time.monotonic() > seen[0]:
            seen = yield from self._look()
        return seen[1].hopeless(waiter.ticket) and waiter.row.state is NEW

    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted is given back."""
        with self.lock:
            line = waiter.line
            led = line is not None and len(line) > 1 and line.first is waiter
            self.leave(waiter)
            granted = waiter.row.state is HELD
            if granted:
                self._forget(waiter.row.key)
        if granted:
            self.later(End(self.text(waiter.row.key)))
        if led:
            self.courier.look()  # whoever stood behind it is the first now
        self.courier.check_wants()
        self.flush()

    # -- leases -------------------------------------------------------------------------------

    def new_key(self) -> str:
        """Return a key for a lease, never given twice by any process."""
        return f"{self._origin.prefix}-{self.serial():x}"

    def release(self, key: Any) -> Flow[bool]:
        """End the lease ``key``. True: this ended it, or will as soon as the store is back."""
        return (yield from self._end(End(key=key)))

    def release_job(self, job_id: str) -> Flow[bool]:
        """End the lease bound to a job; remember the job if there is none yet."""
        return (yield from self._end(End(job_id=job_id)))

    def _end(self, end: End) -> Flow[bool]:
        try:
            gone = yield from self.ask(end)
        except StoreUnavailable:
            self.later(end)
            gone = Gone(end.key or "", "", HELD)
        except BaseException:
            self.later(end)
            raise
        with self.lock:
            self._forget(end.key)
            if gone is None:
                return False
            self._forget(gone.key)
            self.totals.released += 1
        return True

    def bind(self, key: Any, job_id: str, ttl: float) -> Flow[bool]:
        """Tie a lease to its job for ``ttl`` seconds; sent later if the store stays away."""
        bind = Bind(key, job_id, ttl)
        try:
            said = yield from self.ask(bind, PATIENCE)
            if said == "lost" and (row := self.mine.get(key)) is not None:
                # The store has lost its memory, and the lease with it: we know better.
                ended = yield from self.ask(Register((self.row_state(row),)), PATIENCE)
                said = "lost" if key in ended else (yield from self.ask(bind, PATIENCE))
        except StoreUnavailable:
            self.note("warning", "bind_delayed", lease=key, job_id=job_id)
            self.later(bind)
            said = "bound"
        except BaseException:
            self.later(bind)
            raise
        if said == "taken":
            raise ValueError(f"job_id {job_id!r} is bound to another lease already")
        self._bound(key, job_id, said)
        if said == "lost":
            raise LeaseLost("the lease has ended", lease_id=key)
        return bool(said == "bound")

    def _bound(self, key: Any, job_id: str, said: str) -> None:
        with self.lock:
            row = self.mine.pop(key, None)
            self.totals.released += said == "over"
            if row is not None:
                row.job_id, row.state = job_id, BOUND if said == "bound" else ENDED
        self.flush()

    def renew(self, key: Any, job_id: str | None, ttl: float | None) -> Flow[bool]:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now. False: there is none."""
        return bool((yield from self.ask(Renew(key, job_id, ttl), PATIENCE)))

    def judge(self, row: Row, ruling: Ruling) -> Flow[None]:
        """Put what an answer said about the account and the lease into effect."""
        judge = Judge(
            key=self.text(row.key),
            accepted=ruling.verdict is Verdict.ACCEPTED,
            doubt=ruling.verdict is Verdict.AMBIGUOUS,
            adverse=ruling.verdict.adverse,
            seconds=None if ruling.pool_wide else ruling.seconds,
            scope=row.scope if ruling.scoped else None,
            reason=ruling.reason,
            worth_waiting=ruling.worth_waiting,
        )
        row.adverse = row.adverse or judge.adverse
        yield from self._judge(judge)
        if judge.seconds is not None:
            self._tell_cooling(row.tally.id, judge)

    def doubt(self, key: Any) -> None:
        """Keep the slot of a lease whose job may run; the store is told by the courier."""
        self._put_in_doubt(key)
        self.later(Judge(key=key, doubt=True))

    def _put_in_doubt(self, key: Any) -> None:
        # Before the store is asked: whatever becomes of that, leaving the block must not free the slot.
        with self.lock:
            row = self.mine.pop(key, None)
            if row is not None:
                row.state, row.state_since = AMBIGUOUS, self.now()

    def _judge(self, judge: Judge) -> Flow[None]:
        self._seen = None
        if judge.doubt:
            self._put_in_doubt(judge.key)
        try:
            yield from self.ask(judge, PATIENCE)
        except StoreUnavailable:
            self.later(judge)
        except BaseException:
            self.later(judge)
            raise

    def _tell_cooling(self, account: str, cause: Judge | Cool) -> None:
        self.note(
            "info",
            "account_cooling",
            account=account,
            scope=cause.scope,
            seconds=cause.seconds,
            reason=cause.reason,
        )
        self.flush()

    # -- accounts -----------------------------------------------------------------------------

    def cool(self, account_id: str, seconds: float, reason: str) -> Flow[bool]:
        """Put an account in a cooldown by hand. False: there is no such account."""
        self._seen = None
        cool = Cool(account=account_id, seconds=seconds, reason=reason)
        known = bool((yield from self.ask(cool, PATIENCE)))
        if known:
            self._tell_cooling(account_id, cool)
        return known

    def reset(self, account_id: str) -> Flow[bool]:
        """Clear what verdicts made of an account. False: there is no such account."""
        self._seen = None
        return bool((yield from self.ask(Reset(account_id), PATIENCE)))

    def configure(self, changes: Changes, table: Table) -> None:
        """Show the accounts of this process as the table has them; callers look around."""
        with self.lock:
            self.table, self._seen = table, None
            for account in changes.put:
                self._tally(account.id).account = account
            for waiter in [w for w in self.lines.waiters if w.ticket.accounts is not None]:
                self.lines.step_aside(waiter)
            self.wake_all()
        self.flush()

    def _tally(self, id: str) -> Tally:
        tally = self.tallies.get(id)
        if tally is None:
            known = self.table.accounts.get(id) if self.table else None
            tally = self.tallies[id] = Tally(known or Account(id))
        return tally

    # -- what is asked of the source --------------------------------------------------------------

    def fetch(
        self, ask: Callable[[], Table | BalancerError], max_age: float
    ) -> tuple[Table | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds."""
        return self.fleet.fetch(ask, max_age)

    def survey(
        self,
        ask: Callable[[], Listing | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        max_age: float,
    ) -> Plan | BalancerError:
        """Have the server's list read and put into effect, unless it is no longer ``wanted`` by then."""
        self._seen = None
        return self.fleet.survey(ask, wanted, interval, max_age)

    # -- reading ------------------------------------------------------------------------------

    def inspect(self, look: Callable[[Ledger], T]) -> Flow[T]:
        """Return what ``look`` reads from a copy of what the store holds."""
        return look((yield from self._look())[1])

    def _look(self) -> Flow[tuple[float, Ledger]]:
        state: State = yield from self.ask(Dump(), PATIENCE)
        seen = self._seen = time.monotonic() + _SEEN_FOR, self.as_ledger(state)
        return seen

    def as_ledger(self, state: State) -> Ledger:
        """Return what the store holds, as a ledger by this process's clock."""
        return fill(self._new_ledger(), state, self.now())

    @property
    def loose_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so, as the last reply told."""
        return self._loose

    def describe(self) -> str:
        """Return what a repr says of the store, without I/O."""
        return f"{len(self.mine)} held by this process, {len(self.tallies)} accounts"

    def step(self) -> None:
        """Have the courier look around."""
        self._seen = None
        self.courier.look()
        self.flush()

    def drain(self) -> None:
        """End the leases whose handles were garbage collected."""
        while self.dropped:
            row = self.dropped.popleft()
            with self.lock:
                live = row.state is HELD and self.mine.get(row.key) is row
                if live:
                    self.note("warning", "lease_abandoned", **self.facts(row))
                    self._forget(row.key)
            if live:
                self.later(End(self.text(row.key)))

    def row_state(self, row: Row) -> RowState:
        """Return a held lease as the store is to register it again."""
        return RowState(
            key=self.text(row.key),
            account=row.tally.id,
            state=HELD,
            age=self.now() - row.held_since,
            label=row.label,
            scope=row.scope,
            adverse=row.adverse,
        )

    def lose(self, keys: tuple[str, ...]) -> None:
        """Take in that somebody else has ended these leases on purpose."""
        with self.lock:
            for key in keys:
                row = self.mine.get(key)
                self._forget(key)
                if row is not None:
                    self.note("warning", "lease_lost", **self.facts(row))

    def _forget(self, key: object) -> None:
        row = self.mine.pop(key, None)
        if row is not None:
            row.state = ENDED

    # -- life ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what is still to be sent; connections are closed once no lease is out."""
        self.courier.close()

    def after_fork(self, origin: Origin) -> None:
        """Start empty in a child: leases, callers and connections are the parent's."""
        super().after_fork(origin)
        self._origin = origin
        self.mine, self.tallies, self._seen = {}, {}, None
        self.version = 0
        self.courier = Courier(self)
        self.fleet = fleet.Fleet(self)
        self.backend.after_fork(Owner(origin.prefix, origin.host_pid))


def _facts(gone: Gone) -> dict[str, Any]:
    return {
        "lease": gone.key,
        "account": gone.account,
        "job_id": gone.job_id,
        "label": gone.label,
        "state": gone.state,
        "held_s": round(gone.age, 3),
    }

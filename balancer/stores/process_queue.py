"""The callers of this process who wait for a slot of a shared store.

They stand in the same queue as over memory, in front of the database. Callers who find a free slot take
it themselves, with one operation; what the store offers to the process goes to the first who can use it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection
from threading import RLock
from typing import Protocol, TypeVar

from balancer.rules.ledger import Ledger
from balancer.rules.operations import OFFER_SECONDS, Acquire, Granted, Release, Reply, Wanted
from balancer.rules.records import ANY, HELD, NEW, AccountState, Alike, LeaseRecord
from balancer.stores.backend_client import SEEN_FOR, BackendClient, answer_within
from balancer.stores.base import Totals
from balancer.stores.held_leases import HeldLeases
from balancer.stores.outbox import Outbox
from balancer.waiting.drivers import Flow
from balancer.waiting.queue import Waiter, WaiterGroup, WaitQueue

T = TypeVar("T")
MOST_WANTED = 32
"""More accounts than these are told to the store as any."""
_PER_ACCOUNT = 0.0002
"""Seconds, at most, that a store takes to look at one account."""


Told = tuple[Wanted | None, int]
"""What the store is told that a process waits for, and the highest priority that waits there."""


class Inspect(Protocol):
    """Reads of what the store holds."""

    def __call__(self, look: Callable[[Ledger], T], *, patience: float = math.inf) -> Flow[T]:
        """Return what ``look`` returns."""


class ProcessQueue:
    """Who waits in this process, and what the store was told of that.

    Mutable, under the lock: the wait queue itself, and what is below.

    Args:
        wait_queue: Who waits, in order.
        client: Asks the store.
        held: Where what is granted is taken in.
        outbox: Of the worker.
        lock: Guards all that changes in the pool within this process.
        draw: Returns [0, 1).
        account_state: Account id -> what this process knows of the account (under the lock).
        inspect: Returns what a function reads of what the store holds.
        totals: What this process has done.
        to_wake: Callers to be woken by ``flush``.
        flush: Wakes and logs what was noted.
    """

    def __init__(
        self,
        wait_queue: WaitQueue,
        client: BackendClient,
        held: HeldLeases,
        outbox: Outbox,
        *,
        lock: RLock,
        draw: Callable[[], float],
        account_state: Callable[[str], AccountState],
        inspect: Inspect,
        totals: Totals,
        to_wake: deque[Waiter],
        flush: Callable[[], None],
    ) -> None:
        self.wait_queue = wait_queue
        self._client, self._held, self._outbox, self._lock, self._draw = client, held, outbox, lock, draw
        self._account_state, self._inspect = account_state, inspect
        self._totals, self._to_wake, self._flush = totals, to_wake, flush
        self.full = False
        """The last try without the queue found no room, and nobody has had or freed a slot since."""
        self._unconfirmed: set[str] = set()
        """Keys of waiters that may have been granted: the reply was lost."""
        self._asked_for: dict[Waiter, None] = {}
        """Whom the store is being asked for at this moment."""
        self._early: list[Waiter] = []
        """Who outranks one of them, and is to look again once that one has its answer."""
        self._told_wanted = False
        """The store was told that this process waits, and may hold it for so."""
        self._ignore_offers_until = -math.inf
        self._seen: tuple[float, Ledger] | None = None
        """Until when the last look is recent, and what it saw."""
        self._hope_for: tuple[object, float] = None, -math.inf
        """Which requests waiting may help, and until when that is recent."""

    # -- taking ---------------------------------------------------------------------------------

    def attempt(self, waiter: Waiter, patience: float) -> Flow[bool]:
        """Take a lease for ``waiter`` if it is the first of its group. True: it has got one."""
        with self._lock:
            waiter.hopes = patience > 0
            if waiter.served:
                return True
            refused, waiter.record.refused = waiter.record.refused, False
            first = waiter.group is not None and waiter.group.first is waiter
            passes = refused or (patience > 0 and self.is_outranked(waiter))
            operation = self.begin_asking(waiter, offered=False) if first and not passes else None
        if operation is None:
            if patience and first:
                self._outbox.request_poll()  # the worker looks for all, in their order
            elif patience:
                self._outbox.ensure_running()
            return False
        try:
            # A script that looks at many accounts takes its time.
            limit = answer_within(patience) + len(operation.accounts or ()) * _PER_ACCOUNT
            reply = yield from self._client.exchange(operation, patience, limit)
            if reply.hope:
                self._hope_for = waiter.slot_request.alike, time.monotonic() + SEEN_FOR
            got = self.on_answer(waiter, operation, reply.result)
        except BaseException:
            self._outbox.send(Release(operation.key))  # nobody knows whether it was granted
            self._end_asking(waiter, None)
            raise
        if patience and not got:
            self._outbox.ensure_running()
        return got

    def on_refused(self, record: LeaseRecord, alike: Alike, reply: Reply) -> None:
        """Take in that a try without the queue found no room."""
        self.full = self.full or alike == ANY
        record.refused = bool(reply.hope)
        if reply.hope:
            self._hope_for = alike, time.monotonic() + SEEN_FOR

    def is_outranked(self, waiter: Waiter) -> bool:
        """Whether somebody waits with a higher priority for what the waiter may use (under the lock)."""
        if len(self.wait_queue.waiters) == 1:
            return False  # nobody else is here
        alike = waiter.slot_request.alike
        for group in self.wait_queue.groups():
            if group.alike[4] <= alike[4]:  # as do all that follow
                return False
            if group.first.hopes and share_accounts(group.alike, alike):
                return True
        return False

    def must_look_again(self, waiter: Waiter) -> bool:
        """Whether the store is being asked for somebody whom the waiter outranks (under the lock).

        That one may still be served first, so the waiter is woken after the answer, and does not count as
        one who waits until then.
        """
        alike = waiter.slot_request.alike
        asked = [other.slot_request.alike for other in self._asked_for if other in self.wait_queue.waiters]
        early = any(other[4] < alike[4] and share_accounts(other, alike) for other in asked)
        if early:
            self._early.append(waiter)
        return early

    def begin_asking(self, waiter: Waiter, *, offered: bool) -> Acquire:
        """Return the operation that takes a lease for ``waiter`` (under the lock)."""
        request = waiter.slot_request
        self._asked_for[waiter] = None
        then_wants, then_priority = self.wanted(without=waiter)
        else_wants, else_priority = self.wanted()
        return Acquire(
            key=str(waiter.record.key),
            draw=request.draw,
            accounts=None if request.accounts is None else shuffled(request.accounts, self._draw),
            max_jobs=request.max_jobs,
            scope=request.scope,
            label=waiter.record.label,
            offered=offered,
            spacing=waiter.record.spacing,
            then_wants=then_wants,
            else_wants=else_wants,
            then_priority=then_priority,
            else_priority=else_priority,
        )

    def on_answer(self, waiter: Waiter, operation: Acquire, granted: Granted | None) -> bool:
        """Put the answer to an Acquire into effect. True: the waiter has got its lease."""
        told = operation.else_wants, operation.else_priority
        if granted is not None:
            told = operation.then_wants, operation.then_priority
        self._unconfirmed.discard(operation.key)
        self._told_wanted = self._told_wanted or told[0] is not None
        got = granted is not None and self._hand_over(waiter, granted)
        self._end_asking(waiter, told)
        return got

    def _end_asking(self, waiter: Waiter, told: Told | None) -> None:
        """Check what was told, and have those look again before whom ``waiter`` was asked for."""
        with self._lock:
            self._asked_for.pop(waiter, None)
            early = bool(self._early)
            self._to_wake.extend(self._early)
            self._early.clear()
            right = self.wanted() == told
        if not right:
            self._outbox.request_wanted()
        if early:
            self._flush()

    def on_outcome_unknown(self, waiter: Waiter) -> None:
        """Take in that the worker's Acquire for ``waiter`` was not answered."""
        key = str(waiter.record.key)
        self._end_asking(waiter, None)
        with self._lock:
            if waiter.record.state is not NEW:
                return
            if waiter in self.wait_queue.waiters:
                self._unconfirmed.add(key)  # asking again tells; if it goes, it has to be given back
                return
        self._outbox.send(Release(key))

    def _hand_over(self, waiter: Waiter, granted: Granted) -> bool:
        """Give ``waiter`` what was granted, unless it has gone; then the slot is given back."""
        record = waiter.record
        with self._lock:
            if record.state is not NEW:
                return waiter.served
            here = waiter in self.wait_queue.waiters
            if here:
                self._to_wake.append(waiter)  # first: who is out of line and not told would sleep for ever
                self._held.add(record, self._account_state(granted.account))
                self._totals.count_wait(record.held_since - waiter.begun)
                self.full = False
                self.wait_queue.leave(waiter)
        if here:
            self._flush()  # at once: while it awakes there is time for the rest
            self._outbox.ensure_running()
        else:
            self._outbox.send(Release(str(record.key)))
        return here

    # -- leaving ----------------------------------------------------------------------------------

    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted is given back. No I/O."""
        record, key = waiter.record, str(waiter.record.key)
        with self._lock:
            group = waiter.group
            led = group is not None and len(group) > 1 and group.first is waiter
            granted = record.state is HELD or key in self._unconfirmed
            if granted:
                self._outbox.put(Release(key))  # first: an interruption must not lose it
            self.wait_queue.leave(waiter)
            self._held.forget(record.key)
            self._unconfirmed.discard(key)
        if granted:
            self._outbox.wake()
        if led:
            self._outbox.request_poll()  # whoever stood behind it is the first now
        if self._told_wanted and not self.wait_queue.waiters:
            self._outbox.request_wanted()
        self._flush()

    # -- what the store is told -----------------------------------------------------------------------

    def wanted(self, *, without: Waiter | None = None) -> Told:
        """Return what the callers of this process wait for, but for one of them (under the lock).

        Who is just having a try does not wait: a slot that was reserved for it would be missing elsewhere.
        """
        if not len(self.wait_queue.waiters) - (without in self.wait_queue.waiters):
            return None, 0
        ignoring, wanted, priority = self.ignores_offers, set[str](), None
        for group in self.wait_queue.groups():  # the highest priority first
            accounts = group.alike[0]
            if self._waits(group, without) and not (ignoring and needs_more_than_an_account(group)):
                priority = group.alike[4] if priority is None else priority
                if accounts is None or len(accounts) > MOST_WANTED:
                    return (), priority
                wanted |= accounts
                if len(wanted) > MOST_WANTED and not ignoring:
                    return (), priority
        return tuple(sorted(wanted)[:MOST_WANTED]) or None, priority or 0

    def _waits(self, group: WaiterGroup, without: Waiter | None) -> bool:
        others = len(group) - (without is not None and without.group is group)
        return others > 1 or (others == 1 and (group.first.hopes or group.first is without))

    def check_wanted(self, told: Told) -> None:
        """Have the store told if it now holds what was ``told`` for what we want.

        Several threads ask at once, and the last to be heard may be one that spoke before others came.
        """
        with self._lock:
            right = self.wanted() == told
        if not right:
            self._outbox.request_wanted()

    def on_told(self, told: Told) -> None:
        """Take note that the worker has told the store what this process waits for."""
        with self._lock:
            self._told_wanted = told[0] is not None
        self.check_wanted(told)

    @property
    def ignores_offers(self) -> bool:
        """Whether what is offered was of no use a moment ago, so that others should have it."""
        return time.monotonic() < self._ignore_offers_until

    def ignore_offers(self) -> None:
        """Let others have what is offered again and again, and is of no use here."""
        self._ignore_offers_until = time.monotonic() + OFFER_SECONDS
        self._outbox.request_wanted()

    # -- hope ------------------------------------------------------------------------------------------

    def hopeless(self, waiter: Waiter, patience: float) -> Flow[bool]:
        """Whether waiting cannot help ``waiter``. There was hope if there was any a second ago."""
        request, now = waiter.slot_request, time.monotonic()
        alike, (whom, until) = request.alike, self._hope_for
        if waiter.served or (alike == ANY and now <= self._client.hope_until):
            return False
        if alike == whom and now <= until:
            return False
        if self._seen is not None and now <= self._seen[0] and not self._seen[1].hopeless(request):
            return False
        hopeless = yield from self._inspect(lambda ledger: ledger.hopeless(request), patience=patience)
        return hopeless and waiter.record.state is NEW

    def wake_hopeless(self) -> Flow[None]:
        """Wake the callers for whom, by a look at the store, there is nothing left to wait for."""
        with self._lock:
            requests = {group.alike: group.first.slot_request for group in self.wait_queue.groups()}
        vain = yield from self._inspect(
            lambda ledger: {alike for alike, request in requests.items() if ledger.hopeless(request)},
            patience=0.0,
        )
        if vain:
            self.look_afresh()  # else they would go by what was seen before
        with self._lock:
            for group in self.wait_queue.groups():
                if group.alike in vain:
                    self._to_wake.extend(group.queue)
        self._flush()

    def on_seen(self, ledger: Ledger) -> None:
        """Take note of what the store held a moment ago."""
        self._seen = time.monotonic() + SEEN_FOR, ledger

    def look_afresh(self) -> None:
        """Forget what was seen: it may be different now."""
        self._seen, self._hope_for = None, (None, -math.inf)
        self._client.hope_until = -math.inf


def needs_more_than_an_account(group: WaiterGroup) -> bool:
    """Whether what is offered by account may be of no use to a group."""
    accounts, _, max_jobs, scope, _ = group.alike
    return max_jobs is not None or scope is not None or (accounts is not None and len(accounts) > MOST_WANTED)


def share_accounts(one: Alike, other: Alike) -> bool:
    """Whether two requests may be after the same account."""
    return one[0] is None or other[0] is None or bool(one[0] & other[0])


def shuffled(ids: Collection[str], draw: Callable[[], float]) -> tuple[str, ...]:
    """Return ``ids`` in random order, each order equally likely (Fisher and Yates)."""
    order = sorted(ids)
    for last in range(len(order) - 1, 0, -1):
        other = int(draw() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return tuple(order)

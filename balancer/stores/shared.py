"""A store that other processes share: the queue of this process in front of a database.

The database knows who holds what (see :mod:`balancer.rules.operations`). In this process stand the
callers who wait, in the same lines as over memory, and one :class:`balancer.stores.courier.Courier`,
a thread that takes what is offered to the process and hands it to the first caller who can use it.
Callers who find a free slot take it themselves, with one operation.

Mutable, all under the lock: ``mine`` (the leases that this process keeps alive), the accounts by id,
the last dump, the grants in doubt, and what the courier is still to send.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from balancer.errors import TooManyWaiting
from balancer.rules.operations import (
    Acquire,
    Granted,
    Inspect,
    Owner,
    Release,
    Reply,
    SetWanted,
    Wanted,
)
from balancer.rules.records import ANY, ENDED, HELD, NEW, SlotRequest
from balancer.stores.asking import SEEN_FOR, answer_within
from balancer.stores.base import Outcome, Process, WaiterMaker
from balancer.stores.courier import Courier
from balancer.stores.direct import Direct
from balancer.stores.serving import MOST_WANTED, vague
from balancer.waiting.drivers import Flow, drive
from balancer.waiting.queue import Waiter, WaiterGroup

_LOOK = 0.0002
"""Seconds, at most, that a store takes to look at one account."""


class SharedStore(Direct):
    """Leases counted in a database, for all processes that use it."""

    def __init__(self, *made_with: Any, **state: Any) -> None:
        super().__init__(*made_with, **state)
        self._unsure: set[str] = set()
        """Keys of callers in line that may have been granted: the reply was lost."""
        self._wanted = False
        """The store was told that this process waits, and may hold it for so."""
        self.courier = Courier(self)

    # -- waiting ------------------------------------------------------------------------------

    def try_acquire(
        self, request: SlotRequest, make_waiter: WaiterMaker, timeout: float | None, max_waiting: int | None
    ) -> tuple[Outcome, Waiter | None]:
        """Stand aside: callers look at the configuration first, and are then tried again."""
        raise NotImplementedError

    def try_again(self, waiter: Waiter, max_waiting: int | None) -> Flow[Outcome]:
        """Take a lease for ``waiter``, or have it stand at its place in time."""
        with self.lock:
            if not waiter.served and waiter.version == self.version:
                self.wait_queue.join(waiter)
        if (yield from self.attempt(waiter, max(0.0, waiter.deadline - self.now()))):
            return Outcome.GRANTED
        hopeless = waiter.version == self.version and (yield from self.hopeless(waiter))
        if waiter.served:
            return Outcome.GRANTED
        if waiter.version != self.version:
            return Outcome.LOOK  # another table has come to light meanwhile
        if hopeless:
            return Outcome.HOPELESS
        if self.now() >= waiter.deadline:
            return Outcome.TIMED_OUT
        with self.lock:
            if waiter.group is not None and not waiter.counted:
                if max_waiting is not None and self.wait_queue.counted >= max_waiting:
                    raise TooManyWaiting(
                        f"{self.wait_queue.counted} callers of {self.service} wait already, "
                        f"and max_waiting is {max_waiting}"
                    )
                self.wait_queue.count(waiter)
            self.look_again_at(self.schedule.next_due(self.now(), True, self._loose))
        return Outcome.QUEUED

    def attempt(self, waiter: Waiter, patience: float) -> Flow[bool]:
        """Take a lease for ``waiter`` if it is the first of its line. True: it has got one."""
        with self.lock:
            self.look_again_at(self.schedule.next_due(self.now(), bool(self.wait_queue.counted), self._loose))
            waiter.hopes = patience > 0
            if waiter.served:
                return True
            first = waiter.group is not None and waiter.group.first is waiter
            take = self.take_for(waiter, offered=False) if first else None
        if take is None:
            self.drain()  # whoever asks does it on the way
            if patience:
                self.courier.ensure()
            return False
        try:
            # A script that looks at many accounts takes its time.
            limit = answer_within(patience) + len(take.accounts or ()) * _LOOK
            reply: Reply = yield from self.exchange(take, patience, limit)
            if reply.hope:
                self._hope_for = waiter.slot_request.alike, time.monotonic() + SEEN_FOR
            got = self.settle(waiter, take, reply.result)
        except BaseException:
            self.later(Release(take.key))  # nobody knows whether it was granted
            self.courier.retell()
            raise
        if patience and not got:
            self.courier.ensure()
        return got

    def take_for(self, waiter: Waiter, *, offered: bool) -> Acquire:
        """Return the operation that takes a lease for ``waiter`` (under the lock)."""
        slot_request = waiter.slot_request
        accounts = None if slot_request.accounts is None else shuffled(slot_request.accounts, self.draw)
        return Acquire(
            key=self.lease_id(waiter.record.key),
            draw=slot_request.draw,
            accounts=accounts,
            max_jobs=slot_request.max_jobs,
            scope=slot_request.scope,
            label=waiter.record.label,
            offered=offered,
            then_wants=self.wants(without=waiter),
            else_wants=self.wants(),
        )

    def settle(self, waiter: Waiter, take: Acquire, granted: Granted | None) -> bool:
        """Put the answer to a Take into effect. True: the waiter has got its lease."""
        self._unsure.discard(take.key)
        self._wanted = self._wanted or (take.then_wants if granted else take.else_wants) is not None
        got = granted is not None and self._hand_over(waiter, granted)
        self.check_wants(take.else_wants if granted is None else take.then_wants)
        return got

    def wonder(self, waiter: Waiter) -> None:
        """Take in that the courier's Take for ``waiter`` was not answered."""
        key = self.lease_id(waiter.record.key)
        with self.lock:
            if waiter.record.state is not NEW:
                return
            if waiter in self.wait_queue.waiters:
                self._unsure.add(key)  # asking again tells; if it goes, it has to be given back
                return
        self.later(Release(key))

    def wants(self, *, without: Waiter | None = None) -> Wanted | None:
        """Return what the callers of this process wait for, but for one of them (under the lock).

        Who is just having a try does not wait: a slot that was reserved for it would be missing elsewhere.
        """
        deaf, wanted = self.courier.deaf, set[str]()
        for line in self._waiting(without):
            accounts = line.alike[0]
            if not (deaf and vague(line)):
                if accounts is None or len(accounts) > MOST_WANTED:
                    return ()
                wanted |= accounts
        if len(wanted) > MOST_WANTED and not deaf:
            return ()
        return tuple(sorted(wanted)[:MOST_WANTED]) or None

    def tell_wants(self, wants: Wanted | None) -> None:
        """Have the store told what this process waits for, in a thread that may block."""
        drive(self.ask(SetWanted(wants), limit=self.worker_limit))
        with self.lock:
            self._wanted = wants is not None

    def _waiting(self, without: Waiter | None) -> Iterator[WaiterGroup]:
        for line in self.wait_queue.groups():
            others = len(line) - (without is not None and without.group is line)
            if others > 1 or (others and (line.first.hopes or line.first is without)):
                yield line

    def check_wants(self, said: Wanted | None) -> None:
        """Have the store told if it now holds what was ``said`` for what we want.

        Several threads ask at once, and the last to be heard may be one that spoke before others came.
        """
        with self.lock:
            right = self.wants() == said
        if not right:
            self.courier.retell()

    def _hand_over(self, waiter: Waiter, granted: Granted) -> bool:
        """Give ``waiter`` what was granted, unless it has gone; then the slot is given back."""
        record = waiter.record
        with self.lock:
            if record.state is not NEW:
                return waiter.served
            here = waiter in self.wait_queue.waiters
            if here:
                self.to_wake.append(waiter)  # first: who is out of line and not told would sleep for ever
                self.mine[record.key] = record
                record.account_state, record.held_since, record.state = (
                    self._tally(granted.account),
                    self.now(),
                    HELD,
                )
                self.totals.acquired += 1
                self.totals.count_wait(record.held_since - waiter.begun)
                self.barred = False
                self.wait_queue.leave(waiter)
        if here:
            self.flush()  # at once: while it awakes there is time for the rest
            self.courier.ensure()
        else:
            self.later(Release(self.lease_id(record.key)))
        return here

    def hopeless(self, waiter: Waiter) -> Flow[bool]:
        """Whether waiting cannot help ``waiter``. There was hope if there was any a second ago."""
        if waiter.served or (waiter.slot_request.alike == ANY and time.monotonic() <= self._hope_until):
            return False
        whom, until = self._hope_for
        if waiter.slot_request.alike == whom and time.monotonic() <= until:
            return False
        patience = max(0.0, waiter.deadline - self.now())
        if self.replica:
            look = Inspect(lambda ledger: ledger.hopeless(waiter.slot_request))
            return bool((yield from self.ask(look, patience))) and waiter.record.state is NEW
        seen = self._seen
        if seen is None or time.monotonic() > seen[0] or seen[1].hopeless(waiter.slot_request):
            seen = yield from self._look(patience)
        return seen[1].hopeless(waiter.slot_request) and waiter.record.state is NEW

    def rouse_hopeless(self) -> Flow[None]:
        """Wake the callers for whom, by a look at the store, there is nothing left to wait for."""
        with self.lock:
            requests = {line.alike: line.first.slot_request for line in self.wait_queue.groups()}
        vain = yield from self.inspect(
            lambda ledger: {alike for alike, request in requests.items() if ledger.hopeless(request)},
            patient=False,
        )
        with self.lock:
            for line in self.wait_queue.groups():
                if line.alike in vain:
                    self.to_wake.extend(line.queue)
        self.flush()

    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted is given back."""
        record, key = waiter.record, self.lease_id(waiter.record.key)
        with self.lock:
            line = waiter.group
            led = line is not None and len(line) > 1 and line.first is waiter
            granted = record.state is HELD or key in self._unsure
            if granted:
                self.courier.put(Release(key))  # first: an interruption must not lose it
            self.wait_queue.leave(waiter)
            self._forget(record.key)
            self._unsure.discard(key)
        if granted:
            self.courier.go()
        if led:
            self.courier.look()  # whoever stood behind it is the first now
        if self._wanted and not self.wait_queue.waiters:
            self.courier.retell()
        self.flush()

    # -- looking around --------------------------------------------------------------------------------

    def describe(self) -> str:
        """Return what a repr says of the store, without I/O."""
        return f"{len(self.mine)} held by this process, {len(self.account_states)} accounts"

    def defer_withdrawal(self, waiter: Waiter) -> None:
        """Do nothing: :meth:`withdraw` notes first what is not to be lost."""

    def step(self) -> None:
        """Have the courier look around, and the next caller ask for what may be due."""
        self.look_afresh()
        self.next_housekeeping_at = -math.inf
        self.courier.look()
        self.flush()

    # -- life ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what is still to be sent; connections are closed once no lease is out."""
        self.courier.close()

    def after_fork(self, process: Process) -> None:
        """Start empty in a child: leases, callers and connections are the parent's."""
        super().after_fork(process)
        for record in (*self.mine.values(), *self.detached.values()):
            record.state, record.inherited = ENDED, True
        self.abandoned_leases.clear()
        self.mine, self.account_states = {}, {}
        self.look_afresh()
        self.detached.clear()
        self._unsure, self._wanted, self.due_at, self._loose = set(), False, math.inf, math.inf
        self.courier.abandon()
        self.courier = Courier(self)
        self.fleet = self._fleet_tasks()
        self.backend.after_fork(Owner(process.name, process.host_pid))


def shuffled(ids: Collection[str], draw: Callable[[], float]) -> tuple[str, ...]:
    """Return ``ids`` in random order, each order equally likely (Fisher and Yates)."""
    order = sorted(ids)
    for last in range(len(order) - 1, 0, -1):
        other = int(draw() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return tuple(order)

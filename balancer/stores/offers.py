"""Handing what a shared store offers to a process to the callers who wait in it."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from threading import RLock
from typing import Any

from balancer.rules.operations import Operation
from balancer.stores.backend_client import BackendClient
from balancer.stores.outbox import Outbox
from balancer.stores.process_queue import ProcessQueue, needs_more_than_an_account
from balancer.waiting.drivers import drive
from balancer.waiting.queue import Waiter, WaiterGroup

_LOOK_AGAIN, _LOOK_OFTEN = 5.0, 1.0
"""Seconds after which a process that waits asks even if nobody tells it to: a message may be lost. At most
a third of a lease's life, so that a fleet that only waits is heard. Often, if it waits for what the store
does not offer: other capacities, or scopes."""
_SHORTEST = 0.005
"""Seconds between two looks at what is due: clocks differ, and nobody polls at speed."""
_HOPE_SHARE = 20
"""So many times as long as it took to see whether there is hope nobody asks again."""


class Offers:
    """When to look around, and for whom. Mutable, by the worker's thread.

    Args:
        queue: Who waits in this process.
        client: Knows when something in the store ends by itself.
        outbox: Where others ask to look around.
        lock: Guards the queue.
        now: The pool's clock.
        lease_ttl: Seconds that a fleet may be silent.
        ask: Carries out an operation.
        flush: Wakes and logs what was noted.
    """

    def __init__(
        self,
        queue: ProcessQueue,
        client: BackendClient,
        outbox: Outbox,
        *,
        lock: RLock,
        now: Callable[[], float],
        lease_ttl: float,
        ask: Callable[[Operation], Any],
        flush: Callable[[], None],
    ) -> None:
        self._queue, self._client, self._outbox, self._lock, self._now = queue, client, outbox, lock, now
        self._ask, self._flush = ask, flush
        self._look_at = math.inf
        self._hope_at = self._rest_until = -math.inf
        self._look_again = min(_LOOK_AGAIN, lease_ttl / 3)

    def look_before(self, now: float) -> None:
        """Look around soon enough for somebody who began to wait ``now``."""
        self._look_at = min(self._look_at, now + self._look_again)

    def next_look(self, now: float) -> float:
        """Return when to look around for those who wait."""
        self.look_before(now)
        look_at = min(self._look_at, now + max(_SHORTEST, self._client.due_at - self._now()))
        return min(look_at, self._rest_until) if self._outbox.hope_in_doubt else look_at

    def serve(self, offers: tuple[str, ...]) -> None:
        """Take what there is for those who wait: what was offered, or what is seen by looking around."""
        now = time.monotonic()
        late = now >= self._look_at
        due = late or self._now() >= self._client.due_at
        served = True
        if offers or due or self._outbox.poll:
            served = self._look_around(offers, now, due=due)
        if self._outbox.hope_in_doubt or (late and not served and now >= self._hope_at):
            self._look_for_hope()

    def _look_around(self, offers: tuple[str, ...], now: float, *, due: bool) -> bool:
        """Ask for whom there may be a slot. True: somebody was served, or nobody waits."""
        self._outbox.poll = False
        usable, ready = self._ready(offers)
        if not ready:
            self._look_at = self._client.due_at = math.inf
            if offers:
                self._outbox.request_wanted()
            return True
        often = any(map(needs_more_than_an_account, ready))
        self._look_at = now + (min(_LOOK_OFTEN, self._look_again) if often else self._look_again)
        if due or self._queue.ignores_offers:
            served = self._ask_for_all(ready)
        else:
            served = self._ask_for_one(usable or ready)
        if offers and not served and all(map(needs_more_than_an_account, usable)):
            self._queue.ignore_offers()
        return served

    def _ready(self, offers: tuple[str, ...]) -> tuple[list[WaiterGroup], list[WaiterGroup]]:
        """Return the groups with hopes that may use what was offered, and all of them; oldest first."""
        with self._lock:
            ready = [group for group in self._queue.wait_queue.groups() if group.first.hopes]
        return [group for group in ready if any(map(group.admits, offers))], ready

    def _ask_for_one(self, groups: list[WaiterGroup]) -> bool:
        """Serve one; of those who need as much the store is asked for the first alone.

        An account that is full for one of them is full for all. And every question, however it is answered,
        gives back what is reserved for this process and tells what it waits for: what is free is offered
        anew, here or elsewhere.
        """
        refused = set[tuple[int | None, str | None]]()
        for group in groups:
            needs = group.alike[2:4]
            served = None if needs in refused else self._serve_group(group)
            if served:
                return True
            if served is not None:
                refused.add(needs)
        return False

    def _ask_for_all(self, groups: list[WaiterGroup]) -> bool:
        """Serve whom the store can, whatever it was told and has said: a message may be lost.

        Nobody is asked for whose accounts have all been refused to others who need as much.
        """
        some_served = False
        everywhere, refused = set[tuple[int | None, str | None]](), defaultdict[Any, set[str]](set)
        for group in groups:
            accounts, needs = group.alike[0], group.alike[2:4]
            if needs in everywhere or (accounts is not None and accounts <= refused[needs]):
                continue
            served = self._serve_group(group)
            some_served = some_served or bool(served)
            if served is False and accounts is None:
                everywhere.add(needs)
            elif served is False:
                refused[needs].update(accounts or ())
        return some_served

    def _serve_group(self, group: WaiterGroup) -> bool | None:
        """Ask for the first of a group. None: there is nobody to ask for just now."""
        with self._lock:
            waiter: Waiter | None = group.first if group else None
            if waiter is None or not waiter.hopes:
                return None
            if self._queue.is_outranked(waiter):  # by one who came since the look around began
                self._outbox.poll = True
                return None
            operation = self._queue.begin_asking(waiter, offered=True)
        try:
            granted = self._ask(operation)
            self._queue.on_answer(waiter, operation, granted)
        except BaseException:
            self._queue.on_outcome_unknown(waiter)
            raise
        self._flush()
        return granted is not None

    def _look_for_hope(self) -> None:
        """Wake those who wait in vain, unless it is too soon for another look at the whole store."""
        begun = time.monotonic()
        if begun < self._rest_until:
            return
        self._outbox.hope_in_doubt = False  # first: who doubts from here on has us look again
        try:
            if self._queue.wait_queue.waiters:
                drive(self._queue.wake_hopeless())
        except BaseException:
            self._outbox.hope_in_doubt = True
            raise
        self._rest_until = begun + _HOPE_SHARE * (time.monotonic() - begun)
        self._hope_at = begun + _LOOK_AGAIN

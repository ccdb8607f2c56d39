"""Handing what a shared store offers to a process to the callers who wait in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import RLock
from typing import Any

from balancer.rules.operations import Operation
from balancer.stores.backend_client import BackendClient
from balancer.stores.outbox import Outbox
from balancer.stores.process_queue import ProcessQueue, needs_more_than_an_account
from balancer.waiting.drivers import drive
from balancer.waiting.queue import Turn, Waiter, WaiterGroup

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
        self._hope_at = -math.inf
        self._look_again = min(_LOOK_AGAIN, lease_ttl / 3)

    def look_before(self, now: float) -> None:
        """Look around soon enough for somebody who began to wait ``now``."""
        self._look_at = min(self._look_at, now + self._look_again)

    def next_look(self, now: float) -> float:
        """Return when to look around for those who wait."""
        self.look_before(now)
        return min(self._look_at, now + max(_SHORTEST, self._client.due_at - self._now()))

    def serve(self, offers: tuple[str, ...]) -> None:
        """Take what there is for those who wait: what was offered, or what is seen by looking around."""
        now = time.monotonic()
        due = self._outbox.poll or now >= self._look_at or self._now() >= self._client.due_at
        if not offers and not due:
            return
        self._outbox.poll = False
        usable, ready = self._ready(offers)
        if not ready:
            self._look_at = self._client.due_at = math.inf
            if offers:
                self._outbox.request_wanted()
            return
        late = now >= self._look_at
        often = any(map(needs_more_than_an_account, ready))
        self._look_at = now + (min(_LOOK_OFTEN, self._look_again) if often else self._look_again)
        served = [self._serve_group(group) for group in (usable if usable and not due else ready)]
        if offers and not any(served) and all(map(needs_more_than_an_account, usable)):
            self._queue.ignore_offers()
        if late and not any(served):
            self._look_for_hope()

    def _ready(self, offers: tuple[str, ...]) -> tuple[list[WaiterGroup], list[WaiterGroup]]:
        """Return the groups with hopes that the offers could serve, and all of them; oldest first."""
        wait_queue = self._queue.wait_queue
        with self._lock:
            ready = sorted((group for group in wait_queue.groups() if group.first.hopes), key=_turn)
            served = {id(group) for account in offers for group in wait_queue.groups_for(account)}
            return [group for group in ready if id(group) in served], ready

    def _serve_group(self, group: WaiterGroup) -> bool:
        with self._lock:
            waiter: Waiter | None = group.first if group else None
            if waiter is None or not waiter.hopes:
                return False
            if self._queue.is_outranked(waiter):  # by one who came since the look around began
                self._outbox.poll = True
                return False
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
        begun = time.monotonic()
        if begun >= self._hope_at:
            drive(self._queue.wake_hopeless())
            took = time.monotonic() - begun
            self._hope_at = begun + max(_LOOK_AGAIN, _HOPE_SHARE * took)


def _turn(group: WaiterGroup) -> Turn:
    return group.turn

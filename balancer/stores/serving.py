"""Handing what a shared store offers to a process to the callers who wait in it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from balancer.stores.operations import OFFER_SECONDS
from balancer.waiting.drivers import drive
from balancer.waiting.queue import Turn, Waiter, WaiterGroup

if TYPE_CHECKING:
    from balancer.stores.shared import SharedStore

MOST_WANTED = 32
"""More accounts than these are told to the store as any."""
_LOOK_AGAIN, _LOOK_OFTEN = 5.0, 1.0
"""Seconds after which a process that waits asks even if nobody tells it to: a message may be lost. At most
a third of a lease's life, so that a fleet that only waits is heard. Often, if it waits for what the store
does not offer: other capacities, or scopes."""
_SHORTEST = 0.005
"""Seconds between two looks at what is due: clocks differ, and nobody polls at speed."""
_HOPE_SHARE = 20
"""So many times as long as it took to see whether there is hope nobody asks again."""


class Serving:
    """When to look around, and for whom. Mutable, by the courier's thread but for ``looking``."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self.looking = True
        """Somebody asked to look around."""
        self._look_at = math.inf
        self._hope_at = -math.inf
        self._deaf_until = -math.inf
        self._look_again = min(_LOOK_AGAIN, store.lease_ttl / 3)

    @property
    def deaf(self) -> bool:
        """Whether what is offered was of no use a moment ago, so that others should have it."""
        return time.monotonic() < self._deaf_until

    def look_before(self, now: float) -> None:
        """Look around soon enough for somebody who began to wait ``now``."""
        self._look_at = min(self._look_at, now + self._look_again)

    def next_look(self, now: float) -> float:
        """Return when to look around for those who wait."""
        self.look_before(now)
        return min(self._look_at, now + max(_SHORTEST, self._store.due_at - self._store.now()))

    def serve(self, offers: tuple[str, ...]) -> None:
        """Take what there is for those who wait: what was offered, or what is seen by looking around."""
        now, store = time.monotonic(), self._store
        due = self.looking or now >= self._look_at or store.now() >= store.due_at
        if not offers and not due:
            return
        self.looking = False
        usable, ready = self._ready(offers)
        if not ready:
            self._look_at = store.due_at = math.inf
            if offers:
                store.courier.retell()
            return
        late = now >= self._look_at
        self._look_at = now + (
            min(_LOOK_OFTEN, self._look_again) if any(map(vague, ready)) else self._look_again
        )
        served = [self._serve_line(line) for line in (usable if usable and not due else ready)]
        if offers and not any(served) and all(map(vague, usable)):
            # It is offered to us again and again, and others could use it.
            self._deaf_until = time.monotonic() + OFFER_SECONDS
            store.courier.retell()
        if late and not any(served):
            self._ask_for_hope()

    def _ready(self, offers: tuple[str, ...]) -> tuple[list[WaiterGroup], list[WaiterGroup]]:
        """Return the lines with hopes that the offers could serve, and all of them; oldest first."""
        lines = self._store.wait_queue
        with self._store.lock:
            ready = sorted((line for line in lines.groups() if line.first.hopes), key=_turn)
            served = {id(line) for account in offers for line in lines.groups_for(account)}
            return [line for line in ready if id(line) in served], ready

    def _serve_line(self, line: WaiterGroup) -> bool:
        store = self._store
        with store.lock:
            waiter: Waiter | None = line.first if line else None
            if waiter is None or not waiter.hopes:
                return False
            take = store.take_for(waiter, offered=True)
        try:
            granted = drive(store.ask(take, limit=store.worker_limit))
        except BaseException:
            store.wonder(waiter)
            raise
        store.settle(waiter, take, granted)
        store.flush()
        return granted is not None

    def _ask_for_hope(self) -> None:
        begun = time.monotonic()
        if begun >= self._hope_at:
            drive(self._store.rouse_hopeless())
            took = time.monotonic() - begun
            self._hope_at = begun + max(_LOOK_AGAIN, _HOPE_SHARE * took)


def _turn(line: WaiterGroup) -> Turn:
    return line.turn


def vague(line: WaiterGroup) -> bool:
    """Whether what is offered by account may be of no use to a line: it asks for more than an account."""
    accounts, _, max_jobs, scope, _ = line.alike
    return max_jobs is not None or scope is not None or (accounts is not None and len(accounts) > MOST_WANTED)

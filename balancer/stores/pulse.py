"""Saying to a shared store that a process lives, so that its leases do."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from balancer.rules.operations import Heartbeat, HeartbeatReply, Register
from balancer.waiting.drivers import drive

if TYPE_CHECKING:
    from balancer.stores.shared import SharedStore

_ASKED_FOR = 2.5
"""Seconds for which a roll call is answered: what was granted before may arrive after the first answer."""
_ANSWER_AGAIN = 1.0


class Pulse:
    """When to say so. Mutable: ``beat_at``, which anybody may bring forward; ``away``; what was heard."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self.beat_at = -math.inf
        self.away = False
        """The store could not be asked when it was asked last."""
        self._heard = 0
        self._asked_until = -math.inf

    @property
    def needed(self) -> bool:
        """Whether there are leases or claims to be kept alive, and the store cannot see that by itself."""
        return self._store.backend.beats and bool(self._store.mine or self._store.fleet.claims)

    @property
    def due_at(self) -> float:
        """When to say so next; infinity: there is nothing to keep alive."""
        return self.beat_at if self.needed else math.inf

    def beat(self) -> None:
        """Say that the process lives, if it is time to; bring its leases back if they may be forgotten."""
        store, asked = self._store, self._asked()
        if not self.needed or time.monotonic() < self.beat_at:
            return
        pause = store.lease_ttl / 3
        self.beat_at = time.monotonic() + (min(pause, _ANSWER_AGAIN) if asked else pause)
        beaten: HeartbeatReply = drive(store.ask(Heartbeat(), limit=store.worker_limit))
        store.lose(beaten.ended)
        if beaten.known and not asked:
            return
        records = store.held()
        store.lose(drive(store.ask(Register(records), limit=store.worker_limit)))
        if records and not beaten.known:
            store.note("warning", "leases_registered_again", leases=len(records))
            store.flush()

    def _asked(self) -> bool:
        """Whether the store has called the roll, or may have, a moment ago."""
        heard, now = self._store.backend.roll_calls, time.monotonic()
        if heard != self._heard:
            self._heard, self._asked_until, self.beat_at = heard, now + _ASKED_FOR, -math.inf
        return now < self._asked_until

    def lost(self, error: Exception) -> None:
        """Take in that the store is away: beat as soon as it is back, and warn once."""
        self.beat_at = -math.inf
        if not self.away:
            self.away = True
            self._store.note("warning", "store_away", error=str(error), leases=len(self._store.mine))
            self._store.flush()

    def found(self) -> None:
        """Take in that the store is there."""
        if self.away:
            self.away = False
            self._store.note("warning", "store_back")
            self._store.flush()

"""Saying to a shared store that a process lives, so that its leases do."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from balancer.effect import drive
from balancer.store.operations import Beat, Beaten, Register

if TYPE_CHECKING:
    from balancer.store.shared import SharedStore


class Pulse:
    """When to say so. Mutable: ``beat_at``, which anybody may bring forward, and ``away``."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self.beat_at = -math.inf
        self.away = False
        """The store could not be asked when it was asked last."""

    @property
    def needed(self) -> bool:
        """Whether there are leases to be kept alive, and the store cannot see that by itself."""
        return self._store.backend.beats and bool(self._store.mine)

    def beat(self) -> None:
        """Say that the process lives, if it is time to; bring its leases back if it was forgotten."""
        store = self._store
        if not self.needed or time.monotonic() < self.beat_at:
            return
        self.beat_at = time.monotonic() + store.lease_ttl / 3
        beaten: Beaten = drive(store.ask(Beat()))
        store.lose(beaten.ended)
        if not beaten.known:
            rows = store.held()
            store.lose(drive(store.ask(Register(rows))))
            store.note("warning", "leases_registered_again", leases=len(rows))
            store.flush()

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

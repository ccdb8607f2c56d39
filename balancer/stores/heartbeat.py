"""Saying to a shared store that a process lives, so that its leases do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from balancer.rules.operations import Backend, Heartbeat, HeartbeatReply, Operation, Register
from balancer.stores.held_leases import HeldLeases
from balancer.stores.outbox import Outbox

_ASKED_FOR = 2.5
"""Seconds for which a roll call is answered: what was granted before may arrive after the first answer."""
_ANSWER_AGAIN = 1.0


class Heart:
    """When to say so. Mutable, by the worker's thread alone.

    Args:
        backend: Counts the roll calls.
        held: What is kept alive, and brought back if the store has forgotten it.
        outbox: Where others ask for a heartbeat at once.
        lease_ttl: Seconds that leases live without one.
        claims: Returns how many claims are to be kept alive too.
        ask: Carries out an operation.
        note: Notes an event.
        flush: Logs what was noted.
    """

    def __init__(
        self,
        backend: Backend,
        held: HeldLeases,
        outbox: Outbox,
        *,
        lease_ttl: float,
        claims: Callable[[], int],
        ask: Callable[[Operation], Any],
        note: Callable[..., None],
        flush: Callable[[], None],
    ) -> None:
        self._backend, self._held, self._outbox, self._lease_ttl = backend, held, outbox, lease_ttl
        self._claims, self._ask, self._note, self._flush = claims, ask, note, flush
        self._next_at = -math.inf
        self._away = False
        self._roll_calls = 0
        self._asked_until = -math.inf

    @property
    def needed(self) -> bool:
        """Whether there is something to keep alive, and the store cannot see by itself that we live."""
        return self._backend.beats and bool(self._held.held or self._claims())

    @property
    def due_at(self) -> float:
        """When to say so next; infinity: there is nothing to keep alive."""
        if not self.needed:
            return math.inf
        return -math.inf if self._outbox.heartbeat else self._next_at

    def beat(self) -> None:
        """Say that the process lives, if it is time to; bring its leases back if they may be forgotten."""
        asked = self._was_asked()
        if time.monotonic() < self.due_at:
            return
        self._outbox.heartbeat = False
        pause = self._lease_ttl / 3
        self._next_at = time.monotonic() + (min(pause, _ANSWER_AGAIN) if asked else pause)
        heard: HeartbeatReply = self._ask(Heartbeat())
        self._held.on_ended_elsewhere(heard.ended)
        if not heard.known or asked:
            self._register(forgotten=not heard.known)
        self._flush()

    def _register(self, *, forgotten: bool) -> None:
        leases = self._held.states()
        self._held.on_ended_elsewhere(self._ask(Register(leases)))
        if leases and forgotten:
            self._note("warning", "leases_registered_again", leases=len(leases))

    def _was_asked(self) -> bool:
        """Whether the store has called the roll, or may have, a moment ago."""
        heard, now = self._backend.roll_calls, time.monotonic()
        if heard != self._roll_calls:
            self._roll_calls, self._asked_until, self._next_at = heard, now + _ASKED_FOR, -math.inf
        return now < self._asked_until

    def lost(self, error: Exception) -> None:
        """Take in that the store is away: say so as soon as it is back, and warn once."""
        self._next_at = -math.inf
        if not self._away:
            self._away = True
            self._note("warning", "store_away", error=str(error), leases=len(self._held.held))
            self._flush()

    def found(self) -> None:
        """Take in that the store is there."""
        if self._away:
            self._away = False
            self._note("warning", "store_back")
            self._flush()

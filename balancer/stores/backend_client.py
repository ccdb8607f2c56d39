"""Asking the database of a shared store, and what is taken in of every reply."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from threading import RLock
from typing import Any

from balancer.errors import StoreUnavailable
from balancer.rules.operations import Backend, LimitChange, Operation, Register, Reply, Reported
from balancer.rules.records import LeaseRecord
from balancer.stores.base import ReentrantCall
from balancer.stores.held_leases import HeldLeases
from balancer.stores.outbox import Outbox
from balancer.waiting.drivers import BackendCall, Flow, Sleep
from balancer.waiting.queue import WaitQueue

NOT_NOW = (StoreUnavailable, ReentrantCall)
"""Why something may have to be made up for later: the store is away, or this very thread is asking it."""
PATIENCE = 5.0
"""Seconds for which an operation is tried again while the store is away. One that is there, but busy, is
asked again for as long as the caller has time: its others get on, and so shall we."""
AT_LEAST = 0.6
"""Seconds within which an answer may come however short the caller's timeout is: there is time for another
try, as the connection may have been forgotten on the way, and both take less than two."""
SEEN_FOR = 1.0
"""Seconds for which what was seen is recent enough to tell that there is hope."""
_FOR_ALL = 1.5
"""Seconds, at least, that an answer may take to what is done for all processes."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class BackendClient:
    """One process's way to the database.

    Mutable, under the lock: what the last replies told.

    Args:
        backend: Carries out operations.
        held: The leases of this process, which replies may end.
        outbox: Of the worker, which is woken if a lease that lives was missed.
        wait_queue: Who waits in this process, and may be served earlier than was known.
        lock: Guards the store's state in this process.
        now: The pool's clock.
        catch_up: Reads the table that another process has put in force, within so many seconds.
        reschedule: Has the timekeeper know when the source is to be asked next (under the lock).
        note: Notes an event, to be logged once the lock is free.
        note_limits: Notes what was learned about accounts.
        flush: Logs and wakes what was noted.
    """

    def __init__(
        self,
        backend: Backend,
        held: HeldLeases,
        outbox: Outbox,
        wait_queue: WaitQueue,
        *,
        lock: RLock,
        now: Callable[[], float],
        catch_up: Callable[[float], Flow[None]],
        reschedule: Callable[[], None],
        note: Callable[..., None],
        note_limits: Callable[[Iterable[LimitChange]], None],
        flush: Callable[[], None],
    ) -> None:
        self.backend = backend
        self._held, self._outbox, self._lock, self._now = held, outbox, lock, now
        self._wait_queue, self._catch_up, self._reschedule = wait_queue, catch_up, reschedule
        self._note, self._note_limits, self._flush = note, note_limits, flush
        self.version: int | None = None
        """Of the table that this process goes by; None: it has none yet."""
        self.detached_since = math.inf
        """Since when the oldest bound or ambiguous lease has been so."""
        self.due_at = math.inf
        """When something in the store ends by itself, as far as is known."""
        self.hope_until = -math.inf
        """Until when it is recent that waiting may help somebody: then it may help who takes any account."""
        self._settings_differ = False

    # -- asking ------------------------------------------------------------------------------------

    def ask(self, operation: Operation, patience: float = 0.0, limit: float | None = None) -> Flow[Any]:
        """Return what :meth:`exchange` is answered, but for what every reply tells."""
        return (yield from self.exchange(operation, patience, limit)).result

    def exchange(
        self, operation: Operation, patience: float = 0.0, limit: float | None = None
    ) -> Flow[Reply]:
        """Return what the store answers, trying again for ``patience`` seconds while it is away or busy.

        Args:
            operation: What to ask.
            patience: Seconds, no more than :data:`PATIENCE` of which count while it is away.
            limit: Seconds that one answer may take; None: as long as the caller is patient.

        Raises:
            StoreUnavailable: it stayed away.
        """
        begun, within = time.monotonic(), answer_within(patience) if limit is None else limit
        if self._held.abandoned:
            yield from self._end_abandoned(within)
        if self._outbox.queue:
            self._outbox.ensure_running()  # an interruption may have left it lying
        try:
            reply: Reply = yield BackendCall(self.backend, operation, within)
        except StoreUnavailable as error:
            reply = yield from self._ask_again(operation, error, begun, patience)
        if self.take_in(reply):
            yield from self._catch_up(within)
        self._flush()
        return reply

    def _ask_again(
        self, operation: Operation, trouble: StoreUnavailable, begun: float, patience: float
    ) -> Flow[Reply]:
        pause, end = _FIRST_PAUSE, begun + min(patience, PATIENCE)
        while True:
            now = time.monotonic()
            if is_busy(trouble):  # it has kept us waiting already, and is not away
                pause, end = 0.0, min(begun + patience, now + PATIENCE)
            if (left := end - now - pause) < 0:
                raise trouble
            if pause:
                yield Sleep(pause)
            pause = min(2 * pause or _FIRST_PAUSE, _LONGEST_PAUSE)
            try:
                limit = min(answer_within(left), max(left, _FIRST_PAUSE))
                reply: Reply = yield BackendCall(self.backend, operation, limit)
            except StoreUnavailable as error:
                trouble = error
            else:
                return reply

    def ask_about(
        self,
        record: LeaseRecord | None,
        operation: Operation,
        patience: float = 0.0,
        limit: float | None = None,
    ) -> Flow[Any]:
        """Ask about a held lease; if the store has forgotten it, bring it back and ask again.

        Everything that this process holds is brought back with it: once told, the store counts us as known.
        """
        said = yield from self.ask(operation, patience, limit)
        if record is None or not _is_lost(said):
            return said
        ended = yield from self.ask(Register(self._held.states(record)), patience, limit)
        self._held.on_ended_elsewhere(ended)
        self._flush()
        return said if str(record.key) in ended else (yield from self.ask(operation, patience, limit))

    def call(self, operation: Operation, patience: float = 0.0) -> Any:
        """Carry out an operation in a thread that may block.

        Raises:
            StoreUnavailable: the store stayed away for ``patience`` seconds. One that is busy is waited for.
        """
        pause, end = _FIRST_PAUSE, time.monotonic() + patience
        while True:
            try:
                reply = self.backend.call(operation, max(_FOR_ALL, answer_within(patience)))
                break
            except StoreUnavailable as error:
                if is_busy(error):
                    end = time.monotonic() + PATIENCE
                    continue
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self.take_in(reply)
        self._flush()
        return reply.result

    # -- what every reply tells ------------------------------------------------------------------------

    def take_in(self, reply: Reply) -> bool:
        """Take in what every reply tells. True: another table is in force than this process knows."""
        _, version, due, detached, expired, hope, learned, settings = reply
        waits = bool(self._wait_queue.waiters)
        with self._lock:
            now = self._now()
            self.due_at = math.inf if due is None else now + due
            if detached is not None or waits or self.detached_since != math.inf:
                self.detached_since = math.inf if detached is None else now - detached
                self._reschedule()
            # One of ours: we were missed while the store was away, or we were stopped. But we live.
            missed = expired and [gone for gone in expired if not self._held.on_expired(gone)]
            if hope:
                self.hope_until = time.monotonic() + SEEN_FOR
            behind = self.version is not None and version != self.version
        if missed:
            self._outbox.request_heartbeat()
        if waits:
            self._outbox.call_off()  # who waits may be served earlier than was known
        if learned:
            self._note_limits(learned)
        if settings is not None and not self._settings_differ:
            self._settings_differ = True
            self._note(
                "warning",
                "settings_differ",
                strategy=settings["strategy"],
                lease_ttl=settings["lease_ttl"],
                job_ttl=settings["job_ttl"],
                ambiguous_ttl=settings["ambiguous_ttl"],
            )
        return behind

    # -- leases whose object is gone ---------------------------------------------------------------------

    def _end_abandoned(self, within: float) -> Flow[None]:
        """End them before anything else is asked; if the store does not answer, the worker ends the rest."""
        away = False
        while (record := self._held.first_abandoned()) is not None:
            end = self._held.end_abandoned(record)
            if end is not None and not away:
                try:
                    reply: Reply = yield BackendCall(self.backend, end, within)
                    self.take_in(reply)  # should it be behind, so will it be by the next
                except NOT_NOW:
                    away = True
            if end is not None and away:
                self._outbox.send(end)
            self._held.strike_off(record)


def is_busy(error: BaseException) -> bool:
    """Whether a store is there, and was only used by others all the time."""
    return isinstance(error, StoreUnavailable) and error._busy  # noqa: SLF001  # no user needs to know


def _is_lost(said: object) -> bool:
    """Whether an answer says that the lease is not there."""
    return said in ("lost", False) or (isinstance(said, Reported) and not said.live)


def answer_within(patience: float) -> float:
    """Return the seconds that an answer may take for one so patient: half of them, for the same reason."""
    return max(AT_LEAST, min(patience, PATIENCE) / 2)

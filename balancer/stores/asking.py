"""How a process asks a store that others share, and what it takes in of every reply."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cachetools import LRUCache

from balancer.errors import StoreUnavailable
from balancer.rules.ledger import Ledger
from balancer.rules.operations import (
    Backend,
    Configured,
    EndedLease,
    LeaseState,
    Operation,
    ReadTable,
    Register,
    Release,
    Reply,
)
from balancer.rules.records import BOUND, ENDED, HELD, LeaseRecord
from balancer.stores.base import Store
from balancer.stores.courier import Courier
from balancer.waiting.drivers import BackendCall, Flow, Sleep

PATIENCE = 5.0
"""Seconds for which an operation is tried again while the store is away."""
AT_LEAST = 0.6
"""Seconds within which an answer may come however short the caller's timeout is: there is time for another
try, as the connection may have been forgotten on the way, and both take less than two."""
SEEN_FOR = 1.0
"""Seconds for which what was seen is recent enough to tell that there is hope."""
_FOR_ALL = 1.5
"""Seconds, at least, that an answer may take to what is done for all processes."""
_REMEMBERED = 10_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Asking(Store):
    """A process and the store that it asks."""

    shared = True
    courier: Courier

    def __init__(
        self,
        backend: Backend,
        new_ledger: Callable[[], Ledger],
        draw: Callable[[], float],
        lease_ttl: float,
        **state: Any,
    ) -> None:
        super().__init__(**state)
        self.backend = backend
        self.lease_ttl = lease_ttl
        self._new_ledger, self.draw = new_ledger, draw
        self.abandoned_leases: deque[LeaseRecord] = deque()
        """Records whose lease was garbage collected. A finalizer may only append."""
        self.mine: dict[Any, LeaseRecord] = {}
        """Held leases by key: what is registered again if the store forgets us."""
        self.detached: LRUCache[Any, LeaseRecord] = LRUCache(_REMEMBERED)
        """Bound and ambiguous leases by key: the store keeps them, their handles want to know the end."""
        self._released = 0
        self.due_at = math.inf
        """When something in the store ends by itself, as far as is known."""
        self._loose = math.inf
        self._seen: tuple[float, Ledger] | None = None
        """Until when the last dump is recent, and the dump."""
        self.barred = False
        """The last direct call for a slot came to nothing, and none was had or freed since."""
        self._overruled = False
        """It was warned that the settings of another pool count."""
        self._hope_until = -math.inf
        """Until when it is recent that waiting may help somebody: then it may help whoever takes any."""
        self._hope_for: tuple[object, float] = None, -math.inf
        """Whom it may help beside them, and until when that is recent."""

    @property
    def released(self) -> int:
        """Leases that were ended by this process."""
        return self._released

    def ask(self, operation: Operation, patience: float = 0.0, limit: float | None = None) -> Flow[Any]:
        """Return what :meth:`exchange` is answered, but for what every reply tells."""
        reply: Reply = yield from self.exchange(operation, patience, limit)
        return reply.result

    def exchange(
        self, operation: Operation, patience: float = 0.0, limit: float | None = None
    ) -> Flow[Reply]:
        """Return what the store answers, trying again for ``patience`` seconds while it is away.

        Args:
            operation: What to ask.
            patience: Seconds, no more than :data:`PATIENCE` of which count.
            limit: Seconds that one answer may take; None: as long as the caller is patient.

        Raises:
            StoreUnavailable: it stayed away.
        """
        if self.abandoned_leases:
            yield from self._end_dropped()
        self.courier.mend()
        end = time.monotonic() + min(patience, PATIENCE)
        try:
            reply: Reply = yield BackendCall(self.backend, operation, limit or answer_within(patience))
        except StoreUnavailable as error:
            reply = yield from self._ask_again(operation, error, end)
        if self.heed(reply):
            yield from self._catch_up()
        if self.to_wake or self.events or self.dead_waiters:
            self.flush()
        return reply

    def _ask_again(self, operation: Operation, trouble: StoreUnavailable, end: float) -> Flow[Reply]:
        pause = _FIRST_PAUSE
        while (left := end - time.monotonic() - pause) >= 0:
            yield Sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                limit = min(answer_within(left), max(left, _FIRST_PAUSE))
                reply: Reply = yield BackendCall(self.backend, operation, limit)
            except StoreUnavailable as error:
                trouble = error
            else:
                return reply
        raise trouble

    def ask_for_sure(
        self,
        operation: Operation,
        record: LeaseRecord | None,
        patience: float = 0.0,
        limit: float | None = None,
    ) -> Flow[Any]:
        """Ask about the held lease ``row``; if the store has forgotten it, bring it back and ask again.

        Everything that this process holds is brought back with it: once told, the store counts us as known.
        """
        said = yield from self.ask(operation, patience, limit)
        if record is None or said not in ("lost", False):
            return said
        ended = yield from self.ask(Register(self.held(record)), patience, limit)
        self.lose(ended)
        return (
            said if self.lease_id(record.key) in ended else (yield from self.ask(operation, patience, limit))
        )

    @property
    def worker_limit(self) -> float:
        """Seconds that the worker waits for an answer: so that it is back in time after an outage."""
        return min(PATIENCE, max(AT_LEAST, self.lease_ttl / 6))

    def do(self, operation: Operation, patience: float = 0.0) -> Any:
        """Carry out an operation in a thread that may block. Raises StoreUnavailable."""
        pause, end = _FIRST_PAUSE, time.monotonic() + patience
        while True:
            try:
                reply = self.backend.call(operation, max(_FOR_ALL, answer_within(patience)))
                break
            except StoreUnavailable:
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self.heed(reply)
        self.flush()
        return reply.result

    def look_afresh(self) -> None:
        """Forget what was seen: it may be different now."""
        self._seen, self._hope_until, self._hope_for = None, -math.inf, (None, -math.inf)

    def later(self, operation: Operation, record: LeaseRecord | None = None) -> None:
        """Have the courier carry out an operation as soon as it can, and keep trying."""
        self.courier.send(operation, record)

    def heed(self, reply: Reply) -> bool:
        """Take in what every reply tells. True: another table is in force than this process knows."""
        _, version, due, loose, expired, hope, ruling = reply
        waiters = self.wait_queue.waiters
        with self.lock:
            now, table = self.now(), self.table
            self.due_at = math.inf if due is None else now + due
            if loose is not None or waiters or self._loose != math.inf:
                self._loose = math.inf if loose is None else now - loose
                self.look_again_at(self.schedule.next_due(now, bool(self.wait_queue.counted), self._loose))
            for gone in expired:
                self._take_note(gone)
            if hope:
                self._hope_until = time.monotonic() + SEEN_FOR
            behind = table is not None and version != table.version
        if waiters:
            self.courier.hasten()  # they may be served earlier than was known
        if ruling is not None and not self._overruled:
            self._overruled = True
            self.note(
                "warning",
                "settings_differ",
                strategy=ruling["strategy"],
                lease_ttl=ruling["lease_ttl"],
                job_ttl=ruling["job_ttl"],
                ambiguous_ttl=ruling["ambiguous_ttl"],
            )
        return behind

    def _take_note(self, gone: EndedLease) -> None:
        if gone.state == HELD and gone.key in self.mine:
            # We were missed while the store was away, or we were stopped. But we live, and so do our leases.
            self.courier.hurry()
            return
        self._forget(gone.key)
        self.totals.expired += 1
        self.note("warning", "lease_expired", **_facts(gone))

    def _catch_up(self) -> Flow[None]:
        """Read the table that another process has put in force."""
        try:
            reply: Reply = yield BackendCall(self.backend, ReadTable())
        except StoreUnavailable:
            return  # the next reply tells again
        configured = reply.result
        if isinstance(configured, Configured):
            self.adopt(replace(configured.table, version=configured.version), configured.age)
        else:
            self.note("warning", "store_emptied", leases=len(self.mine))
            self.courier.hurry()
            self.start_over()

    # -- the leases that this process keeps ---------------------------------------------------------

    def held(self, also: LeaseRecord | None = None) -> tuple[LeaseState, ...]:
        """Return what the store is to register again: all that this process holds, and ``also``."""
        with self.lock:
            records = dict(self.mine) if also is None else {**self.mine, also.key: also}
            return tuple(self._lease_state(record) for record in records.values())

    def _lease_state(self, record: LeaseRecord) -> LeaseState:
        return LeaseState(
            key=self.lease_id(record.key),
            account=record.account_state.id,
            state=HELD,
            age=self.now() - record.held_since,
            label=record.label,
            scope=record.scope,
            adverse=record.adverse,
        )

    def lose(self, keys: tuple[str, ...]) -> None:
        """Take in that somebody else has ended these leases on purpose."""
        with self.lock:
            for key in keys:
                record = self.mine.get(key)
                self._forget(key)
                if record is not None:
                    self.note("warning", "lease_lost", **self.facts(record))
        self.flush()

    def learn(self, found: Iterable[tuple[str, str]], ended: Iterable[str]) -> None:
        """Take in what the server's list told of leases: jobs found, and ends (under the lock)."""
        for key, job_id in found:
            if (record := self.detached.get(key)) is not None:
                record.job_id, record.state = job_id, BOUND
        for key in ended:
            self._forget(key)

    def drain(self) -> None:
        """Have the leases ended whose handles were garbage collected."""
        while (record := self._dropped_first()) is not None:
            if (end := self._abandon(record)) is not None:
                self.courier.put(end)
                self.courier.go()
            self._strike_off(record)

    def _end_dropped(self) -> Flow[None]:
        """End the leases whose handles were garbage collected, before anything else is asked."""
        while (record := self._dropped_first()) is not None:
            if (end := self._abandon(record)) is not None:
                try:
                    yield BackendCall(self.backend, end)
                except StoreUnavailable:
                    self.later(end)
            self._strike_off(record)

    def _dropped_first(self) -> LeaseRecord | None:
        try:
            return self.abandoned_leases[0] if self.abandoned_leases else None
        except IndexError:  # another thread was quicker
            return None

    def _strike_off(self, record: LeaseRecord) -> None:
        # Last: an interruption must not lose it. To end it once more does no harm.
        with suppress(ValueError):
            self.abandoned_leases.remove(record)

    def _abandon(self, record: LeaseRecord) -> Release | None:
        """Let go of a dropped lease, and return what ends it; None: its job has it by now."""
        with self.lock:
            if record.state is HELD and self.mine.get(record.key) is record:
                facts = self.facts(record)
                record.state = ENDED  # first: who comes after an interruption goes by it
                self._released += 1
                self.note("warning", "lease_abandoned", **facts)
            if record.state is not ENDED:
                return None
            self._forget(record.key)
            return Release(self.lease_id(record.key))

    def _forget(self, key: object) -> None:
        record = self.mine.pop(key, None) or self.detached.pop(key, None)
        if record is not None:
            record.state = ENDED

    def abandon(self, record: LeaseRecord) -> None:
        """Take note, from a finalizer, of a lease whose object is gone."""
        self.abandoned_leases.append(record)
        if self.wait_queue.waiters:
            self._on_abandoned()


def answer_within(patience: float) -> float:
    """Return the seconds that an answer may take for one so patient: half of them, for the same reason."""
    return max(AT_LEAST, min(patience, PATIENCE) / 2)


def _facts(gone: EndedLease) -> dict[str, Any]:
    return {
        "lease": gone.key,
        "account": gone.account,
        "job_id": gone.job_id,
        "label": gone.label,
        "state": gone.state,
        "held_s": round(gone.age, 3),
    }

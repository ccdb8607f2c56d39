"""Who waits, in what order, for which accounts.

Waiters whose tickets are alike stand in one line: whatever serves one serves all of them, so only
the first of a line is ever looked at. Between lines the order of arrival decides.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from balancer.rules.records import NEW, LeaseRecord, SlotRequest

LONG_WAIT = 60.0
"""Seconds after which a waiting caller is logged, once."""
Alike = tuple[frozenset[str] | None, int | None, str | None]

NO_REQUEST = SlotRequest(LeaseRecord(None), accounts=frozenset())
"""Of a caller that has not said yet what it asks for: no account will do."""


class Waiter(ABC):
    """One caller that waits: what it wants, and how to wake it. Subclasses say how it sleeps."""

    __slots__ = (
        "arrival",
        "begun",
        "counted",
        "hopes",
        "line",
        "patient_until",
        "record",
        "slot_request",
        "table",
        "warn_at",
    )  # fmt: skip

    def __init__(self, record: LeaseRecord) -> None:
        self.record = record
        """The lease that it waits for."""
        self.slot_request = NO_REQUEST
        self.arrival = 0
        self.line: WaiterGroup | None = None
        self.table: object = self
        """The table that its ticket was worked out from; at first none."""
        self.hopes = False
        """It will wait if it is not served at once."""
        self.patient_until = -math.inf
        """By the system's clock: until when it is worth its while to ask a store that is away again."""
        self.counted = False
        """It waits for a slot, and not just for the first configuration."""
        self.begun = 0.0
        """What the pool's clock read when it came."""
        self.warn_at = math.inf
        """When it is to be logged that it has been waiting for long."""

    def begin(self, now: float) -> None:
        """Take note of when the wait began."""
        self.begun, self.warn_at = now, now + LONG_WAIT

    @property
    def served(self) -> bool:
        """Whether it has got its lease."""
        return self.record.state is not NEW

    @abstractmethod
    def wake(self) -> None:
        """Have it look around, from any thread. Raises RuntimeError if nobody is there any more."""

    @abstractmethod
    def nudge(self) -> None:
        """Do as :meth:`wake`, from a finalizer: it waits for no lock, and never raises."""


class WaiterGroup:
    """Waiters whose tickets are alike, in order of arrival."""

    __slots__ = ("alike", "queue")

    def __init__(self, alike: Alike) -> None:
        self.alike = alike
        self.queue: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.queue)

    @property
    def arrival(self) -> int:
        """Arrival of the first in line."""
        return self.first.arrival

    @property
    def first(self) -> Waiter:
        """The first in line."""
        for waiter in self.queue:
            return waiter
        raise LookupError("nobody stands in this line")

    def put(self, waiter: Waiter) -> None:
        """Have ``waiter`` stand where it belongs: nearly always at the end."""
        queue = self.queue
        late = bool(queue) and next(reversed(queue)).arrival > waiter.arrival
        queue[waiter] = None
        if late:
            for each in sorted(queue, key=_arrival):
                queue.move_to_end(each)


class WaitQueue:
    """Every line of one pool, found by the account that could serve it."""

    __slots__ = ("_any", "_arrivals", "_pinned", "_several", "counted", "keeper", "plain", "waiters")

    def __init__(self) -> None:
        self.plain = WaiterGroup((None, None, None))
        """Those who ask for nothing in particular. It is always there, and mostly the only one."""
        self._any: dict[Alike, WaiterGroup] = {}
        """Any account will do, but not in any way."""
        self._pinned: dict[str, dict[Alike, WaiterGroup]] = {}
        self._several: dict[Alike, WaiterGroup] = {}
        self._arrivals = 0
        self.waiters: dict[Waiter, None] = {}
        self.counted = 0
        """How many of them wait for a slot."""
        self.keeper: Waiter | None = None
        """The one waiter that wakes by itself when something is due, on behalf of all."""

    def join(self, waiter: Waiter) -> None:
        """Put ``waiter`` in the line of its ticket; its place is that of its first arrival."""
        if not waiter.arrival:
            self._arrivals += 1
            waiter.arrival = self._arrivals
        self.step_aside(waiter)
        line = waiter.line = self._line(waiter.slot_request.alike)
        self.waiters[waiter] = None
        line.put(waiter)

    def join_plain(self, waiter: Waiter) -> None:
        """Put a new ``waiter`` that asks for nothing in particular, and waits for a slot, in line."""
        self._arrivals = waiter.arrival = self._arrivals + 1
        waiter.line = self.plain
        self.waiters[waiter] = self.plain.queue[waiter] = None
        waiter.counted = True
        self.counted += 1

    def leave_plain(self, waiter: Waiter) -> None:
        """Do as :meth:`leave` for a ``waiter`` in that line that does not keep the time."""
        self.plain.queue.pop(waiter, None)
        waiter.line = None
        if waiter.counted:
            waiter.counted = False
            self.counted -= 1
        self.waiters.pop(waiter, None)

    def step_aside(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of its line, to stand in another one later: it keeps its place in time."""
        line = waiter.line
        if line is not None:
            line.queue.pop(waiter, None)
            if not line.queue and line is not self.plain:
                self._take_down(line)
            waiter.line = None  # last, so that it can be done again after an interruption

    def leave(self, waiter: Waiter) -> None:
        """Take ``waiter`` out, if it is in."""
        self.step_aside(waiter)
        if waiter.counted:
            waiter.counted = False
            self.counted -= 1
        if self.keeper is waiter:
            self.keeper = None
        self.waiters.pop(waiter, None)

    def count(self, waiter: Waiter) -> None:
        """Count ``waiter`` among those who wait for a slot."""
        if not waiter.counted:
            waiter.counted = True
            self.counted += 1

    def sole_first(self) -> Waiter | None:
        """Return the first who waits, if nobody who does asks for anything in particular."""
        if self._any or self._pinned or self._several:
            return None
        return next(iter(self.plain.queue), None)

    def serving(self, account_id: str) -> Iterator[WaiterGroup]:
        """Yield the lines that an account could serve."""
        if self.plain:
            yield self.plain
        yield from self._any.values()
        yield from self._pinned.get(account_id, {}).values()
        for line in self._several.values():
            if account_id in (line.alike[0] or ()):
                yield line

    def all(self) -> Iterator[WaiterGroup]:
        """Yield every line in which somebody stands."""
        if self.plain:
            yield self.plain
        yield from self._any.values()
        for pinned in self._pinned.values():
            yield from pinned.values()
        yield from self._several.values()

    def served_by(self, account_ids: Iterable[str]) -> list[WaiterGroup]:
        """Return the lines that any of several accounts could serve."""
        return list({id(line): line for a in account_ids for line in self.serving(a)}.values())

    def long_waits(self, now: float) -> tuple[list[Waiter], float]:
        """Return those of whom it is to be logged that they wait for long, and when there may be more."""
        late: list[Waiter] = []
        for waiter in self.waiters:
            due = waiter.begun + LONG_WAIT
            if due > now:
                return late, max(due, now + 1.0)  # a crowd is not looked through for each of it
            if waiter.warn_at <= now:
                late.append(waiter)
        return late, now + LONG_WAIT

    def last(self) -> Waiter | None:
        """Return the waiter that joined last."""
        return next(reversed(self.waiters), None)

    def _take_down(self, line: WaiterGroup) -> None:
        accounts = line.alike[0]
        shelf = self._shelf(accounts)
        if shelf.get(line.alike) is line:
            del shelf[line.alike]
        if not shelf and accounts is not None and len(accounts) == 1:
            del self._pinned[next(iter(accounts))]

    def _line(self, alike: Alike) -> WaiterGroup:
        if alike == self.plain.alike:
            return self.plain
        shelf = self._shelf(alike[0])
        line = shelf.get(alike)
        return line if line is not None else shelf.setdefault(alike, WaiterGroup(alike))

    def _shelf(self, accounts: frozenset[str] | None) -> dict[Alike, WaiterGroup]:
        if accounts is None:
            return self._any
        if len(accounts) != 1:
            return self._several
        (account,) = accounts
        return self._pinned.setdefault(account, {})


def _arrival(waiter: Waiter) -> int:
    return waiter.arrival

"""Who waits, in what order, for which accounts.

Waiters whose requests are alike stand in one group: whatever serves one serves all of them, so only the
first of a group is ever looked at. Between groups priority decides, and then the order of arrival. A freed
slot is on one account, so only the groups that may use that account are gone through, in that order, up to
the first that it serves.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

from balancer.errors import TooManyWaiting
from balancer.rules.records import ANY, NEW, Alike, LeaseRecord, SlotRequest

LONG_WAIT = 60.0
"""Seconds after which a waiting caller is logged, once."""
KEEP_AFTER = 5.0
"""Seconds after which an account is kept for the first caller who needs one emptier than others leave it."""

Turn = tuple[int, int]
"""What is smaller is served before: the priority with its sign turned, then the arrival."""

NO_REQUEST = SlotRequest(LeaseRecord(None), accounts=frozenset())
"""Of a caller that has not said yet what it asks for: no account will do."""


class Waiter(ABC):
    """One caller that waits: what it wants, and how to wake it. Subclasses say how it sleeps."""

    __slots__ = (
        "arrival",
        "begun",
        "by_table",
        "counted",
        "deadline",
        "group",
        "hopes",
        "record",
        "slot_request",
        "version",
        "warn_at",
    )

    def __init__(self, record: LeaseRecord, begun: float = 0.0, timeout: float | None = None) -> None:
        self.record = record
        """The lease that it waits for."""
        self.slot_request = NO_REQUEST
        self.arrival = 0
        self.group: WaiterGroup | None = None
        self.by_table = False
        """Its request was worked out from the account table, so that another table needs another request."""
        self.version = -1
        """Of the table that it was worked out from; at first none."""
        self.hopes = False
        """It will wait if it is not served at once."""
        self.counted = False
        """It waits for a slot, and not just for the first configuration."""
        self.begun = begun
        """What the pool's clock read when it came."""
        self.deadline = math.inf if timeout is None else begun + timeout
        """What the pool's clock reads when it will wait no longer."""
        self.warn_at = begun + LONG_WAIT
        """When it is to be logged that it has been waiting for long."""

    @property
    def served(self) -> bool:
        """Whether it has got its lease."""
        return self.record.state is not NEW

    @property
    @abstractmethod
    def asleep(self) -> bool:
        """Whether it sleeps, and nobody has woken it."""

    @property
    def can_sleep(self) -> bool:
        """Whether it may sleep where it is: a thread must not stop the event loop that it runs."""
        return True

    @abstractmethod
    def wake(self) -> None:
        """Have it look around, from any thread. Raises RuntimeError if nobody is there any more."""

    @abstractmethod
    def park(self, seconds: float | None) -> Any:
        """Sleep until woken, at most ``seconds``: the thread does, or what is returned is awaited."""


class WaiterGroup:
    """Waiters whose requests are alike, in order of arrival."""

    __slots__ = ("alike", "queue", "rank")

    def __init__(self, alike: Alike) -> None:
        self.alike = alike
        self.queue: OrderedDict[Waiter, None] = OrderedDict()
        self.rank: Turn | None = None
        """The turn of its first as the ordered lists have it."""

    def __len__(self) -> int:
        return len(self.queue)

    @property
    def arrival(self) -> int:
        """Arrival of the first."""
        return self.first.arrival

    @property
    def turn(self) -> Turn:
        """What puts the group before or behind others: the priority of all, then the arrival of the first."""
        return -self.alike[4], self.first.arrival

    @property
    def first(self) -> Waiter:
        """The first of the group."""
        for waiter in self.queue:
            return waiter
        raise LookupError("nobody stands in this group")

    def admits(self, account_id: str) -> bool:
        """Whether an account may serve them."""
        return account_id not in self.alike[1] and (self.alike[0] is None or account_id in self.alike[0])

    def put(self, waiter: Waiter) -> None:
        """Have ``waiter`` stand where it belongs: nearly always at the end."""
        queue = self.queue
        late = bool(queue) and next(reversed(queue)).arrival > waiter.arrival
        queue[waiter] = None
        if late:
            for each in sorted(queue, key=_arrival):
                queue.move_to_end(each)


class GroupOrder:
    """Groups in the order of their turns."""

    __slots__ = ("ranked",)

    def __init__(self) -> None:
        self.ranked: list[tuple[Turn, WaiterGroup]] = []

    def __len__(self) -> int:
        return len(self.ranked)

    def __iter__(self) -> Iterator[tuple[Turn, WaiterGroup]]:
        return iter(self.ranked)

    def update(self, group: WaiterGroup) -> None:
        """Have ``group`` where its first puts it; an empty one is taken out."""
        if group.rank is not None:
            place = bisect_left(self.ranked, group.rank, key=itemgetter(0))
            if place < len(self.ranked) and self.ranked[place][1] is group:
                del self.ranked[place]
        group.rank = group.turn if group.queue else None
        if group.rank is not None:
            insort(self.ranked, (group.rank, group), key=itemgetter(0))


class WaitQueue:
    """Everybody who waits in one pool, found by the account that could serve them.

    Mutable, under the lock of the store that it belongs to.
    """

    __slots__ = (
        "_arrivals",
        "_groups",
        "_in_turn",
        "_open",
        "_pinned",
        "counted",
        "own_capacity",
        "plain",
        "waiters",
    )

    def __init__(self) -> None:
        self.plain = WaiterGroup(ANY)
        """Those who ask for nothing in particular. It is always there, and mostly the only one."""
        self._groups: dict[Alike, WaiterGroup] = {}
        """All the others."""
        self._open = GroupOrder()
        """Those of them that are not pinned to one account."""
        self._pinned: dict[str, GroupOrder] = {}
        self._in_turn: list[tuple[Turn, WaiterGroup]] | None = None
        """All of them in order, since somebody asked and until one of them moves."""
        self._arrivals = 0
        self.waiters: dict[Waiter, None] = {}
        self.counted = 0
        """How many of them wait for a slot."""
        self.own_capacity: dict[WaiterGroup, None] = {}
        """The groups that bring a capacity of their own."""

    def join(self, waiter: Waiter) -> None:
        """Put ``waiter`` in the group of its request; its place is that of its first arrival."""
        if not waiter.arrival:
            self._arrivals += 1
            waiter.arrival = self._arrivals
        if waiter.group is not None:
            self.step_aside(waiter)
        alike = waiter.slot_request.alike
        group = waiter.group = self.plain if alike == ANY else self._group(alike)
        self.waiters[waiter] = None
        waiter.record.waiter = waiter
        group.put(waiter)
        if group is not self.plain:
            self._in_turn = None  # before, should this be interrupted; after, should somebody look in between
            self._order(alike).update(group)
            self._in_turn = None

    def step_aside(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of its group, to stand in another one later: it keeps its place in time."""
        group = waiter.group
        if group is not None:
            led = group.rank is not None and group.rank[1] == waiter.arrival
            group.queue.pop(waiter, None)
            if group is not self.plain and (led or not group.queue):
                self._follow(group)
            waiter.group = None  # last, so that it can be done again after an interruption

    def leave(self, waiter: Waiter) -> None:
        """Take ``waiter`` out, if it is in."""
        self.step_aside(waiter)
        if waiter.counted:
            waiter.counted = False
            self.counted -= waiter in self.waiters  # else it was counted and never came to stand here
        self.waiters.pop(waiter, None)
        waiter.record.waiter = None

    def count(self, waiter: Waiter, most: int | None, service: str) -> None:
        """Count ``waiter`` among those who wait for a slot of a service.

        Raises:
            TooManyWaiting: ``most`` wait already.
        """
        if waiter.counted:
            return
        if most is not None and self.counted >= most:
            raise TooManyWaiting(
                f"{self.counted} callers of {service} wait already, and max_waiting is {most}"
            )
        waiter.counted = True
        self.counted += 1

    def rebuild(self) -> None:
        """Put everybody in their groups anew, after a step that was cut short in its middle."""
        standing = [waiter for waiter in self.waiters if waiter.group is not None]
        self.plain.queue.clear()
        self._groups, self._open, self._pinned, self.own_capacity = {}, GroupOrder(), {}, {}
        self._in_turn = None
        for waiter in standing:
            waiter.group = None
            self.join(waiter)
        self.counted = sum(waiter.counted for waiter in self.waiters)

    def groups_for(self, account_id: str) -> Iterable[WaiterGroup]:
        """Return the groups that may want an account, in the order in which they are served."""
        pinned = self._pinned.get(account_id)
        if not self._open.ranked and pinned is None:
            return (self.plain,) if self.plain.queue else ()
        return self._in_order([self._open, *((pinned,) if pinned is not None else ())])

    def groups(self) -> Iterable[WaiterGroup]:
        """Yield every group in which somebody stands, in the order in which they are served.

        Nobody may come or go meanwhile.
        """
        if self._in_turn is None:
            orders = [self._open, *self._pinned.values()]
            self._in_turn = sorted(chain.from_iterable(orders), key=itemgetter(0))
        return self._in_order([self._in_turn])

    def _in_order(self, orders: Sequence[Iterable[tuple[Turn, WaiterGroup]]]) -> Iterable[WaiterGroup]:
        ranked: list[Iterable[tuple[Turn, WaiterGroup]]] = [*orders]
        if self.plain.queue:
            ranked.append(((self.plain.turn, self.plain),))
        return map(itemgetter(1), merge(*ranked, key=itemgetter(0)))

    def first_to_keep_for(self) -> Waiter | None:
        """Return who comes first of those that bring a capacity of their own."""
        first = min(self.own_capacity, key=attrgetter("turn"), default=None)
        return None if first is None else first.first

    def _group(self, alike: Alike) -> WaiterGroup:
        group = self._groups.get(alike)
        if group is None:
            group = self._groups[alike] = WaiterGroup(alike)
            if alike[2] is not None:
                self.own_capacity[group] = None
        return group

    def _order(self, alike: Alike) -> GroupOrder:
        accounts = alike[0]
        if accounts is None or len(accounts) != 1:
            return self._open
        (account,) = accounts
        return self._pinned.setdefault(account, GroupOrder())

    def _follow(self, group: WaiterGroup) -> None:
        """Put a group whose first has gone in its new place, or take it down if it is empty."""
        self._in_turn, order = None, self._order(group.alike)
        order.update(group)
        self._in_turn = None
        if not group.queue:
            self._groups.pop(group.alike, None)
            self.own_capacity.pop(group, None)
            if not order and order is not self._open:
                self._pinned.pop(next(iter(group.alike[0] or ())), None)


def _arrival(waiter: Waiter) -> int:
    return waiter.arrival

"""The straight road: a slot taken or given back in memory while nothing else is going on.

That is all that most calls ever do, so it is written out in full. The two functions do what
``Ledger.take`` and ``Ledger.end`` do in that case; in every other they do nothing, and the caller goes
the way of everybody.

They take no lock, which would cost a quarter of all this. Under a global interpreter lock CPython lets
another thread run, a signal be handled or garbage be collected only where something is called or a loop
goes back, and between ``road.busy`` set and ``road.busy`` cleared nothing is: nobody ever sees them
half done. A debugger or a tracer does run in there, and may let others run; then ``busy`` is the lock,
set and looked at in one statement, and whoever finds it set goes the way of everybody. (One that lets
others run between the instructions of a line would need more; debuggers stop at lines.) So the road is
not opened where that does not hold: on an interpreter without a global lock, or other than CPython.

They close over all that they use, as names of their own cost least to look up.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from math import floor
from typing import TYPE_CHECKING, Any

from balancer.rules.records import ENDED, HELD, Blank, LeaseRecord
from balancer.rules.selection import RandomSelector
from balancer.stores.origin import Origin
from balancer.stores.relay import line_up_at, pass_on_at

if TYPE_CHECKING:
    from balancer.stores.stepping import Stepping


class Road:
    """Who is on the straight road, and whether it may be entered. Mutable, guarded as told above."""

    __slots__ = ("busy", "closed", "next_housekeeping_at")

    def __init__(self) -> None:
        self.busy = False
        """Somebody is on it."""
        self.closed = False
        """The lock is taken, or a step was cut short."""
        self.next_housekeeping_at = -math.inf
        """Until when no housekeeping is due."""

    def close(self) -> None:
        """Let nobody enter, and wait for whoever is on it (under the lock)."""
        self.closed = True  # before the look: who enters does both the other way round
        while self.busy:
            time.sleep(0.0001)  # it is in the hands of a tracer


def passable() -> bool:
    """Whether this interpreter lets a few statements without a call run undisturbed."""
    locked: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return sys.implementation.name == "cpython" and (locked is None or locked())


def open_road(store: Stepping, origin: Origin) -> None:
    """Have ``origin`` take and give back the slots of ``store`` without any detour, if chance decides."""
    if isinstance(store.ledger.selector, RandomSelector) and passable():
        room = store.ledger.selector
        origin.grab = origin.grab_blocking = _grab(store, origin, room)
        origin.line_up = line_up_at(store, room, origin.core.options.max_waiting)
        origin.give_back = origin.give_back_blocking = _give_back(store, room)


def _grab(store: Stepping, origin: Origin, room: RandomSelector) -> Callable[[Any, Mapping[str, Any]], bool]:
    road, draw, clock, serial = store.road, store.draw, store.now, store.serial
    records, account_states, dropped, totals = (
        store.ledger.records,
        room.account_states,
        store.abandoned_leases,
        store.totals,
    )

    def grab(lease: Any, asked: Mapping[str, Any]) -> bool:
        """Grant ``lease`` on any account with room, if that needs no housekeeping."""
        record = Blank()
        record.key = key = serial()
        if asked and (label := asked.get("label")) is not None:
            record.label = label
        lease._origin, lease._record = origin, record  # noqa: SLF001  # a call would cost more than all this
        record.held_since = now = clock()
        size = room.size
        place = floor(draw() * size)
        busy = True
        try:
            busy, road.busy = road.busy, True
            if (
                busy
                or road.closed
                or now >= road.next_housekeeping_at
                or dropped
                or not place < size == room.size
            ):
                return False
            account_state = account_states[place]
            if account_state.cooldowns:
                return False
            record.account_state, record.state = account_state, HELD
            records[key] = account_state.held[key] = record
            account_state.left = left = account_state.left - 1
            if not left:
                room.size = size = size - 1
                account_states[place] = last = account_states[size]
                account_states[size] = account_state
                last.place, account_state.place = place, size
            totals.acquired += 1
            return True
        except BaseException:
            store.mark_inconsistent()
            raise
        finally:
            if not busy:
                road.busy = False

    return grab


def _give_back(store: Stepping, room: RandomSelector) -> Callable[[LeaseRecord], bool]:
    road, waiters = store.road, store.wait_queue.waiters
    records, account_states, pass_on = store.ledger.records, room.account_states, pass_on_at(store)

    def give_back(record: LeaseRecord) -> bool:
        """End a held lease. False: that takes more than this."""
        account_state, key = record.account_state, record.key
        busy = True
        try:
            busy, road.busy = road.busy, True
            left = account_state.left + 1
            # Below 1 it was over its capacity, or drains: there may be more to do than this.
            if (
                left > 0
                and record.state is HELD
                and not (busy or road.closed or waiters or account_state.cooldowns)
            ):
                del records[key], account_state.held[key]
                record.state = ENDED
                account_state.left = left
                if left == 1:
                    size, place = room.size, account_state.place
                    account_states[place] = other = account_states[size]
                    account_states[size] = account_state
                    other.place, account_state.place = place, size
                    room.size = size + 1
                return True
        except BaseException:
            store.mark_inconsistent()
            raise
        finally:
            if not busy:
                road.busy = False
        try:
            return bool(waiters) and pass_on(record)
        finally:
            store.flush()

    return give_back

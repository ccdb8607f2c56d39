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

from balancer.origin import Origin
from balancer.room import RandomRoom
from balancer.store.relay import line_up_at, pass_on_at
from balancer.tally import ENDED, HELD, Blank, Row

if TYPE_CHECKING:
    from balancer.store.stepping import Stepping


class Road:
    """Who is on the straight road, and whether it may be entered. Mutable, guarded as told above."""

    __slots__ = ("busy", "closed", "quiet_until")

    def __init__(self) -> None:
        self.busy = False
        """Somebody is on it."""
        self.closed = False
        """The lock is taken, or a step was cut short."""
        self.quiet_until = -math.inf
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
    if isinstance(store.ledger.room, RandomRoom) and passable():
        room = store.ledger.room
        origin.grab = origin.grab_blocking = _grab(store, origin, room)
        origin.line_up = line_up_at(store, room, origin.core.options.max_waiting)
        origin.give_back = origin.give_back_blocking = _give_back(store, room)


def _grab(store: Stepping, origin: Origin, room: RandomRoom) -> Callable[[Any, Mapping[str, Any]], bool]:
    road, draw, clock, serial = store.road, store.draw, store.now, store.serial
    rows, tallies, dropped, totals = store.ledger.rows, room.tallies, store.dropped, store.totals

    def grab(lease: Any, asked: Mapping[str, Any]) -> bool:
        """Grant ``lease`` on any account with room, if that needs no housekeeping."""
        row = Blank()
        row.key = key = serial()
        if asked and (label := asked.get("label")) is not None:
            row.label = label
        lease._origin, lease._row = origin, row  # noqa: SLF001  # a call would cost more than all this
        row.held_since = now = clock()
        size = room.size
        place = floor(draw() * size)
        busy = True
        try:
            busy, road.busy = road.busy, True
            if busy or road.closed or now >= road.quiet_until or dropped or not place < size == room.size:
                return False
            tally = tallies[place]
            if tally.pauses:
                return False
            row.tally, row.state = tally, HELD
            rows[key] = tally.held[key] = row
            tally.left = left = tally.left - 1
            if not left:
                room.size = size = size - 1
                tallies[place] = last = tallies[size]
                tallies[size] = tally
                last.place, tally.place = place, size
            totals.acquired += 1
            return True
        except BaseException:
            store.tear()
            raise
        finally:
            if not busy:
                road.busy = False

    return grab


def _give_back(store: Stepping, room: RandomRoom) -> Callable[[Row], bool]:
    road, waiters = store.road, store.lines.waiters
    rows, tallies, pass_on = store.ledger.rows, room.tallies, pass_on_at(store)

    def give_back(row: Row) -> bool:
        """End a held lease. False: that takes more than this."""
        tally, key = row.tally, row.key
        busy = True
        try:
            busy, road.busy = road.busy, True
            left = tally.left + 1
            # Below 1 it was over its capacity, or drains: there may be more to do than this.
            if left > 0 and row.state is HELD and not (busy or road.closed or waiters or tally.pauses):
                del rows[key], tally.held[key]
                row.state = ENDED
                tally.left = left
                if left == 1:
                    size, place = room.size, tally.place
                    tallies[place] = other = tallies[size]
                    tallies[size] = tally
                    other.place, tally.place = place, size
                    room.size = size + 1
                return True
        except BaseException:
            store.tear()
            raise
        finally:
            if not busy:
                road.busy = False
        try:
            return bool(waiters) and pass_on(row)
        finally:
            store.flush()

    return give_back

"""The straight road: a slot taken or given back in memory while nothing else is going on.

That is all that most calls ever do, so it is written out in full. The two functions do what
``Ledger.take`` and ``Ledger.end`` do in that case; in every other they do nothing, and the caller goes
the way of everybody.

They close over all that they use, as names of their own cost least to look up. They take the lock by
``for _ in turn``: as under ``with lock``, no interruption can come between the taking and the ``try``,
and it costs two thirds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import TYPE_CHECKING, Any

from balancer.origin import Origin
from balancer.room import RandomRoom
from balancer.tally import ENDED, HELD, NEW, Row

if TYPE_CHECKING:
    from balancer.store.memory import MemoryStore

_new = object.__new__


def open_road(store: MemoryStore, origin: Origin) -> None:
    """Have ``origin`` take and give back the slots of ``store`` without any detour, if chance decides."""
    if isinstance(store.ledger.room, RandomRoom):
        origin.grab = _grab(store, origin, store.ledger.room)
        origin.give_back = _give_back(store, store.ledger.room)


def _grab(store: MemoryStore, origin: Origin, room: RandomRoom) -> Callable[[Any, str | None], bool]:
    turn, leave = iter(store.lock.acquire, False), store.lock.release
    draw, clock, serial = store.draw, store.now, store.serial
    rows, tallies, dropped, totals = store.ledger.rows, room.tallies, store.dropped, store.totals

    def grab(lease: Any, label: str | None) -> bool:
        """Grant ``lease`` on any account with room, if that needs no housekeeping."""
        row = _new(Row)
        row.key = key = serial()
        row.label, row.state = label, NEW
        lease._origin, lease._row = origin, row  # noqa: SLF001  # a call would cost more than all this
        chance, now = draw(), clock()
        for _ in turn:
            try:
                if now >= store.quiet_until or dropped or not tallies:
                    return False
                tally = tallies[floor(chance * len(tallies))]
                if tally.pauses:
                    return False
                row.tally, row.held_since, row.state = tally, now, HELD
                held = tally.held
                rows[key] = held[key] = row
                if len(held) >= tally.limit:
                    room.remove(tally)
                totals.acquired += 1
                return True
            except BaseException:
                store.tear()
                raise
            finally:
                leave()
        return False

    return grab


def _give_back(store: MemoryStore, room: RandomRoom) -> Callable[[Row], bool]:
    turn, leave = iter(store.lock.acquire, False), store.lock.release
    rows, waiters, totals = store.ledger.rows, store.lines.waiters, store.totals

    def give_back(row: Row) -> bool:
        """End a lease. True once."""
        for _ in turn:
            try:
                tally, key = row.tally, row.key
                if row.state is not HELD or waiters or tally.pauses or tally.draining or store.torn:
                    break
                held = tally.held
                del rows[key], held[key]
                row.state = ENDED
                if tally.place < 0 and len(held) < tally.limit:
                    room.add(tally)
                totals.released += 1
                return True
            except BaseException:
                store.tear()
                raise
            finally:
                leave()
        return store.end(row)

    return give_back

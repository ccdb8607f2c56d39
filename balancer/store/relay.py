"""The straight road of those who wait in memory: standing in line, and handing a slot to the first in it.

Where more callers come than there are slots, every lease goes this way. So it is written out in one step
each, for what most of them ask: any account, in a pool that is full and calm. In every other case
the two functions do nothing, and the caller goes the way of everybody: see :mod:`balancer.flow` for
who waits, and ``MemoryStore.release`` for who leaves.

They take the lock by ``for _ in turn``: as under ``with lock``, no signal is seen between the taking and
the ``try``, and it costs two thirds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from balancer.lines import Waiter
from balancer.origin import LineUp
from balancer.tally import ENDED, HELD, Row, Ticket

if TYPE_CHECKING:
    from balancer.room import RandomRoom
    from balancer.store.stepping import Stepping


def line_up_at(store: Stepping, room: RandomRoom, most: int | None) -> LineUp:
    """Return what has a caller stand in line; ``most``: callers that may."""
    turn, leave = iter(store.lock.acquire, False), store.lock.release
    road, draw, clock, lines = store.road, store.draw, store.now, store.lines
    limit = math.inf if most is None else most

    def line_up(waiter: Waiter, timeout: float | None) -> float | None:
        """Have a caller wait who asks for any account. Return until when it may sleep, or None."""
        ticket = Ticket(waiter.row, draw())
        for _ in turn:
            try:
                road.closed = True
                if road.busy:
                    return None
                now = clock()
                until = math.inf if timeout is None else now + timeout
                if store.torn or store.dropped or now >= road.quiet_until or now >= until:
                    return None
                if room.size or not room.tallies or lines.counted >= limit:
                    return None
                likely = room.tallies[0]
                if likely.pauses or not likely.usable:  # there may be nothing to wait for
                    return None
                waiter.begin(now)
                waiter.ticket, waiter.table, waiter.hopes = ticket, store.table, True
                lines.join_plain(waiter)
                if lines.keeper is None:
                    lines.keeper = waiter
                    # Its wait may itself be a reason to look around; and whoever dropped a lease before
                    # there was a keeper could tell nobody.
                    due = -math.inf if store.dropped else min(road.quiet_until, store.other_due(now))
                    store.keeper_until = until = min(until, due, waiter.warn_at)
                return until
            finally:
                road.closed = store.torn
                leave()
        return None

    return line_up


def pass_on_at(store: Stepping) -> Callable[[Row], bool]:
    """Return what ends a lease by handing its slot to the first in line. False: that takes more."""
    turn, leave = iter(store.lock.acquire, False), store.lock.release
    road, clock, lines, rows = store.road, store.now, store.lines, store.ledger.rows

    def pass_on(row: Row) -> bool:
        for _ in turn:
            try:
                road.closed = True
                tally = row.tally
                if (
                    road.busy
                    or row.state is not HELD
                    or tally.left
                    or tally.pauses
                    or store.torn
                    or store.dropped
                ):
                    return False
                heir = lines.sole_first()
                if heir is None:
                    return False
                new = heir.row
                new.tally, new.held_since = tally, clock()
                row.state = ENDED
                del rows[row.key], tally.held[row.key]
                rows[new.key] = tally.held[new.key] = new
                new.state = HELD
                store.hand_over(heir)
                return True
            except BaseException:
                store.tear()
                raise
            finally:
                road.closed = store.torn
                leave()
        return False

    return pass_on

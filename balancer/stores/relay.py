"""The straight road of those who wait in memory: standing in line, and handing a slot to the first in it.

Where more callers come than there are slots, every lease goes this way. So it is written out in one step
each, for what most of them ask: any account, in a pool that is full and calm. In every other case
the two functions do nothing, and the caller goes the way of everybody: see :mod:`balancer.engine.acquire` for
who waits, and ``MemoryStore.release`` for who leaves.

They take the lock by ``for _ in turn``: as under ``with lock``, no signal is seen between the taking and
the ``try``, and it costs two thirds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from balancer.rules.records import ENDED, HELD, LeaseRecord, SlotRequest
from balancer.stores.origin import LineUp
from balancer.waiting.queue import Waiter

if TYPE_CHECKING:
    from balancer.rules.selection import RandomSelector
    from balancer.stores.stepping import Stepping


def line_up_at(store: Stepping, room: RandomSelector, most: int | None) -> LineUp:
    """Return what has a caller stand in line; ``most``: callers that may."""
    turn, leave = iter(store.lock.acquire, False), store.lock.release
    road, draw, clock, lines = store.road, store.draw, store.now, store.wait_queue
    limit = math.inf if most is None else most

    def line_up(waiter: Waiter, timeout: float | None) -> float | None:
        """Have a caller wait who asks for any account. Return until when it may sleep, or None."""
        slot_request = SlotRequest(waiter.record, draw())
        for _ in turn:
            try:
                road.closed = True
                if road.busy:
                    return None
                now = clock()
                until = math.inf if timeout is None else now + timeout
                if (
                    store.inconsistent
                    or store.abandoned_leases
                    or now >= road.next_housekeeping_at
                    or now >= until
                ):
                    return None
                if room.size or not room.account_states or lines.counted >= limit:
                    return None
                likely = room.account_states[0]
                if likely.cooldowns or not likely.usable:  # there may be nothing to wait for
                    return None
                waiter.begin(now)
                waiter.slot_request, waiter.table, waiter.hopes = slot_request, store.table, True
                lines.join_plain(waiter)
                if lines.keeper is None:
                    lines.keeper = waiter
                    # Its wait may itself be a reason to look around; and whoever dropped a lease before
                    # there was a keeper could tell nobody.
                    due = (
                        -math.inf
                        if store.abandoned_leases
                        else min(road.next_housekeeping_at, store.external_deadline(now))
                    )
                    store.keeper_until = until = min(until, due, waiter.warn_at)
                return until
            finally:
                road.closed = store.inconsistent
                leave()
        return None

    return line_up


def pass_on_at(store: Stepping) -> Callable[[LeaseRecord], bool]:
    """Return what ends a lease by handing its slot to the first in line. False: that takes more."""
    turn, leave = iter(store.lock.acquire, False), store.lock.release
    road, clock, lines, records = store.road, store.now, store.wait_queue, store.ledger.records

    def pass_on(record: LeaseRecord) -> bool:
        for _ in turn:
            try:
                road.closed = True
                account_state = record.account_state
                if (
                    road.busy
                    or record.state is not HELD
                    or account_state.left
                    or account_state.cooldowns
                    or store.inconsistent
                    or store.abandoned_leases
                ):
                    return False
                heir = lines.sole_first()
                if heir is None:
                    return False
                new = heir.record
                new.account_state, new.held_since = account_state, clock()
                record.state = ENDED
                del records[record.key], account_state.held[record.key]
                records[new.key] = account_state.held[new.key] = new
                new.state = HELD
                store.hand_over(heir)
                return True
            except BaseException:
                store.mark_inconsistent()
                raise
            finally:
                road.closed = store.inconsistent
                leave()
        return False

    return pass_on

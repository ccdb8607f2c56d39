"""The fast path: a slot taken or given back in memory while nothing else is going on, without the lock.

That is all that most calls ever do, so it is written out in full. The two functions do what
``Ledger.grant`` and ``Ledger.end`` do in that case; in every other they do nothing, and the caller goes
the way of everybody.

They take no lock, which would cost a quarter of all this. Under a global interpreter lock CPython lets
another thread run, a signal be handled or garbage be collected only where something is called or a loop
goes back, and between ``busy`` set and ``busy`` cleared nothing is: nobody ever sees them half done. A
debugger or a tracer does run in there, and may let others run; then ``busy`` is the lock, set and looked
at in one statement, and whoever finds it set goes the way of everybody. (One that lets others run between
the instructions of a line would need more; debuggers stop at lines.) So the path is not opened where that
does not hold: on an interpreter without a global lock, or other than CPython.

They close over all that they use, as names of their own cost least to look up.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sized
from math import floor
from types import CodeType, FunctionType
from typing import Any, cast

from balancer.rules.ledger import Ledger
from balancer.rules.records import ENDED, HELD, LeaseRecord
from balancer.rules.selection import RandomSelector
from balancer.stores.base import ReentrantCall, Totals

Take = Callable[[Any, Any, str | None], bool]
GiveBack = Callable[[LeaseRecord], bool]


class Blank(LeaseRecord):
    """A record that whoever makes it fills in: an ``__init__`` costs as much as making it."""

    __slots__ = ()

    __init__ = object.__init__


class FastPath:
    """Who is on the fast path, and whether it may be entered. Mutable, guarded as told above."""

    __slots__ = ("busy", "closed", "codes", "next_housekeeping_at")

    def __init__(self) -> None:
        self.busy = False
        """Somebody is on it."""
        self.closed = False
        """The lock is taken, or a step was cut short."""
        self.next_housekeeping_at = -math.inf
        """Until when no housekeeping is due."""
        self.codes: tuple[CodeType, ...] = ()
        """The code of its functions."""

    def wait_until_free(self) -> None:
        """Wait for whoever is on it, once it is ``closed`` (under the lock).

        Raises:
            ReentrantCall: it is this very thread, in the hands of a tracer.
        """
        while self.busy:
            if self._is_ours():
                raise ReentrantCall
            time.sleep(0.0001)  # it is in the hands of a tracer

    def _is_ours(self) -> bool:
        frame = sys._getframe()  # noqa: SLF001  # the only way to the callers of this thread
        while (caller := frame.f_back) is not None:
            frame = caller
            if frame.f_code in self.codes and frame.f_locals.get("fast") is self:
                return True
        return False


def passable() -> bool:
    """Whether this interpreter lets a few statements without a call run undisturbed."""
    locked: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return sys.implementation.name == "cpython" and (locked is None or locked())


def open_fast_path(
    fast: FastPath,
    ledger: Ledger,
    *,
    draw: Callable[[], float],
    now: Callable[[], float],
    serial: Callable[[], int],
    deferred: Sized,
    waiters: Sized,
    totals: Totals,
    mark_inconsistent: Callable[[], None],
) -> tuple[Take, GiveBack]:
    """Return what takes and gives back a slot of ``ledger`` without the lock, if chance decides there.

    Args:
        fast: Guards the path.
        ledger: Whose slots they are.
        draw: Random numbers in [0, 1).
        now: Monotonic seconds.
        serial: Numbers for leases.
        deferred: What waits for the next step: while there is anything, nobody enters.
        waiters: Who waits: while anybody does, nothing is given back this way.
        totals: Counts what was granted.
        mark_inconsistent: Told that one of the functions was cut short.
    """
    selector = ledger.selector
    if not isinstance(selector, RandomSelector) or not passable():
        return never, never
    take = _take(fast, ledger, selector, draw, now, serial, deferred, totals, mark_inconsistent)
    give_back = _give_back(fast, ledger, selector, waiters, mark_inconsistent)
    fast.codes = (take.__code__, give_back.__code__)
    return take, give_back


def never(*_: Any) -> bool:
    """Stand where there is no fast path."""
    return False


def _take(  # noqa: PLR0917  # what it closes over, each by its name
    fast: FastPath,
    ledger: Ledger,
    selector: RandomSelector,
    draw: Callable[[], float],
    clock: Callable[[], float],
    serial: Callable[[], int],
    deferred: Sized,
    totals: Totals,
    mark_inconsistent: Callable[[], None],
) -> FunctionType:
    records, states = ledger.records, selector.account_states

    def take(core: Any, lease: Any, label: str | None) -> bool:
        """Grant ``lease`` on any account with room, if that needs no housekeeping."""
        size = selector.size
        if not size:
            return False
        record = Blank()
        record.key = key = serial()
        record.label = label
        lease._core, lease._record = core, record  # noqa: SLF001  # a call would cost more than all this
        record.held_since = now = clock()
        place = floor(draw() * size)
        busy = True
        try:
            busy, fast.busy = fast.busy, True
            if busy or fast.closed or now >= fast.next_housekeeping_at or deferred:
                return False
            if not place < size == selector.size:
                return False
            state = states[place]
            if not state.plain:
                return False
            record.account_state, record.state = state, HELD
            records[key] = state.held[key] = record
            state.left = left = state.left - 1
            if not left:
                selector.size = size = size - 1
                states[place] = last = states[size]
                states[size] = state
                last.place, state.place = place, size
            totals.acquired += 1
            return True
        except BaseException:
            mark_inconsistent()
            raise
        finally:
            if not busy:
                fast.busy = False

    return cast("FunctionType", take)


def _give_back(
    fast: FastPath,
    ledger: Ledger,
    selector: RandomSelector,
    waiters: Sized,
    mark_inconsistent: Callable[[], None],
) -> FunctionType:
    records, states = ledger.records, selector.account_states

    def give_back(record: LeaseRecord) -> bool:
        """End a held lease. False: that takes more than this."""
        if waiters:
            return False
        state, key = record.account_state, record.key
        busy = True
        try:
            busy, fast.busy = fast.busy, True
            left = state.left + 1
            # Below 1 it was over its capacity, or drains: there may be more to do than this.
            if (
                left > 0
                and record.state is HELD
                and record.accepted_job is None
                and not (busy or fast.closed or waiters or not state.plain)
            ):
                del records[key], state.held[key]
                record.state = ENDED
                state.left = left
                if left == 1:
                    size, place = selector.size, state.place
                    states[place] = other = states[size]
                    states[size] = state
                    other.place, state.place = place, size
                    selector.size = size + 1
                return True
        except BaseException:
            mark_inconsistent()
            raise
        finally:
            if not busy:
                fast.busy = False
        return False

    return cast("FunctionType", give_back)

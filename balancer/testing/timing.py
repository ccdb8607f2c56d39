"""How tests time things without sleeping: a clock that moves when it is told to, and a look for rest."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import math
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, Literal, overload

from balancer.async_pool import AsyncAccountPool
from balancer.engine.pool_core import PoolCore
from balancer.pool import AccountPool
from balancer.stores.shared import SharedStore

Wake = Callable[[], object]
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_PAUSE = 0.01
"""Seconds between two looks: a thread that was woken a moment ago has begun to run by the second."""


class ManualClock:
    """A pair of clocks, monotonic and wall, that stand still between two moves.

    Give it to a pool as ``clock=``. Calling it returns monotonic seconds. Safe to use from any
    thread; subscribers run in the thread that moves the clock, outside its lock.
    """

    def __init__(self, start: float = 0.0, *, wall: float | datetime = _EPOCH) -> None:
        """Start at ``start`` monotonic seconds and at ``wall``, epoch seconds or an aware datetime.

        Raises:
            ValueError: one of them is not finite, or ``wall`` has no time zone.
        """
        if isinstance(wall, datetime):
            if wall.tzinfo is None:
                raise ValueError("wall must be an aware datetime")
            wall = wall.timestamp()
        self._lock = threading.Lock()
        self._now = _finite("start", start)
        self._offset = _finite("wall", wall) - self._now
        self._keys = itertools.count()
        self._subscribers: dict[int, Callable[[], Wake | None]] = {}

    def __call__(self) -> float:
        """Return the monotonic reading in seconds."""
        return self._now

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now:g} s>"

    def time(self) -> float:
        """Return the wall reading in seconds since the epoch."""
        with self._lock:
            return self._now + self._offset

    def advance(self, seconds: float) -> None:
        """Move both clocks on by ``seconds``, then call every subscriber.

        Raises:
            ValueError: ``seconds`` is negative or not finite: monotonic time never runs back.
        """
        if _finite("seconds", seconds) < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds:g} s")
        with self._lock:
            self._now += seconds
        self._wake()

    def jump_wall(self, seconds: float) -> None:
        """Move only the wall clock, either way, as a correction of the system's time does.

        Raises:
            ValueError: ``seconds`` is not finite.
        """
        with self._lock:
            self._offset += _finite("seconds", seconds)
        self._wake()

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        """Have ``wake()`` called after each move; return what ends that.

        The object behind a bound method is held weakly: a subscription keeps nothing alive, and
        ends with its object. Functions are held as they are.
        """
        ref = weakref.WeakMethod(wake) if inspect.ismethod(wake) else lambda: wake
        with self._lock:
            key = next(self._keys)
            self._subscribers[key] = ref

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers.pop(key, None)

        return unsubscribe

    def _wake(self) -> None:
        with self._lock:
            subscribers = list(self._subscribers.items())
        for key, ref in subscribers:
            wake = ref()
            if wake is None:
                with self._lock:
                    self._subscribers.pop(key, None)
            else:
                wake()


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return float(value)


@overload
def at_rest(
    pool: AccountPool, *, callers: int | None = ..., landed: bool = ..., timeout: float = ...
) -> Literal[True]: ...
@overload
def at_rest(
    pool: AsyncAccountPool, *, callers: int | None = ..., landed: bool = ..., timeout: float = ...
) -> Coroutine[Any, Any, Literal[True]]: ...
def at_rest(
    pool: AccountPool | AsyncAccountPool,
    *,
    callers: int | None = None,
    landed: bool = True,
    timeout: float = 30.0,
) -> bool | Coroutine[Any, Any, bool]:
    """Wait until everybody in a pool has come to rest; of an ``AsyncAccountPool`` it is awaited.

    Then whoever waits is asleep, nobody is about to be woken, no fetch and no reconciliation is under
    way, and all that was noted is done: leases that were dropped are ended, events logged, and a shared
    store told what there is to tell. Nothing happens any more until somebody calls, a time comes, or
    another process does something. ::

        thread.start()                          # calls pool.acquire()
        at_rest(pool, callers=1)                # it waits in line now
        clock.advance(30)
        at_rest(pool)                           # whoever that woke has looked around

    Args:
        pool: The pool, on any store. It looks, and changes nothing.
        callers: So many have to be asleep, those included who wait for a fetch; None: any number.
        landed: False: a fetch and a reconciliation may still be under way.
        timeout: Real seconds to wait, whatever clock the pool has; 0: look once.

    Returns:
        True.

    Raises:
        TimeoutError: saying what still moved.
    """
    looks = _looks(pool._core, callers, landed, timeout)  # noqa: SLF001  # of one piece with it
    if isinstance(pool, AsyncAccountPool):
        return _awaited(looks)
    for pause in looks:
        time.sleep(pause)
    return True


async def _awaited(looks: Iterator[float]) -> bool:
    for pause in looks:
        await asyncio.sleep(pause)
    return True


def _looks(core: PoolCore, callers: int | None, landed: bool, timeout: float) -> Iterator[float]:
    """Yield how long to pause before the next look, until two in a row have found nothing that moves."""
    end, quiet = time.monotonic() + timeout, 0
    while True:
        moving = list(_moving(core, callers, landed))
        quiet = 0 if moving else quiet + 1
        if quiet == 2 or (quiet and timeout == 0):
            return
        if moving and time.monotonic() >= end:
            raise TimeoutError(f"not at rest after {timeout:g} s: {', '.join(moving)}")
        yield _PAUSE


def _moving(core: PoolCore, callers: int | None, landed: bool) -> Iterator[str]:
    store, refresher = core.store, core.refresher
    inside = {*store.wait_queue.waiters, *refresher.watching}
    asleep = sum(waiter.asleep for waiter in inside)
    if asleep < len(inside):
        yield f"callers awake: {len(inside) - asleep}"
    if callers is not None and asleep != callers:
        yield f"callers asleep: {asleep}, not {callers}"
    if not (_is_free(store.lock) and _is_free(refresher._turn)):  # noqa: SLF001  # likewise
        yield "a step is under way"
    if store.to_wake or store.dead_waiters or store.events or store.deferred:
        yield "something is noted and not yet done"
    if landed and refresher.in_flight:
        yield "a fetch or a reconciliation is under way"
    if landed and refresher.pending is not None and not core.closed:
        yield "the first configuration is about to be in force"
    if isinstance(store, SharedStore):
        yield from _unsent(store)


def _is_free(lock: Any) -> bool:
    if not lock.acquire(timeout=_PAUSE):  # a step is shorter
        return False
    lock.release()
    return True


def _unsent(store: SharedStore) -> Iterator[str]:
    outbox, worker = store.outbox, store.worker
    if store.held.abandoned:
        yield "a lease that was dropped is still to be ended"
    if outbox.queue or worker.sending.locked():
        yield "the store is still to be told something"
    if worker.thread is not None and (outbox.wanted_changed or outbox.poll or outbox.hope_in_doubt):
        yield "the thread to the store is about to look around"

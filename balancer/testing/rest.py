"""Whether everybody in a pool has come to rest, for tests that must not ask too early."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Literal, overload

from balancer.async_pool import AsyncAccountPool
from balancer.engine.pool_core import PoolCore
from balancer.pool import AccountPool
from balancer.stores.shared import SharedStore

_PAUSE = 0.01
"""Seconds between two looks: a thread that was woken a moment ago has begun to run by the second."""


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
    courier = store.courier
    if store.abandoned_leases:
        yield "a lease that was dropped is still to be ended"
    if courier._queue or courier._sending.locked():  # noqa: SLF001  # likewise
        yield "the store is still to be told something"
    if courier._thread is not None and (courier._stale_wants or courier._serving.looking):  # noqa: SLF001
        yield "the thread to the store is about to look around"

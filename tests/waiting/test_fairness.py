"""First come, first served, for those too who need an account emptier than others leave it.

While the first in line cannot use a slot that comes free, those behind it may; but after 5 s one account is
kept for it, so that it is not overtaken for ever.
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from crew import error, in_line, result, start

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool
from balancer.testing import at_rest

KEPT_AFTER = 5.0


@pytest.fixture
def pool(clock):
    """Return a pool with one account of two slots, both taken, and their leases."""
    pool = AccountPool(source={"a": 2}, clock=clock, ttl=1e9, reconcile_every=None)
    pool.refresh()
    return pool, [pool.acquire(), pool.acquire()]


def test_before_five_seconds_a_slot_goes_to_whoever_can_use_it(pool, clock):
    """One whose wish cannot be met holds up nobody, at first."""
    pool, (one, other) = pool
    (strict,) = in_line(pool, 1, max_jobs=1)
    (greedy,) = in_line(pool, 1)
    clock.advance(KEPT_AFTER - 0.1)
    one.release()
    lease = result(greedy)
    assert not strict.done()
    lease.release()
    other.release()
    assert result(strict).release()


def test_after_five_seconds_one_account_is_kept_for_the_first_in_line(pool, clock):
    """It is not filled up again for those behind, nor for newcomers, and nobody calls its slot free."""
    pool, (one, other) = pool
    (strict,) = in_line(pool, 1, max_jobs=1)
    (greedy,) = in_line(pool, 1)
    clock.advance(KEPT_AFTER)
    one.release()
    at_rest(pool)
    assert not greedy.done()
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0, account="a")
    assert pool.stats().free == 0
    other.release()
    lease = result(strict)
    assert result(greedy).account.id == "a"  # beside it there is room again
    assert lease.release()


def test_an_account_that_was_kept_is_kept_no_longer_when_the_caller_has_gone(pool, clock):
    """At rest no waiter could use any free slot, once there is nobody to keep it for."""
    pool, (one, _other) = pool
    (strict,) = in_line(pool, 1, max_jobs=1, timeout=6)
    (greedy,) = in_line(pool, 1)
    clock.advance(KEPT_AFTER)
    one.release()
    at_rest(pool)
    assert not greedy.done()
    clock.advance(1)
    assert isinstance(error(strict), AcquireTimeout)
    assert result(greedy).release()


def test_one_account_only_is_kept(clock):
    """However many such callers stand in line, the other accounts serve those who can use them."""
    pool = AccountPool(source={"a": 2, "b": 2}, clock=clock, ttl=1e9, reconcile_every=None)
    pool.refresh()
    held = [pool.acquire() for _ in range(4)]
    strict = in_line(pool, 3, max_jobs=1)
    greedy = in_line(pool, 2)
    clock.advance(KEPT_AFTER)
    for account in "ab":
        next(lease for lease in held if lease.account.id == account).release()
    at_rest(pool)
    assert [future.done() for future in strict] == [False, False, False]
    assert [future.done() for future in greedy] == [True, False]


def test_who_asks_for_more_than_there_is_for_ever_holds_up_nobody(clock):
    """An account is kept only where the wish can be met: not one that is pinned elsewhere."""
    pool = AccountPool(source={"a": 2, "b": 2}, clock=clock, ttl=1e9, reconcile_every=None)
    pool.refresh()
    held = [pool.acquire(account=id) for id in "aabb"]
    (strict,) = in_line(pool, 1, max_jobs=1, account="b")
    (greedy,) = in_line(pool, 1)
    clock.advance(KEPT_AFTER)
    held[0].release()
    assert result(greedy).account.id == "a"
    assert not strict.done()


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_strict_caller_is_served_beside_greedy_ones(kind):
    """Eight that take whatever there is do not starve one that needs an empty account, in real time."""
    pool = AccountPool(source={"a": 2, "b": 2}, ttl=1e9, reconcile_every=None)
    pool.refresh()
    over = threading.Event()
    work = {"threads": _threads, "tasks": _tasks}[kind]
    crowd = [threading.Thread(target=job) for job in work(pool, over)]
    for member in crowd:
        member.start()
    try:
        time.sleep(0.2)
        begun = time.monotonic()
        strict = start(pool.acquire, max_jobs=1, timeout=15)
        lease = strict.result(20)
        took = time.monotonic() - begun
        lease.release()
    finally:
        over.set()
        for member in crowd:
            member.join()
    assert took < KEPT_AFTER + 3, f"it took {took:.1f} s"
    assert pool.stats().free == 4


def _threads(pool, over):
    def greedy():
        while not over.is_set():
            with pool.acquire(timeout=30):
                time.sleep(0.003)

    return [greedy] * 8


def _tasks(sync, over):
    pool = AsyncAccountPool(pool=sync)

    async def greedy():
        while not over.is_set():
            async with pool.acquire(timeout=30):
                await asyncio.sleep(0.003)

    async def all_of_them():
        await asyncio.gather(*(greedy() for _ in range(8)))

    return [lambda: asyncio.run(all_of_them())]

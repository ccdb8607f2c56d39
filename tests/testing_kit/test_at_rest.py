"""Waiting until everybody in a pool has come to rest."""

import asyncio
import threading

import pytest
from stepping import HeldSource, SteppedLoop, until

from balancer import AccountPool, AsyncAccountPool, PoolClosed
from balancer.testing import ManualClock, at_rest


@pytest.fixture
def pool(store):
    """Return a pool of one slot, closed at the end."""
    with AccountPool(source={"a": 1}, service="flowmusic", store=store) as pool:
        pool.refresh()
        yield pool


def waiting(pool, got):
    """Start a thread that waits for a lease."""

    def wait():
        try:
            got.append(pool.acquire(timeout=30))
        except PoolClosed:
            got.append(None)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


async def waiting_task(pool):
    """Wait for a lease, as a task."""
    return await pool.acquire(timeout=30)


def test_a_pool_that_nobody_uses_is_at_rest(pool):
    """Where nothing moves it says so, on every store."""
    assert at_rest(pool)
    assert at_rest(pool, callers=0)


def test_callers_who_wait_are_counted_once_they_sleep(pool):
    """A thread that waits in line is at rest, and no longer there when it has got its lease."""
    lease, got = pool.acquire(timeout=10), []
    threads = [waiting(pool, got) for _ in range(3)]
    assert at_rest(pool, callers=3)
    assert pool.stats().waiting == 3
    lease.release()
    assert at_rest(pool, callers=2)
    assert len(got) == 1
    pool.close()
    for thread in threads:
        thread.join()
    assert at_rest(pool, callers=0)


def test_a_task_that_waits_is_at_rest(store):
    """The async pool's is awaited, and counts tasks that sleep."""

    async def program():
        async with AsyncAccountPool(source={"a": 1}, service="flowmusic", store=store) as pool:
            lease = await pool.acquire(timeout=10)
            waiter = asyncio.create_task(waiting_task(pool))
            assert await at_rest(pool, callers=1)
            await lease.release()
            assert await at_rest(pool, callers=0)
            await (await waiter).release()

    asyncio.run(program())


def test_a_task_that_was_woken_and_has_not_run_is_not_at_rest():
    """Somebody who is about to look around is named, until the loop has had its turn."""
    pool = AccountPool(source={"a": 1}, reconcile_every=None)
    lease = pool.acquire(timeout=10)
    with SteppedLoop() as loop:
        waiter = loop.create_task(waiting_task(AsyncAccountPool(pool=pool)))
        loop.tick(2)
        at_rest(pool, callers=1, timeout=0)
        pool.close()
        with pytest.raises(TimeoutError, match="awake"):
            at_rest(pool, timeout=0)
        loop.tick(3)
        at_rest(pool, callers=0, timeout=0)
        assert isinstance(waiter.exception(), PoolClosed)
    lease.release()


def test_a_fetch_that_is_under_way_is_no_rest():
    """While a fetch has not landed nothing has come to rest, unless one asks for the sleepers only."""
    source = HeldSource(a=1)
    pool, got = source.hold(AccountPool(source=source, reconcile_every=None)), []
    thread = waiting(pool, got)
    assert at_rest(pool, callers=1, landed=False)
    with pytest.raises(TimeoutError, match="fetch"):
        at_rest(pool, timeout=0.05)
    source.land()
    assert at_rest(pool, callers=0)
    thread.join()
    assert got


def test_a_list_that_is_under_way_is_no_rest():
    """The first configuration is not in force before the first list of jobs is in."""
    source = HeldSource(a=1)
    pool, got = source.hold(AccountPool(source=source)), []
    thread = waiting(pool, got)
    at_rest(pool, callers=1, landed=False)
    source.land()
    at_rest(pool, callers=1, landed=False)
    with pytest.raises(TimeoutError, match="reconciliation"):
        at_rest(pool, timeout=0)
    source.land()
    at_rest(pool, callers=0)
    thread.join()
    assert got


def test_a_lease_that_was_dropped_and_not_ended_is_no_rest():
    """What was noted and waits for the next operation is told."""
    pool = AccountPool(source={"a": 1}, reconcile_every=None)
    lease = pool.acquire(timeout=10)
    at_rest(pool)  # else the fetch that brought the accounts may be about to do what is noted
    del lease
    with pytest.raises(TimeoutError, match="noted"):
        at_rest(pool, timeout=0)
    pool.stats()
    at_rest(pool)


def test_a_moved_clock_is_waited_for():
    """Whoever a move of the clock has woken has looked around by the time it returns."""
    clock = ManualClock()
    pool, got = AccountPool(source={"a": 1}, reconcile_every=None, clock=clock), []
    pool.refresh()
    pool.cool("a", 30)
    thread = waiting(pool, got)
    at_rest(pool, callers=1)
    clock.advance(29)
    at_rest(pool, callers=1)
    assert not got
    clock.advance(1)
    at_rest(pool, callers=0)
    until(lambda: got)
    thread.join()


def test_who_never_comes_is_told_by_number():
    """The error says how many sleep, and how many were to."""
    pool = AccountPool(source={"a": 1}, reconcile_every=None)
    with pytest.raises(TimeoutError, match=r"not at rest after 0\.05 s: callers asleep: 0, not 2"):
        at_rest(pool, callers=2, timeout=0.05)

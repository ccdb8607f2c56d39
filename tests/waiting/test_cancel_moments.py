"""Ends that come from outside: a deadline, a closed coroutine, a closed loop, a crowd in disorder."""

import asyncio
import itertools
import random

import pytest
from stepping import SteppedLoop, at_once, full_pool, in_flight

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool
from balancer.testing import ManualClock, at_rest

MOMENTS = list(itertools.product((0, 1, 2, 3), (0, 1, 2, 3), (True, False)))


async def acquired(pool, **asked):
    """Return a lease, as a coroutine of its own."""
    return await pool.acquire(**asked)


@pytest.mark.parametrize(("timed_out", "released", "timeout_first"), MOMENTS)
def test_wait_for_gives_a_lease_or_an_error_and_never_both(timed_out, released, timeout_first):
    """P-15: whenever the time is up, it is up; a slot handed over in that moment is not lost."""
    with SteppedLoop() as loop:
        sync, pool, holder = full_pool(clock=ManualClock())

        async def bounded():
            return await asyncio.wait_for(pool.acquire(), 5.0)

        task = loop.create_task(bounded())
        loop.tick()
        for tick in range(8):
            strikes = [holder.release] if tick == released else []
            if tick == timed_out:
                strikes.insert(0 if timeout_first else len(strikes), lambda: setattr(loop, "now", 6.0))
            for strike in strikes:
                strike()
            loop.tick()
        assert task.done()
        got = None if task.exception() else task.result()
        assert isinstance(task.exception(), TimeoutError | None)
        assert in_flight(sync) == (got is not None)
        assert at_rest(sync, callers=0)
        if got is not None:
            at_once(got.release())
        assert sync.acquire(timeout=0).release()


def test_a_timeout_that_strikes_while_nothing_is_released_is_never_outlasted():
    """P-15: neither ``wait_for`` nor ``timeout=`` waits a round longer than its time."""
    with SteppedLoop() as loop:
        _, pool, _holder = full_pool(clock=lambda: loop.now)
        tasks = [
            loop.create_task(asyncio.wait_for(acquired(pool, label=None), 5.0)),
            asyncio.ensure_future(pool.acquire(timeout=5.0), loop=loop),
        ]
        loop.tick(2)
        loop.run_on(4.9)
        assert not any(task.done() for task in tasks)
        loop.run_on(0.2)
        assert isinstance(tasks[0].exception(), TimeoutError)
        assert isinstance(tasks[1].exception(), AcquireTimeout)


def test_a_cancellation_of_who_waits_for_wait_for_surfaces():
    """P-15: a cancelled task with a bounded acquire in it is cancelled, not served."""
    with SteppedLoop() as loop:
        sync, pool, holder = full_pool(clock=ManualClock())
        task = loop.create_task(asyncio.wait_for(acquired(pool), 5.0))
        loop.tick(2)
        task.cancel()
        holder.release()  # the hand-over comes while the cancellation is on its way
        loop.tick(6)
        assert task.cancelled()
        assert in_flight(sync) == 0


@pytest.mark.parametrize("served", [False, True])
def test_a_coroutine_that_is_closed_while_it_waits_leaves_the_queue(served):
    """P-1: the end of a loop closes what still waits in it; its place, or its slot, goes on."""
    with SteppedLoop() as loop:
        sync, pool, holder = full_pool(clock=ManualClock())
        waiting = acquired(pool)
        loop.call_soon(waiting.send, None)
        loop.tick()
        if served:
            holder.release()
        waiting.close()
        assert at_rest(sync, callers=0)
        assert in_flight(sync) == (0 if served else 1)
        holder.release()
        assert sync.acquire(timeout=0).release()


def test_a_waiter_whose_loop_was_closed_passes_the_slot_on():
    """P-7, P-16: a slot handed to a task of a loop that is gone goes to the next in line."""
    sync, pool, holder = full_pool(clock=ManualClock())
    with SteppedLoop() as dead:
        lost = acquired(pool)
        dead.call_soon(lost.send, None)
        dead.tick()
    with SteppedLoop() as loop:
        task = asyncio.ensure_future(pool.acquire(), loop=loop)
        loop.tick(2)
        holder.release()
        loop.tick(3)
        assert at_once(task.result().release())
    lost.close()
    assert in_flight(sync) == 0


@pytest.mark.parametrize("told", ["one by one", "all at once"])
def test_a_crowd_whose_loop_was_closed_passes_the_slot_on_to_the_living(told):
    """P-7, P-16: thousands that will never wake hold up nobody, however long their line is."""
    clock = ManualClock()
    sync, pool, holder = full_pool(clock=clock)
    with SteppedLoop() as dead:
        lost = [acquired(pool) for _ in range(2_000)]
        for coroutine in lost:
            dead.call_soon(coroutine.send, None)
        dead.tick()
    with SteppedLoop() as loop:
        task = asyncio.ensure_future(pool.acquire(), loop=loop)
        loop.tick(2)
        if told == "all at once":
            clock.advance(1)
            loop.tick(2)
            assert at_rest(sync, callers=1)
        holder.release()
        loop.tick(3)
        assert at_once(task.result().release())
    for coroutine in lost:
        coroutine.close()
    assert in_flight(sync) == 0
    assert at_rest(sync, callers=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd_that_is_cancelled_at_random_loses_no_slot(seed):
    """P-7, P-12, P-13: thousands of races of cancel, timeout and release on three slots."""
    rng = random.Random(seed)
    with SteppedLoop() as loop:
        clock = ManualClock()
        sync = AccountPool(source={"a": 2, "b": 1}, clock=clock, reconcile_every=None, ttl=1e9)
        sync.refresh()
        pool, tasks, leases = AsyncAccountPool(pool=sync), [], []

        def begin():
            options = rng.choice([{}, {"account": "a"}, {"timeout": 1.0}, {"exclude": ["a"]}])
            tasks.append(asyncio.ensure_future(pool.acquire(**options), loop=loop))

        def cancel():
            if tasks:
                rng.choice(tasks).cancel()

        def release():
            if leases:
                assert leases.pop(rng.randrange(len(leases))).release()

        acts = [begin, begin, cancel, release, release, lambda: clock.advance(0.3), loop.tick, loop.tick]
        for _ in range(2_000):
            rng.choice(acts)()
            for task in [task for task in tasks if task.done()]:
                tasks.remove(task)
                if not task.cancelled() and task.exception() is None:
                    leases.append(SyncLease(task.result()))
            handed = [waiting for waiting in tasks if not waiting.done()]
            assert len(leases) <= in_flight(sync) <= min(3, len(leases) + len(handed))
        for task in tasks:
            task.cancel()
        loop.tick(4)
        leases += [
            SyncLease(task.result()) for task in tasks if not task.cancelled() and not task.exception()
        ]
        assert all(lease.release() for lease in leases)
        assert in_flight(sync) == 0
        assert at_rest(sync, callers=0)
        assert len([sync.acquire(timeout=0) for _ in range(3)]) == 3


class SyncLease:
    """A task's lease whose release is carried out at once."""

    def __init__(self, lease):
        self.lease = lease

    def release(self):
        return at_once(self.lease.release())

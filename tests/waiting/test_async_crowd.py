"""Thousands of tasks that all time out: the work grows with their number, not with its square."""

import asyncio
import sys
from contextlib import nullcontext

import pytest
from stepping import HeldSource, SteppedLoop

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool, BalancerError
from balancer.testing import ManualClock, at_rest

FEW, MANY, CROWD = 500, 1_000, 5_000


class Calls:
    """Counts every call that Python code makes, of functions and of built-in ones."""

    def __init__(self):
        self.made = 0

    def __call__(self, frame, event, arg):
        if event in ("call", "c_call"):
            self.made += 1

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)


def timers(loop):
    """Return a clock on which each waiter sets a timer of its own, and what moves it."""
    return (lambda: loop.now), loop.run_on


def woken(loop):
    """Return a clock that wakes everybody when it is moved, and what moves it."""
    clock = ManualClock()

    def move(seconds):
        clock.advance(seconds)
        loop.tick(8)

    return clock, move


def crowd_for_a_slot(source, pool, loop):
    """Nobody gets a slot: the only one is taken."""
    pool.refresh()
    return pool.acquire(timeout=0)


def crowd_for_a_table(source, pool, loop):
    """Nobody gets a table: the first fetch hangs."""
    source.hold(pool)


def time_out(size, time, prepare, watch=nullcontext):
    """Have ``size`` tasks wait and time out while somebody may watch; return the watch."""
    with SteppedLoop() as loop:
        clock, move = time(loop)
        source = HeldSource(a=1)
        sync = AccountPool(source=source, clock=clock, reconcile_every=None, ttl=1e6)
        pool = AsyncAccountPool(pool=sync)
        held = prepare(source, sync, loop)
        with watch() as watched:
            tasks = [asyncio.ensure_future(pool.acquire(timeout=5), loop=loop) for _ in range(size)]
            loop.tick(3)
            assert at_rest(sync, callers=size, landed=False)
            move(6)
        assert all(isinstance(task.exception(), AcquireTimeout) for task in tasks)
        assert at_rest(sync, callers=0, landed=False)
        assert len(sync.holders()) == (held is not None)
        return watched


@pytest.mark.parametrize("prepare", [crowd_for_a_slot, crowd_for_a_table])
@pytest.mark.parametrize("time", [timers, woken])
def test_a_crowd_that_times_out_costs_in_proportion_to_its_size(time, prepare):
    """P-17, P-30: twice the crowd makes twice the calls, counted and not timed."""
    few, many = (time_out(size, time, prepare, Calls).made for size in (FEW, MANY))
    assert many < MANY / FEW * 1.1 * few


@pytest.mark.parametrize(("time", "prepare"), [(timers, crowd_for_a_slot), (woken, crowd_for_a_table)])
def test_five_thousand_that_time_out_all_hear_of_it(time, prepare):
    """P-17: each gets its error, and nobody is left in the queue."""
    time_out(CROWD, time, prepare)


def test_one_release_wakes_one_of_a_crowd():
    """P-30: two hundred wait, and one slot moves one of them."""
    with SteppedLoop() as loop:
        sync = AccountPool(source={"a": 1}, clock=ManualClock(), reconcile_every=None)
        sync.refresh()
        pool = AsyncAccountPool(pool=sync)
        lease = sync.acquire()
        tasks = [asyncio.ensure_future(pool.acquire(), loop=loop) for _ in range(200)]
        loop.tick(3)
        parked = {waiter for waiter in sync._core.store.wait_queue.waiters if waiter._future is not None}
        assert len(parked) == 200
        lease.release()
        loop.tick(3)
        moved = [waiter for waiter in parked if waiter._future is None]
        assert [task.done() for task in tasks].count(True) == 1
        assert len(moved) <= 2  # and perhaps the one that keeps the time from now on
        for task in tasks:
            task.cancel()
        loop.tick(3)


def test_a_crowd_for_a_table_that_fails_is_told_by_one_request():
    """P-55: a thousand callers, one request, an error for each of them."""
    with SteppedLoop() as loop:
        source = HeldSource(a=1)
        sync = source.hold(AccountPool(source=source, clock=ManualClock(), reconcile_every=None))
        pool = AsyncAccountPool(pool=sync)
        tasks = [asyncio.ensure_future(pool.acquire(), loop=loop) for _ in range(1_000)]
        loop.tick(3)
        assert len(source.asked) == 1
        source.trouble = OSError("away")
        source.land()
        loop.tick(5)
        errors = [task.exception() for task in tasks]
        assert all(isinstance(error, BalancerError) for error in errors)
        assert len({id(error) for error in errors}) == len(errors)  # tracebacks are nobody else's
        assert not source.asked
